//! systemd-networkd, as a deployed system has it.

use std::{path::Path, process::Stdio, time::Instant};

use farrier_netboot::{Boot, Config, EventKind};

use crate::lab::{CLIENT_IP, Cable, HTTP_PORT, Killed, Running, file, segment, table};
use crate::record::Recording;

/// It looks into /run and /sys: it gets a /run of its own, and a /sys without a udev to wait for.
const START: &str = "mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
chown -R systemd-network /run/systemd/netif
cat > /run/systemd/network/10-c0.network <<EOF
[Match]
Name=c0
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
[DHCPv4]
UseHostname=no
EOF
mount -o remount,bind,ro /sys
exec \"$0\"";

#[test]
fn systemd_networkd_takes_its_reservation_and_gives_it_back() {
    let cable = Cable::new();
    let mut server = Running::start(&cable.server, Config::new(HTTP_PORT), table(segment(), Boot::LocalDisk));
    let recording = Recording::begin("networkd", &cable.server, "s0");
    let networkd = file("/lib/systemd/systemd-networkd", "systemd");
    let mut command = cable.client.command(Path::new("/usr/bin/unshare"));
    command.args(["--mount", "--uts", "sh", "-ec", START]).arg(networkd);
    let networkd = Killed(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    server.wait(60, |kind| *kind == EventKind::Ack);
    let begun = Instant::now();
    loop {
        let (addresses, routes) = (cable.client.sh("ip -4 addr show c0"), cable.client.sh("ip -4 route"));
        if addresses.contains(&format!("inet {CLIENT_IP}/24")) && routes.contains("default via 10.77.0.254") {
            break;
        }
        assert!(begun.elapsed().as_secs() < 60, "{addresses}{routes}");
    }
    assert_eq!(server.netboot.leases().len(), 1);
    let pid = rustix::process::Pid::from_child(&networkd.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    server.wait(60, |kind| *kind == EventKind::Release);
    recording.end(&server);
    let begun = Instant::now();
    while !server.netboot.leases().is_empty() {
        assert!(begun.elapsed().as_secs() < 30, "{:?}", server.netboot.leases());
        std::thread::yield_now();
    }
}
