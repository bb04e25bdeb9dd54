//! `deploy/README.md`, "A rack without a centre", as it is written: the command, and the snapshot with IPv6, a network of BMCs, a relay
//! and https.

use std::path::Path;
use std::time::Duration;

use farrier_identity::Identity;
use farrier_identity::ca::Authority;

use crate::standalone::{Cable, inside};

const README: &str = include_str!("../../../deploy/README.md");

#[test]
fn the_example_of_a_rack_without_a_centre_serves_its_machine_by_ipv4_and_ipv6() {
    let cable = Cable::new();
    let (server, client) = (&cable.server, &cable.client);
    cable.ip(&[
        format!("-n {server} link set s0 down"),
        format!("-n {server} link set s0 name br0"),
        format!("-n {server} addr flush dev br0"),
        format!("-n {server} addr add 10.90.0.1/24 dev br0"),
        format!("-n {server} link add br1 type bridge"),
        format!("-n {server} addr add 10.0.9.1/24 dev br1"),
        format!("-n {server} link set br1 up"),
        format!("-n {client} link set c0 address 52:54:00:00:00:01"),
        format!("-n {server} link set br0 up"),
        format!("-n {server} addr add 2001:db8:90::1/64 dev br0 nodad"),
    ]);
    let (authority, _) = Authority::generate("boot").unwrap();
    let hosts = ["boot.rack.example".to_owned()];
    let issued = authority.issue(&Identity::Rack("r1".into()), &hosts, Duration::from_secs(3600)).unwrap();
    std::fs::create_dir(cable.path("arm64")).unwrap();
    for (name, text) in [
        ("vmlinuz", "a kernel"),
        ("initrd.img", "a ramdisk"),
        ("arm64/vmlinuz", "a kernel of arm64"),
        ("arm64/initrd.img", "a ramdisk of arm64"),
        ("boot.pem", &issued.cert_pem),
        ("boot.key", &issued.key_pem),
    ] {
        std::fs::write(cable.path(name), text).unwrap();
    }
    let yaml = README.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let here = cable.path("").display().to_string();
    cable.snapshot(&yaml.replace("/srv/boot/", &here).replace("/etc/farrier/", &here));

    let command = README.lines().find(|line| line.starts_with("rackd --standalone")).unwrap();
    let (snapshot, data) = (cable.path("rack.yaml"), cable.path("data"));
    let args: Vec<&str> = command
        .split(' ')
        .skip(1)
        .map(|word| match word {
            "rack.yaml" => snapshot.to_str().unwrap(),
            "DIR" => data.to_str().unwrap(),
            word => word.trim_matches('\''),
        })
        .collect();
    let mut rackd = cable.rackd_as(&args);
    assert_eq!(rackd.says(), "serving generation 1: 3 segments, 2 machines");
    assert_eq!(cable.udhcpc_as(&[]), ["10.90.0.10"]);
    cable.ip(&[
        format!("-n {client} addr add 10.90.0.10/24 dev c0"),
        format!("-n {client} addr add 2001:db8:90::a5a:a/64 dev c0 nodad"),
    ]);
    for at in ["10.90.0.1", "[2001:db8:90::1]"] {
        let mut curl = inside(client, Path::new("curl"));
        let read =
            curl.args(["-sSg", "--fail", "--max-time", "20", &format!("http://{at}:8080/artifacts/vmlinuz")]);
        let read = read.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&read.stdout), "a kernel", "{at}: {read:?}");
    }
}
