//! Leases that the disk does not take: nobody is told of them, and everybody is told why.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;

use dhcproto::{
    Encodable as _,
    v4::{DhcpOption, Message, MessageType},
};
use farrier_netboot::{Boot, Config, EventKind, Leases, Pool, Segment};

use crate::dhcp_clients::udhcpc;
use crate::lab::{Cable, HTTP_PORT, MAC, Running, SERVER_IP, run, segment, table, text, tool};

/// A file system of one page, unmounted on drop.
struct Tiny(PathBuf);

impl Tiny {
    fn mount(path: PathBuf) -> Self {
        std::fs::create_dir(&path).unwrap();
        run(std::process::Command::new(tool("mount", "mount"))
            .args(["-t", "tmpfs", "-o", "size=4k", "tmpfs"])
            .arg(&path));
        Self(path)
    }

    fn grow(&self) {
        run(std::process::Command::new(tool("mount", "mount")).args(["-o", "remount,size=1m"]).arg(&self.0));
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_machine_whose_lease_a_full_disk_does_not_take_is_told_nothing_and_its_trace_says_why() {
    let cable = Cable::addressed();
    let disk = Tiny::mount(cable.path("disk"));
    let mut config = Config::new(HTTP_PORT);
    config.leases = Leases::open(&disk.0.join("given")).unwrap();
    let pool = Pool { first: [10, 77, 0, 150].into(), last: [10, 77, 0, 249].into(), boot: Boot::None };
    let mut table = table(Segment { pool: Some(pool), conflict_check: false, ..segment() }, Boot::None);
    table.unpublish_mac(MAC);
    let mut server = Running::start(&cable.server, config, table);
    // Leases with long names, until the page has no room for another one. Each asks for the address that it says it had.
    let full = (0..60_u8).any(|n| {
        cable.client.inside(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            let any = Ipv4Addr::UNSPECIFIED;
            let mut message = Message::new_with_id(n.into(), any, any, any, any, &[2, 0, 0, 0, 1, n]);
            let options = message.opts_mut();
            options.insert(DhcpOption::MessageType(MessageType::Request));
            options.insert(DhcpOption::RequestedIpAddress([10, 77, 0, 150 + n].into()));
            options.insert(DhcpOption::ClientIdentifier(vec![n; 250]));
            socket.send_to(&message.to_vec().unwrap(), (SERVER_IP, 67)).unwrap();
        });
        let said = server.wait(20, |kind| matches!(kind, EventKind::Ack | EventKind::LeaseNotWritten));
        said.kind == EventKind::LeaseNotWritten
    });
    assert!(full, "{:#?}", server.netboot.log());
    // Its own has a name as long.
    let name = format!("0x3d:{}", "ab".repeat(250));
    let output = udhcpc(&cable, &["-t", "3", "-x", &name]);
    assert!(!output.status.success(), "{}", text(&output));
    let trace = server.netboot.trace(MAC);
    let kinds: Vec<_> = trace.iter().map(|event| &event.kind).collect();
    assert!(kinds.contains(&&EventKind::Offer) && kinds.contains(&&EventKind::Request), "{trace:#?}");
    let told = |kind: &EventKind| matches!(kind, EventKind::Ack | EventKind::Guest { .. });
    assert!(!kinds.iter().any(|kind| told(kind)), "it was told nothing: {trace:#?}");
    let why = trace.iter().find(|event| event.kind == EventKind::LeaseNotWritten);
    let why = &why.unwrap_or_else(|| panic!("{trace:#?}")).detail;
    assert!(why.contains("No space left on device") && why.contains("disk/given"), "{why}");
    assert!(why.contains("make room on that disk"), "{why}");
    let metrics = server.netboot.metrics();
    assert!(metrics.contains("{phase=\"dhcp\",event=\"lease_not_written\"}"), "{metrics}");
    // As it says.
    disk.grow();
    let output = udhcpc(&cable, &["-t", "10", "-x", &name]);
    assert!(output.status.success(), "{}", text(&output));
    server.wait(5, |kind| *kind == EventKind::Ack);
}
