//! What is reported: who was not let in to an iSCSI disk, and who asked to boot and is nobody's.

use super::tally::Subject;
use crate::volumes::Away;
use farrier_netboot::MacAddr;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Who tried what, and why that failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Login {
    peer: IpAddr,
    initiator: Option<String>,
    target: Option<String>,
    reason: String,
}

impl Login {
    /// The names are whatever a stranger sent.
    pub(super) fn new(peer: IpAddr, initiator: Option<String>, target: Option<String>, reason: &str) -> Self {
        Self {
            peer,
            initiator: initiator.map(plain),
            target: target.map(plain),
            reason: plain(reason.to_owned()),
        }
    }

    pub(super) fn initiator(&self) -> Option<&str> {
        self.initiator.as_deref()
    }
}

impl Subject for Login {
    const EVERY: Duration = Duration::from_secs(60);
    const OTHERS: &'static str =
        "others were not let in to iSCSI disks; rackd's log has one of each address a minute";
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let initiator = self.initiator.as_deref().unwrap_or("somebody without a name");
        let target = self.target.as_deref().unwrap_or("no target");
        write!(f, "{initiator} at {} was not let in to {target}: {}", self.peer, self.reason)
    }
}

/// A machine that no node has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stranger(pub(super) MacAddr);

impl Subject for Stranger {
    /// One that finds nothing to boot asks for ever.
    const EVERY: Duration = Duration::from_secs(3600);
    const OTHERS: &'static str =
        "other unknown machines asked to boot from the network; rackd's log has each";
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mac = &self.0;
        write!(
            f,
            "{mac} asked to boot from the network: expected a port of a node of this rack, saw none with this address; `farrier port create {mac} --node NODE` makes it one, unless `farrier port get {mac}` finds it in another rack; where unknown machines are discovered, `farrier discovered list` has it once its ramdisk has run"
        )
    }
}

/// A DHCP server that is not ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ForeignServer {
    pub(super) server: IpAddr,
    pub(super) network: String,
}

impl Subject for ForeignServer {
    /// It answers machines until somebody switches it off.
    const EVERY: Duration = Duration::from_secs(3600);
    const OTHERS: &'static str = "other DHCP servers answer on the rack's networks; rackd's log has each";
}

impl fmt::Display for ForeignServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, network } = self;
        let (version, instead) = match server {
            IpAddr::V4(_) => (
                "",
                ", or leave addresses to it, and to rackd the boot files, with `dhcp = \"proxy\"` in this segment of rackd.toml",
            ),
            IpAddr::V6(_) => ("v6", ", or take IPv6 out of this segment of rackd.toml"),
        };
        write!(
            f,
            "the DHCP{version} server {server} answers on network {network}: expected none beside rackd's, since machines take whichever answers first; switch it off there{instead}"
        )
    }
}

/// A router that says otherwise than rackd does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RogueRouter {
    pub(super) router: Ipv6Addr,
    pub(super) network: String,
    pub(super) says: String,
}

impl Subject for RogueRouter {
    /// It advertises until somebody stops it.
    const EVERY: Duration = Duration::from_secs(3600);
    const OTHERS: &'static str = "other routers advertise on the rack's networks; rackd's log has each";
}

impl fmt::Display for RogueRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { router, network, says } = self;
        write!(
            f,
            "the router {router} advertises on network {network} and {says}: expected routers to leave addresses to rackd's DHCPv6 (M is set) and no prefix but rackd's, since machines may configure themselves by it; find the machine by this address's last half, and stop its router advertisements there or at its switch port"
        )
    }
}

/// A reserved address that another machine uses: seen here, or by the node itself (DHCPDECLINE).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Conflict {
    pub(super) node: String,
    pub(super) detail: String,
}

impl Subject for Conflict {
    /// A node that declines its address asks for it again at once, and gets the same one.
    const EVERY: Duration = Duration::from_secs(600);
    const OTHERS: &'static str = "other addresses of nodes are used by other machines; rackd's log has each";
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: expected nobody else to use it, since both lose their connections; take it from that machine, or leave it out of `pool` in rackd.toml",
            plain(self.detail.clone())
        )
    }
}

/// A network without a free address for whoever is not reserved one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PoolExhausted(pub(super) String);

impl Subject for PoolExhausted {
    /// It lasts until leases end, or somebody makes the pool larger.
    const EVERY: Duration = Duration::from_secs(3600);
    const OTHERS: &'static str = "other networks have no free address; rackd's log has each";
}

impl fmt::Display for PoolExhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(network) = self;
        write!(
            f,
            "a machine without a reservation asked for an address on network {network}: expected a free one among its `guests`, saw none; make `guests` of this segment in rackd.toml larger, or find who takes them: `farrier rack dhcp leases RACK` has them"
        )
    }
}

/// More TFTP transfers than this rackd has room for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TftpFull;

impl Subject for TftpFull {
    const EVERY: Duration = Duration::from_secs(600);
    const OTHERS: &'static str = "more machines were not answered by TFTP";
}

impl fmt::Display for TftpFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "machines that ask for a file by TFTP are not answered until other transfers end, and ask again: expected fewer at once; power racks on in groups, or look for a machine that asks in a loop: `farrier rack dhcp log RACK` has who asks",
        )
    }
}

/// A machine's disk that cannot be read or written here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DiskFailure {
    pub(super) target: String,
    pub(super) reason: String,
}

impl Subject for DiskFailure {
    const EVERY: Duration = Duration::from_secs(600);
    const OTHERS: &'static str = "other iSCSI disks fail; rackd's log has each";
}

impl fmt::Display for DiskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, reason } = self;
        write!(
            f,
            "the disk {target} fails, {reason}: its machine sees errors; look at the rack's disk and its free space, then restart rackd, which reads what is there"
        )
    }
}

/// A machine's disk that is not there to be offered to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DiskAway(pub(super) Away);

impl Subject for DiskAway {
    /// It is tried again every few seconds.
    const EVERY: Duration = Duration::from_secs(600);
    const OTHERS: &'static str = "other machines wait for their iSCSI disks; rackd's log has each";
}

impl fmt::Display for DiskAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Away { instance, reason, .. } = &self.0;
        write!(
            f,
            "the disk of {instance} cannot be offered, {reason}: its machine waits for it; it is tried again until it is there"
        )
    }
}

fn plain(text: String) -> String {
    let visible = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.chars().take(NAME).map(visible).collect()
}

/// An iSCSI name has at most 223 bytes (RFC 7143 section 4.2.7.1).
const NAME: usize = 223;
