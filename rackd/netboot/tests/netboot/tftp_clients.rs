//! curl, tftp-hpa and atftp, byte for byte.

use farrier_netboot::{Boot, BootEntry, Config, EventKind, Segment};

use crate::lab::{Cable, HTTP_PORT, Running, SERVER_IP, noise, segment, table, text};
use crate::record::Recording;

fn serve(cable: &Cable, files: &[(&str, Vec<u8>)]) -> Running {
    let mut config = Config::new(HTTP_PORT);
    for (name, bytes) in files {
        config.files.insert((*name).to_owned(), bytes.clone().into());
    }
    Running::start(&cable.server, config, table(segment(), Boot::None))
}

fn done(server: &mut Running, size: usize) {
    let event = server.wait(5, |kind| matches!(kind, EventKind::TftpDone { .. }));
    let EventKind::TftpDone { bytes, elapsed } = event.kind else { unreachable!() };
    assert_eq!(bytes, size as u64);
    assert_eq!(event.node.as_deref(), Some("node-1"));
    eprintln!("{} bytes in {elapsed:?}", bytes);
}

#[test]
fn curl_reads_files_of_awkward_sizes() {
    let cable = Cable::addressed();
    let files: Vec<_> =
        [1, 511, 512, 513, 1024, 300_001].map(|size| (format!("f{size}"), noise(size))).into();
    let mut server = serve(&cable, &files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect::<Vec<_>>());
    let recording = Recording::begin("curl-tftp", &cable.server, "s0");
    for (name, bytes) in &files {
        for block in ["512", "1468", "8192"] {
            let url = format!("tftp://{SERVER_IP}/{name}");
            let args = ["-sS", "--fail", "--tftp-blksize", block, "-o", "-", &url];
            let output = cable.client.client(20, "curl", "curl", &args);
            assert!(
                output.status.success() && output.stdout == *bytes,
                "{name} {block} {}",
                output.stdout.len()
            );
            let begins = server.wait(5, |kind| *kind == EventKind::TftpStart);
            let agreed = block.parse::<u16>().unwrap().min(1468);
            let told = format!(
                "asked tsize 0 blksize {block} timeout 6, agreed tsize {} blksize {agreed} timeout 6",
                bytes.len()
            );
            assert!(begins.detail.contains(&told), "{} has no {told}", begins.detail);
            done(&mut server, bytes.len());
        }
    }
    recording.end(&server);
}

#[test]
fn tftp_hpa_reads_an_empty_file() {
    // Not curl: it takes `tsize` 0 for an error.
    let cable = Cable::addressed();
    let mut server = serve(&cable, &[("empty", vec![])]);
    let out = cable.path("empty").display().to_string();
    let output =
        cable.client.client(20, "tftp", "tftp-hpa", &["-m", "binary", SERVER_IP, "-c", "get", "empty", &out]);
    assert!(output.status.success() && std::fs::read(&out).unwrap().is_empty(), "{}", text(&output));
    done(&mut server, 0);
}

#[test]
fn tftp_hpa_reads_past_block_65535() {
    let cable = Cable::addressed();
    let bytes = noise(65_600 * 512 + 7);
    let mut server = serve(&cable, &[("big", bytes.clone())]);
    let recording = Recording::begin("tftp-hpa", &cable.server, "s0");
    let out = cable.path("big").display().to_string();
    let output =
        cable.client.client(120, "tftp", "tftp-hpa", &["-m", "binary", SERVER_IP, "-c", "get", "big", &out]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(std::fs::read(&out).unwrap() == bytes);
    done(&mut server, bytes.len());
    recording.end(&server);
}

#[test]
fn atftp_reads_with_large_blocks_and_windows() {
    let cable = Cable::addressed();
    let bytes = noise(1_000_003);
    let mut server = serve(&cable, &[("ipxe.efi", bytes.clone())]);
    let recording = Recording::begin("atftp", &cable.server, "s0");
    let out = cable.path("out").display().to_string();
    for options in [
        &[][..],
        &["blksize 1428"],
        &["windowsize 8"],
        &["blksize 1428", "windowsize 16", "tsize"],
        &["timeout 2"],
    ] {
        let mut args: Vec<&str> = options.iter().flat_map(|option| ["--option", option]).collect();
        args.extend(["-g", "-r", "ipxe.efi", "-l", &out, SERVER_IP]);
        let output = cable.client.client(60, "atftp", "atftp", &args);
        assert!(output.status.success(), "{options:?} {}", text(&output));
        assert!(std::fs::read(&out).unwrap() == bytes, "{options:?}");
        std::fs::remove_file(&out).unwrap();
        done(&mut server, bytes.len());
    }
    recording.end(&server);
}

/// Nothing leaves but from port 69, as where a firewall knows nothing of TFTP: with a port for each transfer, nobody gets
/// anything.
#[test]
fn curl_tftp_hpa_and_atftp_read_through_one_port() {
    let cable = Cable::addressed();
    let bytes = noise(300_001);
    for single in [false, true] {
        let mut config = Config::new(HTTP_PORT);
        config.tftp_single_port = single;
        config.files.insert("f".into(), bytes.clone().into());
        let mut server = Running::start(&cable.server, config, table(segment(), Boot::None));
        if !single {
            cable.server.sh("iptables -A OUTPUT -p udp ! --sport 69 -j DROP");
            let url = format!("tftp://{SERVER_IP}/f");
            let output = cable.client.client(3, "curl", "curl", &["-sS", "-o", "/dev/null", &url]);
            assert!(!output.status.success(), "the firewall lets it pass: {}", text(&output));
            continue;
        }
        let (out, url) = (cable.path("out").display().to_string(), format!("tftp://{SERVER_IP}/f"));
        let clients: [(&str, &str, &[&str]); 4] = [
            ("curl", "curl", &["-sS", "--tftp-blksize", "1428", "-o", &out, &url]),
            ("tftp", "tftp-hpa", &["-m", "binary", SERVER_IP, "-c", "get", "f", &out]),
            ("atftp", "atftp", &["-g", "-r", "f", "-l", &out, SERVER_IP]),
            ("atftp", "atftp", &["--option", "windowsize 8", "-g", "-r", "f", "-l", &out, SERVER_IP]),
        ];
        for (program, package, args) in clients {
            let output = cable.client.client(60, program, package, args);
            assert!(output.status.success(), "{program}: {}", text(&output));
            assert!(std::fs::read(&out).unwrap() == bytes, "{program}");
            std::fs::remove_file(&out).unwrap();
            done(&mut server, bytes.len());
        }
    }
}

/// A link of 1,400 bytes on the way, as under a tunnel: what is larger is cut there, and not forbidden to be.
#[test]
fn curl_reads_whole_blocks_over_a_link_that_is_smaller_than_they_are() {
    let routed = crate::relay::Routed::new();
    routed.near.client.sh("ip link set down0 mtu 1400");
    // And a firewall drops the router's word of it.
    routed.near.server.sh("iptables -A INPUT -p icmp -j DROP");
    routed
        .far
        .client
        .sh("ip link set c0 mtu 1400; ip addr add 10.79.0.50/24 dev c0; ip route add default via 10.79.0.1");
    let behind = Segment {
        behind_relay: Some("10.79.0.0".parse().unwrap()),
        ..Segment::new("far", "", SERVER_IP.parse().unwrap(), 24)
    };
    let bytes = noise(300_001);
    for single in [false, true] {
        let mut config = Config::new(HTTP_PORT);
        config.tftp_single_port = single;
        config.files.insert("f".into(), bytes.clone().into());
        let mut table = table(segment(), Boot::None);
        table.unpublish_mac(crate::lab::MAC);
        table.set_segments(vec![segment(), behind.clone()]);
        table.publish(BootEntry {
            network: "far".into(),
            ip: [10, 79, 0, 50].into(),
            ..crate::lab::entry(Boot::None)
        });
        let mut server = Running::start(&routed.near.server, config, table);
        let url = format!("tftp://{SERVER_IP}/f");
        let args = ["-sS", "--fail", "--tftp-blksize", "1468", "-o", "-", &url];
        let output = routed.far.client.client(30, "curl", "curl", &args);
        assert!(
            output.status.success(),
            "single port: {single}, {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.stdout == bytes);
        let begins = server.wait(5, |kind| *kind == EventKind::TftpStart);
        assert!(begins.detail.contains("agreed tsize 300001 blksize 1468"), "{begins:?}");
        done(&mut server, bytes.len());
    }
}

#[test]
fn what_is_not_served_is_refused_at_once() {
    let cable = Cable::addressed();
    let mut server = serve(&cable, &[("a", noise(9))]);
    for name in ["b", "../../etc/passwd", "/etc/passwd", "a/../a"] {
        let refused = format!("error 1 file not found: {name}, octet mode, tsize 0 blksize 512 timeout 6 (");
        let url = format!("tftp://{SERVER_IP}/{name}");
        let output = cable.client.client(10, "curl", "curl", &["-sS", "--path-as-is", &url]);
        assert_eq!(output.status.code(), Some(68), "{name}: {}", text(&output)); // file not found
        let told = server.wait(5, |kind| *kind == EventKind::TftpRefused);
        assert!(told.detail.starts_with(&refused), "{told:?} is not {refused}");
    }
}

#[test]
fn what_is_no_read_of_bytes_is_refused_and_told() {
    let cable = Cable::addressed();
    let mut server = serve(&cable, &[("a", noise(9))]);
    let upload = cable.path("upload").display().to_string();
    std::fs::write(&upload, "x").unwrap();
    let output =
        cable.client.client(10, "curl", "curl", &["-sS", "-T", &upload, &format!("tftp://{SERVER_IP}/a")]);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output)); // access violation
    let told = server.wait(5, |kind| *kind == EventKind::TftpRefused);
    assert!(told.detail.starts_with("error 2 read only: a write request ("), "{told:?}");
    let output =
        cable.client.client(10, "tftp", "tftp-hpa", &["-m", "ascii", SERVER_IP, "-c", "get", "a", &upload]);
    assert!(text(&output).contains("Error code 4: only octet mode is served"), "{}", text(&output));
    let told = server.wait(5, |kind| *kind == EventKind::TftpRefused);
    assert!(told.detail.starts_with("error 4 only octet mode is served: a, netascii mode ("), "{told:?}");
}

/// One datagram in ten is lost on the way to the machine: the trace says while it goes on that it is slow, and how much was lost
/// when it has ended; not each loss.
#[test]
fn a_transfer_over_a_lossy_cable_says_what_was_sent_again() {
    let cable = Cable::addressed();
    let bytes = noise(1_000_003);
    let mut server = serve(&cable, &[("ipxe.efi", bytes.clone())]);
    cable.client.sh("iptables -A INPUT -p udp -m statistic --mode nth --every 10 --packet 5 -j DROP");
    let out = cable.path("out").display().to_string();
    let options = ["--option", "blksize 1428", "--option", "windowsize 16"];
    let args = [&options[..], &["-g", "-r", "ipxe.efi", "-l", &out, SERVER_IP]].concat();
    let output = cable.client.client(60, "atftp", "atftp", &args);
    assert!(output.status.success(), "{}", text(&output));
    assert!(std::fs::read(&out).unwrap() == bytes);
    let ended = server.wait(5, |kind| matches!(kind, EventKind::TftpDone { .. }));
    assert!(ended.detail.contains(" blocks sent again, from block "), "{ended:?}");
    let told = server.netboot.log().iter().filter(|event| event.kind == EventKind::TftpAgain).count();
    assert!((1..=12).contains(&told), "{told} times");
}

/// Forged requests of a whole subnet, none of which is ever heard of again: the rack is told, and its machine is served.
#[test]
fn when_all_places_are_taken_it_is_told_and_a_known_machine_still_reads() {
    let cable = Cable::addressed();
    let mut server = serve(&cable, &[("program", noise(100_000))]);
    let strangers = (2..=250).filter(|n| *n != 50).map(|n| format!("10.77.0.{n}"));
    let strangers: Vec<String> = strangers.collect();
    let add: Vec<_> = strangers.iter().map(|ip| format!("ip addr add {ip}/32 dev c0")).collect();
    cable.client.sh(&add.join("; "));
    // Nobody says that its ports are closed.
    cable.client.sh("iptables -A OUTPUT -p icmp -j DROP");
    let full = |server: &Running| server.netboot.log().iter().any(|event| event.kind == EventKind::TftpFull);
    let begun = std::time::Instant::now();
    // Some of a flood is lost before anybody reads it.
    while !full(&server) {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "places are not used up");
        cable.client.inside(|| {
            for ip in strangers.iter().flat_map(|ip| std::iter::repeat_n(ip, 8)) {
                let socket = std::net::UdpSocket::bind((ip.as_str(), 0)).unwrap();
                socket.send_to(b"\0\x01program\0octet\0", (SERVER_IP, 69)).unwrap();
            }
        });
    }
    let told = server.wait(10, |kind| *kind == EventKind::TftpFull);
    assert!(told.detail.contains("has to ask again"), "{told:?}");
    let full = server.netboot.log().iter().filter(|event| event.kind == EventKind::TftpFull).count();
    assert_eq!(full, 1, "a flood is one event");
    let url = format!("tftp://{SERVER_IP}/program");
    let args = ["-sS", "--fail", "--interface", crate::lab::CLIENT_IP, "-o", "-", &url];
    let output = cable.client.client(30, "curl", "curl", &args);
    assert!(output.stdout == noise(100_000), "{}", text(&output).len());
}
