//! DHCP over InfiniBand (RFC 4390), in scapy's words.

use std::path::Path;

use farrier_netboot::{Boot, BootEntry, Config, MacAddr, Pool, Segment};

use crate::lab::{CLIENT_IP, Cable, HTTP_PORT, Running, entry, file, segment, table, text};

/// The port's GUID without what its maker filled in.
const PORT: MacAddr = MacAddr([0x7c, 0xfe, 0x90, 0x29, 0x26, 0x52]);

#[test]
fn a_port_is_known_by_its_client_identifier_and_answered_by_broadcast() {
    let cable = Cable::new();
    let guest = "10.77.0.200".parse().unwrap();
    let pool = Some(Pool { first: guest, last: guest, boot: Boot::None });
    let mut table = table(Segment { pool, ..segment() }, Boot::None);
    table.publish(BootEntry {
        mac: PORT,
        ip: "10.77.0.60".parse().unwrap(),
        node: "node-2".into(),
        ..entry(Boot::None)
    });
    let server = Running::start(&cable.server, Config::new(HTTP_PORT), table);
    // One port, by the names of its boot ROM and of its system; and a port that nobody knows.
    let rom = "ff000000000002000002c9007cfe900300292652";
    let system = "2080000048fe800000000000007cfe900300292652";
    let stranger = "2080000048fe800000000000007cfe900300292653";
    let script = format!("{}/tests/netboot/infiniband.py", env!("CARGO_MANIFEST_DIR"));
    file("/usr/lib/python3/dist-packages/scapy/__init__.py", "python3-scapy");
    // Debian's, for which Debian's scapy is.
    let mut python = cable.client.command(Path::new("/usr/bin/timeout"));
    python.args(["60", "/usr/bin/python3", &script, rom, system, stranger]);
    let said = python.output().unwrap();
    assert!(said.status.success(), "{} {:#?}", text(&said), server.netboot.log());
    let answers = String::from_utf8(said.stdout).unwrap();
    let everybody = "frame=ff:ff:ff:ff:ff:ff to=255.255.255.255 htype=32 hlen=0";
    let nobody = "0".repeat(32);
    let mut expected = Vec::new();
    for (id, ip) in [(rom, "10.77.0.60"), (system, "10.77.0.60"), (stranger, "10.77.0.200")] {
        for kind in [2, 5] {
            expected.push(format!("type={kind} {everybody} chaddr={nobody} ip={ip} client_id={id}"));
        }
    }
    assert_eq!(answers.lines().collect::<Vec<_>>(), expected);
    let mut leases: Vec<_> =
        server.netboot.leases().iter().map(|lease| format!("{} {}", lease.mac, lease.ip)).collect();
    leases.sort();
    assert_eq!(leases, ["7c:fe:90:29:26:52 10.77.0.60", "7c:fe:90:29:26:53 10.77.0.200"]);
    assert!(!answers.contains(CLIENT_IP), "an Ethernet address is nobody's here");
}
