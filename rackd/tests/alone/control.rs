//! What `rackd --standalone` is asked over its socket, and boot files over https. Run as root.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use farrier_identity::Identity;
use farrier_identity::ca::Authority;
use rustix::process::Signal;
use serde_json::Value;

use crate::standalone::{Cable, MAC, POOL, inside};

impl Cable {
    fn curl(&self, path: &str) -> Output {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail-with-body", "--max-time", "20", "--unix-socket"]).arg(self.socket());
        curl.arg(format!("http://rackd{path}")).output().unwrap()
    }

    fn socket(&self) -> std::path::PathBuf {
        self.path("data/control/http.sock")
    }

    pub(crate) fn ask(&self, path: &str) -> Vec<Value> {
        let told = self.curl(path);
        assert!(told.status.success(), "{path}: {told:?}");
        serde_json::from_slice(&told.stdout).unwrap()
    }

    fn kinds(&self, path: &str) -> Vec<String> {
        self.ask(path).iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn curl_is_told_on_the_socket_why_a_machine_does_not_boot() {
    let cable = Cable::new();
    let closed = POOL.replace("  pool: { first: 10.78.0.100, last: 10.78.0.199 }\n", "");
    cable.snapshot(&closed);
    let mut rackd = cable.rackd_with(&[]);
    rackd.says();
    assert_eq!(cable.udhcpc_as(&[]), [] as [&str; 0]);
    let log = cable.ask("/log");
    let denied = log.iter().find(|event| event["kind"] == "unknown MAC").unwrap_or_else(|| panic!("{log:?}"));
    assert_eq!((&denied["mac_address"], &denied["machine"]), (&MAC.into(), &"".into()));
    assert_eq!((cable.ask("/leases"), cable.ask("/reservations")), (vec![], vec![]));

    let machine = format!(
        "machines:\n- {{ name: web-1, mac: \"{MAC}\", segment: lab, address: 10.78.0.50, boot: local_disk }}\n"
    );
    cable.snapshot(&format!("{}{machine}", closed.replace("generation: 1", "generation: 2")));
    rackd.send(Signal::HUP);
    rackd.says();
    let ipxe = ["-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000", "-x", "0x4d:69505845"];
    assert_eq!(cable.udhcpc_as(&ipxe), ["10.78.0.50"]);
    let reserved = cable.ask("/reservations");
    let boots = (&reserved[0]["machine"], &reserved[0]["boot"], &reserved[0]["mac_address"]);
    assert_eq!(boots, (&"web-1".into(), &"local_disk".into(), &MAC.into()));
    let leases = cable.ask("/leases");
    assert_eq!((&leases[0]["ip_address"], &leases[0]["kind"]), (&"10.78.0.50".into(), &"reserved".into()));
    assert!(leases[0]["expire_time"].as_str().unwrap().ends_with('Z'), "{leases:?}");
    let trace = cable.kinds(&format!("/trace/{MAC}"));
    for step in ["unknown MAC", "DHCPDISCOVER", "DHCPOFFER", "DHCPREQUEST", "DHCPACK"] {
        assert!(trace.iter().any(|kind| kind == step), "{step}: {trace:?}");
    }
    // Each packet as it was read, with what was decided.
    let acked = cable.ask(&format!("/log?mac={MAC}")).pop().unwrap();
    assert!(acked["detail"].as_str().unwrap().contains("/boot/52-54-00-78-00-01.ipxe"), "{acked}");
    assert_eq!(acked["type"], "dhcp_ack");
    assert_eq!(cable.kinds("/trace/52:54:00:78:00:99"), [] as [&str; 0]);
    for (path, why) in [("/trace/nobody", "expected a MAC address"), ("/log?who=x", "unknown field")] {
        let refused = cable.curl(path);
        assert!(
            !refused.status.success() && String::from_utf8_lossy(&refused.stdout).contains(why),
            "{refused:?}"
        );
    }

    // Nobody else of this host: not even where everybody may look at the directory above.
    std::fs::set_permissions(cable.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut stranger = Command::new("setpriv");
    stranger.args(["--reuid=65534", "--regid=65534", "--clear-groups", "curl", "-sS", "--unix-socket"]);
    let stranger = stranger.arg(cable.socket()).arg("http://rackd/leases").output().unwrap();
    assert!(!stranger.status.success() && stranger.stdout.is_empty(), "{stranger:?}");
    rackd.send(Signal::KILL);
    drop(rackd);
    // What it left of its socket is in nobody's way.
    let mut rackd = cable.rackd_with(&[]);
    rackd.says();
    assert_eq!(cable.ask("/reservations").len(), 1);
}

#[test]
fn firmware_is_sent_to_https_where_the_snapshot_has_a_certificate() {
    let cable = Cable::new();
    let files = cable.path("files");
    std::fs::create_dir_all(&files).unwrap();
    std::fs::write(files.join("snponly.efi"), "iPXE").unwrap();
    let (authority, _) = Authority::generate("boot").unwrap();
    let hosts = ["10.78.0.1".to_owned()];
    let issued = authority.issue(&Identity::Rack("r1".into()), &hosts, Duration::from_secs(3600)).unwrap();
    let authority = authority.cert_pem().to_owned();
    for (name, text) in [("cert", &issued.cert_pem), ("key", &issued.key_pem), ("ca", &authority)] {
        std::fs::write(cable.path(name), text).unwrap();
    }
    let (certificate, key) = (cable.path("cert"), cable.path("key"));
    let (certificate, key) = (certificate.display(), key.display());
    let linux = format!(
        "machines:\n- name: web-1\n  mac: {MAC}\n  segment: lab\n  address: 10.78.0.50\n  \
         boot: {{ linux: {{ kernel: k, initrd: k }} }}\nartifacts: {{ k: {certificate} }}\n"
    );
    let https = format!("https: {{ listen: \"0.0.0.0:8443\", certificate: {certificate}, key: {key} }}\n");
    cable.snapshot(&format!("{POOL}{linux}{https}"));
    let mut rackd = cable.rackd_with(&["--boot-files", files.to_str().unwrap()]);
    rackd.says();
    let uefi = ["-V", "HTTPClient:Arch:00016:UNDI:003001", "-x", "0x5d:0010", "-O", "bootfile"];
    assert_eq!(cable.udhcpc_as(&uefi), ["10.78.0.50"]);
    let told = std::fs::read_to_string(cable.path("told")).unwrap();
    let url =
        told.lines().find_map(|line| line.split_once("https://")).map(|(_, rest)| format!("https://{rest}"));
    let url = url.unwrap_or_else(|| panic!("{told}"));
    assert_eq!(url, "https://10.78.0.1:8443/firmware/snponly.efi");
    let line = format!("-n {} addr add 10.78.0.50/24 dev c0", cable.client);
    assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success(), "ip {line}");
    let mut curl = inside(&cable.client, Path::new("curl"));
    let read = curl.args(["-sS", "--fail", "--max-time", "20", "--cacert"]).arg(cable.path("ca")).arg(&url);
    let read = read.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&read.stdout), "iPXE", "{read:?}");
    // Without its key it does not fall back to http.
    drop(rackd);
    std::fs::remove_file(cable.path("key")).unwrap();
    let mut command = inside(&cable.server, Path::new(env!("CARGO_BIN_EXE_rackd")));
    command.arg("--standalone").arg(cable.path("rack.yaml")).arg("--data").arg(cable.path("data"));
    let refused = command.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("https"), "{said}");
}
