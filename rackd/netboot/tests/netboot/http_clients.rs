//! curl against scripts and artifacts.

use std::time::Duration;

use farrier_netboot::{Artifact, Boot, Config, EventKind, KernelArgs, Ramdisk};

use crate::lab::{Cable, HTTP_PORT, MAC, Running, SERVER_IP, entry, noise, segment, table, text};
use crate::record::Recording;

fn script() -> Boot {
    Boot::Script(
        Ramdisk {
            kernel: "vmlinuz".parse().unwrap(),
            initrd: "initrd".parse().unwrap(),
            args: KernelArgs::parse("farrier.token=s3cret").unwrap(),
        }
        .into(),
    )
}

fn curl(cable: &Cable, args: &[&str], path: &str) -> (String, Vec<u8>) {
    let url = format!("http://{SERVER_IP}:{HTTP_PORT}{path}");
    let head = cable.path("head").display().to_string();
    let args = [&["-sS", "--path-as-is", "-D", &head, "-o", "-"], args, &[&url]].concat();
    let output = cable.client.client(20, "curl", "curl", &args);
    assert!(output.status.success(), "{}", text(&output));
    (std::fs::read_to_string(&head).unwrap().to_lowercase(), output.stdout)
}

fn given(server: &Running) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let given = async { tokio::time::timeout(Duration::from_secs(5), server.netboot.scripts_given()).await };
    runtime.block_on(given).unwrap().into_iter().collect()
}

#[test]
fn a_script_goes_to_its_own_address_only() {
    let cable = Cable::addressed();
    let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), table(segment(), script()));
    let path = format!("/boot/{}.ipxe", MAC.hyphenated());
    let (head, _) = curl(&cable, &["-I"], &path);
    assert!(head.starts_with("http/1.1 200") && head.contains("content-length: "), "{head}");
    assert!(!server.kinds().contains(&EventKind::HttpScript), "its head is not the script");
    let (head, body) = curl(&cable, &[], &path);
    assert!(head.starts_with("http/1.1 200") && head.contains("cache-control: no-store"), "{head}");
    assert!(String::from_utf8(body).unwrap().contains("farrier.token=s3cret"));
    server.wait(5, |kind| *kind == EventKind::HttpScript);
    assert_eq!(given(&server), ["node-1"], "whoever renews its token is told, whatever becomes of events");
    cable.client.sh("ip addr add 10.77.0.66/24 dev c0");
    let (head, body) = curl(&cable, &["--interface", "10.77.0.66"], &path);
    assert!(head.starts_with("http/1.1 404") && body.is_empty(), "{head}");
    server.wait(5, |kind| *kind == EventKind::HttpScriptRefused);
    for event in server.netboot.trace(MAC) {
        assert!(!format!("{event:?}").contains("s3cret"));
    }
    assert!(!format!("{:?}", server.netboot.table()).contains("s3cret"));
    for other in
        ["/boot/52-54-00-77-00-02.ipxe", "/boot/x.ipxe", "/boot/", "/boot/..%2f..%2fetc%2fpasswd", "/"]
    {
        assert!(curl(&cable, &[], other).0.starts_with("http/1.1 404"), "{other}");
    }
    server.netboot.update(|table| table.publish(entry(Boot::None)));
    assert!(curl(&cable, &[], &path).0.starts_with("http/1.1 404"));
    let refused = server.wait(5, |kind| *kind == EventKind::HttpScriptRefused);
    assert!(refused.detail.contains("nothing to boot: set `boot`"), "{refused:?}");
    server.netboot.update(|table| table.unpublish_mac(MAC));
    let told = |server: &Running| {
        let unknown = |kind: &EventKind| matches!(kind, EventKind::UnknownMac { .. });
        server.kinds().iter().filter(|kind| unknown(kind)).count()
    };
    let before = told(&server);
    for _ in 0..2 {
        assert!(curl(&cable, &[], &path).0.starts_with("http/1.1 404"), "unpublished");
    }
    server.netboot.tell_again(None);
    let already = told(&server);
    assert!(already <= before + 1, "once a minute");
    assert!(curl(&cable, &[], &path).0.starts_with("http/1.1 404"));
    assert_eq!(told(&server), already + 1, "nobody could do anything about it: once more");
}

#[test]
fn artifacts_are_served_whole_in_ranges_and_once() {
    let cable = Cable::addressed();
    let bytes = noise(3_000_017);
    std::fs::write(cable.path("kernel"), &bytes).unwrap();
    let mut table = table(segment(), script());
    table.publish_artifact("vmlinuz".parse().unwrap(), Artifact::File(cable.path("kernel")));
    table.publish_artifact("initrd".parse().unwrap(), Artifact::Bytes(bytes[..1000].to_vec().into()));
    table.publish_artifact("gone".parse().unwrap(), Artifact::File(cable.path("gone")));
    let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), table);
    let recording = Recording::begin("curl-http", &cable.server, "s0");
    let mut tags = Vec::new();
    for (name, bytes) in [("vmlinuz", &bytes[..]), ("initrd", &bytes[..1000])] {
        let path = format!("/artifacts/{name}");
        let (head, body) = curl(&cable, &[], &path);
        assert!(head.starts_with("http/1.1 200") && body == bytes, "{head}");
        assert!(head.contains(&format!("content-length: {}\r", bytes.len())), "{head}");
        let sent = EventKind::HttpArtifact { name: name.into(), bytes: bytes.len() as u64 };
        let event = server.wait(5, |kind| *kind == sent);
        assert_eq!(event.mac, Some(MAC));
        let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();

        let (head, body) = curl(&cable, &["-r", "100-299"], &path);
        assert!(head.starts_with("http/1.1 206") && body == bytes[100..300], "{head}");
        assert!(head.contains(&format!("content-range: bytes 100-299/{}\r", bytes.len())), "{head}");
        let (_, body) = curl(&cable, &["-r", "-10"], &path);
        assert_eq!(body, bytes[bytes.len() - 10..]);
        assert!(curl(&cable, &["-r", "9999999-"], &path).0.starts_with("http/1.1 416"));
        let stale = ["-r", "0-9", "-H", "If-Range: \"other\""];
        assert_eq!(curl(&cable, &stale, &path).1.len(), bytes.len(), "another version: the whole file");
        let (head, body) = curl(&cable, &["-I"], &path);
        assert!(head.contains(&format!("content-length: {}\r", bytes.len())), "{head}");
        assert!(body.starts_with(b"HTTP/1.1 200")); // -I prints the head where the body would be
        let asked = server.wait(5, |kind| *kind == EventKind::HttpAsked { status: 200, name: name.into() });
        assert!(asked.detail.starts_with(&format!("{} bytes", bytes.len())), "{asked:?}");
        assert!(asked.detail.contains("[HEAD") && asked.mac == Some(MAC), "{asked:?}");
        tags.push((path, tag));
    }
    // Tags are of one run.
    recording.end(&server);
    for (path, tag) in tags {
        let known = format!("If-None-Match: {tag}");
        assert!(curl(&cable, &["-H", &known], &path).0.starts_with("http/1.1 304"));
    }
    let told: Vec<_> = server
        .kinds()
        .into_iter()
        .filter(|kind| matches!(kind, EventKind::HttpAsked { status: 304, .. }))
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    let failed = |status, name: &str| EventKind::HttpFailed { status, name: name.into() };
    assert!(curl(&cable, &[], "/artifacts/gone").0.starts_with("http/1.1 500"));
    let gone = server.wait(5, |kind| *kind == failed(500, "gone"));
    assert!(gone.detail.contains("No such file") && gone.mac == Some(MAC), "{gone:?}");
    // Five in a second are told.
    for (path, name) in [("/firmware/absent", "absent"), ("/artifacts/a%0ab", "a?b")] {
        assert!(curl(&cable, &[], path).0.starts_with("http/1.1 404"), "{path}");
        let absent = server.wait(5, |kind| *kind == failed(404, name));
        assert_eq!(absent.node.as_deref(), Some("node-1"), "{absent:?}");
    }
    assert!(server.kinds().contains(&failed(416, "vmlinuz")), "{:?}", server.kinds());
    for other in ["/artifacts/other", "/artifacts/../boot", "/artifacts/..%2fkernel", "/artifacts/%00"] {
        assert!(curl(&cable, &[], other).0.starts_with("http/1.1 40"), "{other}");
    }
}
