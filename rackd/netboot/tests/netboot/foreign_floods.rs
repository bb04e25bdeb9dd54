//! Floods by other people's programs: yersinia's of DHCPDISCOVERs and THC-IPv6's of SOLICITs, each packet of another machine that is
//! not there. While they go on a known machine has its address, and what is kept of the others is bounded, in tables and in memory.

use std::path::Path;
use std::process::{Child, Stdio};

use farrier_netboot::{Boot, Config, LeaseKind, Leases, Pool, Segment};

use crate::dhcp_clients::{told, udhcpc};
use crate::dhcpv6::{CLIENT6, SERVER6, dhclient, has_settled, six};
use crate::flood::{has_bounded_tables, resident};
use crate::lab::{
    CLIENT_IP, Cable, HTTP_PORT, MAC, Namespace, Running, SERVER_IP, segment, table, text, tool,
};

/// Packets before memory is looked at, and until it is looked at again.
const WARM: u64 = 20_000;
const FLOOD: u64 = 60_000;
/// What those may leave in memory: a request of each, kept, would be some times as much.
const GROWN: u64 = 8 << 20;
/// Boots of the known machine while they come, at most.
const BOOTS: usize = 500;
/// Addresses for strangers.
const POOL: (u8, u8) = (100, 131);

/// The server has a bridge with the known machine on its one port, and who floods on the other.
struct Row {
    cable: Cable,
    flooder: Namespace,
}

impl Row {
    fn new() -> Self {
        let (cable, flooder) = (Cable::new(), Namespace::new("f"));
        // No table of the kernel's has their addresses either.
        cable.server.sh(&format!(
            "ip link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0; ip addr flush dev s0; \
             ip link add s1 type veth peer name f0 netns {}; \
             for port in s0 s1; do ip link set $port master br0 up; done; ip link set s1 type bridge_slave learning off; \
             ip addr add {SERVER_IP}/24 dev br0; ip addr add {SERVER6}/64 dev br0 nodad; ip link set br0 up",
            flooder.name()
        ));
        flooder.sh("ip link set f0 up");
        for (end, interface) in [(&cable.server, "br0"), (&cable.client, "c0"), (&flooder, "f0")] {
            has_settled(end, interface);
        }
        Self { cable, flooder }
    }

    fn serve(&self, segment: Segment) -> Running {
        let (first, last) = ([10, 77, 0, POOL.0].into(), [10, 77, 0, POOL.1].into());
        let pool = Some(Pool { first, last, boot: Boot::None });
        let segment = Segment { interface: "br0".into(), pool, conflict_check: false, ..segment };
        let mut config = Config::new(HTTP_PORT);
        config.leases = Leases::open(&self.cable.path("given")).unwrap();
        Running::start(&self.cable.server, config, table(segment, Boot::None))
    }

    /// Until it is dropped.
    fn flood(&self, program: &Path, args: &[&str]) -> Flood {
        let mut command = self.flooder.command(&tool("timeout", "coreutils"));
        command.args(["-s", "KILL", "280"]).arg(program).args(args);
        // It leaves a log where it is.
        command.current_dir(self.cable.dir.path());
        // Yersinia ends when a key is pressed.
        Flood(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Frames of the flood that have come.
    fn arrived(&self) -> u64 {
        self.cable.server.inside(|| {
            let all = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
            let line = all.lines().find_map(|line| line.trim_start().strip_prefix("s1:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        })
    }

    /// The known machine boots again and again, until so many frames have come.
    fn boots_while(&self, flood: &mut Flood, frames: u64, boots: impl Fn()) {
        let begun = self.arrived();
        for boot in 0.. {
            assert!(boot < BOOTS, "{} frames in {boot} boots", self.arrived() - begun);
            boots();
            assert!(flood.goes_on(), "the flood has ended");
            if self.arrived() >= begun + frames {
                return;
            }
        }
    }

    /// All of it: memory is looked at when tables are full.
    fn endures(&self, server: &Running, mut flood: Flood, boots: impl Fn()) {
        self.boots_while(&mut flood, WARM, &boots);
        let before = resident();
        self.boots_while(&mut flood, FLOOD, &boots);
        let after = resident();
        drop(flood);
        assert!(after < before + GROWN, "{} KiB more than before", (after - before) >> 10);
        has_bounded_tables(server);
        let heard = server.netboot.remembered();
        assert!(heard["traced_ports"] > 100, "the flood was heard: {heard:?}");
        let leases = server.netboot.leases();
        assert!(leases.len() <= usize::from(POOL.1 - POOL.0) + 2, "{leases:?}");
        let its =
            leases.iter().find(|lease| lease.mac == MAC).map(|lease| (&lease.kind, lease.ip.to_string()));
        assert_eq!(its, Some((&LeaseKind::Reserved, CLIENT_IP.to_owned())));
    }
}

/// A program that sends as fast as it can.
struct Flood(Child);

impl Flood {
    fn goes_on(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // The program is in the group of `timeout`, which is its own.
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

#[test]
fn a_known_machine_has_its_address_while_yersinia_floods() {
    let row = Row::new();
    let server = row.serve(segment());
    // 1: DHCPDISCOVERs, each from another address.
    let flood = row.flood(
        &tool("yersinia", "yersinia"),
        &["-l", "/dev/null", "dhcp", "-attack", "1", "-interface", "f0"],
    );
    row.endures(&server, flood, || {
        let _ = std::fs::remove_file(row.cable.path("told"));
        let output = udhcpc(&row.cable, &[]);
        let told = told(&row.cable);
        assert!(
            output.status.success() && told.lines().any(|line| line == "ip=10.77.0.50"),
            "{} {told}",
            text(&output)
        );
    });
    assert_eq!(
        server.netboot.remembered()["pool_addresses"],
        usize::from(POOL.1 - POOL.0) + 1,
        "all are offered"
    );
}

#[test]
fn a_known_machine_has_its_addresses_while_thc_ipv6_floods() {
    let row = Row::new();
    let server = row.serve(six());
    let flood = row.flood(&tool("atk6-flood_dhcpc6", "thc-ipv6"), &["f0"]);
    row.endures(&server, flood, || {
        let _ = std::fs::remove_file(row.cable.path("told6"));
        let bound = dhclient(&row.cable, "c0", &["-1", "-D", "LL"]);
        let told = std::fs::read_to_string(row.cable.path("told6")).unwrap_or_default();
        let its = format!("new_ip6_address={CLIENT6}");
        assert!(bound.status.success() && told.lines().any(|line| line == its), "{} {told}", text(&bound));
        // It is in the background, and ends without a word.
        let ended = dhclient(&row.cable, "c0", &["-x"]);
        assert!(ended.status.success(), "{}", text(&ended));
    });
}
