//! What every machine is to be told: the only input of this crate.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
};

use bytes::Bytes;

use crate::{MacAddr, Ramdisks, San};

/// Everything that is served: segments, machines, files. Cloning is cheap enough for one clone an update.
#[derive(Debug, Clone, Default)]
pub struct BootTable {
    segments: Vec<Arc<Segment>>,
    entries: HashMap<MacAddr, Vec<Arc<BootEntry>>>,
    by_ip: HashMap<Ipv4Addr, MacAddr>,
    artifacts: BTreeMap<ArtifactName, Artifact>,
}

/// One network this rack serves: an interface and the subnet on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Name of the network, the word [`BootEntry::network`] refers to.
    pub network: String,
    /// Interface to listen on, usually the network's bridge. It may appear later; it is bound when it does.
    /// Empty: DHCP and TFTP are somebody else's here, only scripts and files are served.
    pub interface: String,
    /// Our address on it: DHCP server identifier, TFTP and HTTP server.
    pub server_ip: Ipv4Addr,
    /// Any address of the subnet, where relay agents bring its machines' packets to one of our other interfaces; then
    /// `interface` is empty, and `server_ip` is our address as the machines reach it.
    pub behind_relay: Option<Ipv4Addr>,
    /// Prefix length of the subnet, 0 to 32.
    pub prefix: u8,
    /// Default gateway (option 3), if the network has one.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers (option 6), at most 8 are sent.
    pub dns: Vec<Ipv4Addr>,
    /// Name servers for those that ask by DHCPv6 (RFC 3646 §3, option 23), at most 8 are sent.
    pub dns6: Vec<Ipv6Addr>,
    /// Domain name (option 15).
    pub domain: Option<String>,
    /// Lease time in seconds (option 51); T1 is a half of it, T2 seven eighths (RFC 2131 §4.4.5).
    pub lease_seconds: u32,
    /// Whose DHCP it is.
    pub dhcp: Dhcp,
    /// IPv6 beside it, for the machines of the table; `None`, the default: none.
    pub dhcp6: Option<Dhcp6>,
    /// Addresses for machines that are not in the table; `None`, the default, answers only known machines.
    pub pool: Option<Pool>,
    /// Whether machines boot here, the default. On a network of BMCs nobody does: firmware that asks gets no answer, there is no
    /// TFTP, and whoever has an address is told of as of a pool.
    pub boots: bool,
    /// Whether an address is looked for on the wire before it is given the first time (RFC 2131 §3.1 step 2), the default: its
    /// machine waits half a second for it.
    pub conflict_check: bool,
    /// Whether we answer router solicitations, the default; false beside a router that says what is so.
    pub router_advertisements: bool,
}

/// What we say to machines that ask for an address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dhcp {
    /// Addresses and boot files: of the table, and of a pool where there is one.
    #[default]
    Ours,
    /// Another server gives addresses; we add boot files (PXE 2.1 §2.2, proxyDHCP).
    Proxy,
    /// Nothing; TFTP is served, for a DHCP server that names us.
    Off,
}

/// A segment's IPv6: who has an IPv4 address reserved has an IPv6 address too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dhcp6 {
    /// Our address in it, or as its machines reach it: TFTP and HTTP server. Not link-local.
    pub server_ip: Ipv6Addr,
    /// Prefix length of the machines' subnet, at most 96.
    pub prefix: u8,
    /// The subnet of its machines, where they are behind a router that relays their DHCPv6 (RFC 8415 §19) to `server_ip`, which
    /// is then of another segment.
    pub behind_relay: Option<Ipv6Addr>,
}

impl Dhcp6 {
    /// That of a link that we are on.
    #[must_use]
    pub const fn new(server_ip: Ipv6Addr, prefix: u8) -> Self {
        Self { server_ip, prefix, behind_relay: None }
    }

    /// Whether an address may be of either.
    #[must_use]
    pub fn overlaps(&self, other: Self) -> bool {
        self.contains(other.subnet()) || other.contains(self.subnet())
    }

    /// An address of the machines' subnet.
    #[must_use]
    pub fn subnet(&self) -> Ipv6Addr {
        self.behind_relay.unwrap_or(self.server_ip)
    }

    /// The address of the machine that has `ip`: the prefix, zeroes, and `ip` in the last 32 bits.
    #[must_use]
    pub fn address(&self, ip: Ipv4Addr) -> Ipv6Addr {
        Ipv6Addr::from_bits((self.subnet().to_bits() & self.mask()) | u128::from(ip.to_bits()))
    }

    /// The IPv4 address of the machine that has `ip`.
    #[must_use]
    pub fn ipv4(&self, ip: Ipv6Addr) -> Option<Ipv4Addr> {
        let host = ip.to_bits() & !self.mask();
        u32::try_from(host).ok().filter(|_| self.contains(ip)).map(Ipv4Addr::from_bits)
    }

    /// Whether an address is in the subnet.
    #[must_use]
    pub fn contains(&self, ip: Ipv6Addr) -> bool {
        (ip.to_bits() ^ self.subnet().to_bits()) & self.mask() == 0
    }

    fn mask(&self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.prefix.min(96))).unwrap_or(0)
    }

    /// Our DUID (RFC 8415 §11.5, a UUID): the 128 bits are our address, which no other server of the network has and which
    /// stays when interfaces and hosts are changed.
    pub(crate) fn duid(&self) -> Vec<u8> {
        [&[0, 4][..], &self.server_ip.octets()].concat()
    }
}

/// A range of addresses for unknown machines, and what they boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// First address.
    pub first: Ipv4Addr,
    /// Last address.
    pub last: Ipv4Addr,
    /// What an unknown machine is told to boot, e.g. the discovery ramdisk.
    pub boot: Boot,
}

impl Segment {
    /// A segment with an hour's leases, no gateway, no name servers and no pool.
    #[must_use]
    pub fn new(network: &str, interface: &str, server_ip: Ipv4Addr, prefix: u8) -> Self {
        Self {
            network: network.to_owned(),
            interface: interface.to_owned(),
            server_ip,
            behind_relay: None,
            prefix: prefix.min(32),
            gateway: None,
            dns: Vec::new(),
            dns6: Vec::new(),
            domain: None,
            lease_seconds: 3600,
            dhcp: Dhcp::Ours,
            dhcp6: None,
            pool: None,
            boots: true,
            conflict_check: true,
            router_advertisements: true,
        }
    }

    /// The subnet mask (option 1).
    #[must_use]
    pub fn netmask(&self) -> Ipv4Addr {
        let host_bits = 32 - u32::from(self.prefix.min(32));
        Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0))
    }

    /// Whether its machines have their addresses from another server.
    pub(crate) fn addresses_are_foreign(&self) -> bool {
        (self.is_on_link() && self.interface.is_empty()) || self.dhcp != Dhcp::Ours
    }

    /// Whether ARP says who has an address of it.
    pub(crate) fn is_on_link(&self) -> bool {
        self.behind_relay.is_none()
    }

    /// Whether an address is in the segment's subnet.
    #[must_use]
    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        let subnet = self.behind_relay.unwrap_or(self.server_ip);
        (ip.to_bits() ^ subnet.to_bits()) & self.netmask().to_bits() == 0
    }

    /// Whether a machine of the segment may have an address: it is in the subnet, none of the subnet's own two, and not ours.
    #[must_use]
    pub fn has_host(&self, ip: Ipv4Addr) -> bool {
        let hosts = !self.netmask().to_bits();
        let host = ip.to_bits() & hosts;
        // RFC 3021: a subnet of two has no such two.
        let is_host = self.prefix > 30 || (host != 0 && host != hosts);
        self.contains(ip) && is_host && ip != self.server_ip
    }
}

/// One machine's port on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootEntry {
    /// The port's address on the wire.
    pub mac: MacAddr,
    /// Name of the node, for logs and events.
    pub node: String,
    /// Host name (option 12).
    pub hostname: String,
    /// The address reserved for it.
    pub ip: Ipv4Addr,
    /// Which [`Segment::network`] this reservation is for. A port may have one in each of several networks.
    pub network: String,
    /// What it boots when it asks.
    pub boot: Boot,
}

/// What a machine boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// A ramdisk through iPXE.
    Script(Ramdisks),
    /// One whose kernel has its distribution's signature, through shim and GRUB, for firmware that runs signed programs only (UEFI
    /// Secure Boot). Where it is not UEFI, as [`Boot::Script`].
    Signed(Ramdisks),
    /// An iSCSI disk through iPXE, whose iBFT tells the operating system where it is.
    San(San),
    /// An address, and for iPXE a script that goes on to the disk.
    LocalDisk,
    /// An address, and for iPXE a script that waits and asks again: what it boots is not here yet.
    Wait,
    /// An address and nothing else.
    None,
}

/// A file served at `/artifacts/{name}`, by HTTP and by TFTP.
#[derive(Clone)]
pub enum Artifact {
    /// From disk, streamed. The file must not change while it is published.
    File(PathBuf),
    /// From memory, for small things: it is hashed for its entity tag at each request.
    Bytes(Bytes),
    /// Put together of several, one after the other.
    Joined(Arc<Joined>),
}

/// Several pieces, and what tells them from others: reckoned once, however many parts are asked for.
#[derive(Debug)]
pub struct Joined {
    pub(crate) pieces: Box<[Piece]>,
    pub(crate) tag: String,
}

impl Joined {
    /// In their order.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }
}

/// A part of a [`Joined`].
#[derive(Debug, Clone)]
pub enum Piece {
    /// From memory.
    Bytes(Bytes),
    /// A whole file of `len` bytes. One that has another size when it is read ends the answer.
    File {
        /// Where it is.
        path: PathBuf,
        /// Its size.
        len: u64,
    },
}

impl Piece {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::Joined(joined) => write!(f, "Joined({} pieces)", joined.pieces.len()),
        }
    }
}

/// A name of letters, digits, `_`, `.` and `-`, not starting with a dot: fit for a URL, a script and a log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArtifactName(String);

/// Text that is not an [`ArtifactName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("artifact name is not made of 1 to 100 letters, digits, '_', '.' and '-'")]
pub struct ArtifactNameError;

impl FromStr for ArtifactName {
    type Err = ArtifactNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        let len = (1..=100).contains(&text.len());
        if len && !text.starts_with('.') && text.bytes().all(good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ArtifactNameError)
        }
    }
}

impl fmt::Display for ArtifactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl BootTable {
    /// An empty table: nothing is served.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the segments. Listeners of interfaces that are no longer named are closed, new ones are opened.
    pub fn set_segments(&mut self, segments: Vec<Segment>) {
        self.segments = segments.into_iter().map(Arc::new).collect();
    }

    /// The segments.
    #[must_use]
    pub fn segments(&self) -> &[Arc<Segment>] {
        &self.segments
    }

    /// The segments where DHCP and TFTP are ours.
    pub fn served(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.segments.iter().filter(|s| !s.interface.is_empty())
    }

    /// The segment whose subnet has an address, if its DHCP is ours: that of a relay agent, or of a machine that renews.
    #[must_use]
    pub fn segment_of(&self, ip: Ipv4Addr) -> Option<&Arc<Segment>> {
        let ours = |s: &&Arc<Segment>| !s.interface.is_empty() || s.behind_relay.is_some();
        self.segments.iter().filter(ours).find(|s| s.contains(ip))
    }

    /// The address that a machine has by DHCPv6, where its network has that.
    #[must_use]
    pub fn ipv6_of(&self, entry: &BootEntry) -> Option<Ipv6Addr> {
        Some(self.segment(&entry.network)?.dhcp6?.address(entry.ip))
    }

    /// The segment of a network.
    #[must_use]
    pub fn segment(&self, network: &str) -> Option<&Arc<Segment>> {
        self.segments.iter().find(|s| s.network == network)
    }

    /// Publishes an entry, instead of the one for the same port and network if there is one.
    pub fn publish(&mut self, entry: BootEntry) {
        self.unpublish(entry.mac, &entry.network);
        self.by_ip.insert(entry.ip, entry.mac);
        self.entries.entry(entry.mac).or_default().push(Arc::new(entry));
    }

    /// Takes back the entry of a port in one network. Does nothing when there is none.
    pub fn unpublish(&mut self, mac: MacAddr, network: &str) {
        self.retain(mac, |e| e.network != network);
    }

    /// Takes back everything about a port.
    pub fn unpublish_mac(&mut self, mac: MacAddr) {
        self.retain(mac, |_| false);
    }

    fn retain(&mut self, mac: MacAddr, keep: impl Fn(&BootEntry) -> bool) {
        let Some(entries) = self.entries.get_mut(&mac) else { return };
        entries.retain(|e| {
            let keep = keep(e);
            if !keep && self.by_ip.get(&e.ip) == Some(&mac) {
                self.by_ip.remove(&e.ip);
            }
            keep
        });
        if entries.is_empty() {
            self.entries.remove(&mac);
        }
    }

    /// The entry of a port in a network.
    #[must_use]
    pub fn entry(&self, mac: MacAddr, network: &str) -> Option<&Arc<BootEntry>> {
        self.entries_of(mac).iter().find(|e| e.network == network)
    }

    /// All entries of a port.
    #[must_use]
    pub fn entries_of(&self, mac: MacAddr) -> &[Arc<BootEntry>] {
        self.entries.get(&mac).map(Vec::as_slice).unwrap_or_default()
    }

    /// All entries, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<BootEntry>> {
        self.entries.values().flatten()
    }

    /// The IPv4 address of whoever has `ip`: itself, also where it came in on an IPv6 socket, or the one that its IPv6 address
    /// is made of. That is one of the same segment: in another network's prefix anybody may take an address that is made of
    /// one of this network.
    #[must_use]
    pub fn ipv4_of(&self, ip: IpAddr) -> Option<Ipv4Addr> {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(ip) => self
                .segments
                .iter()
                .find_map(|segment| segment.dhcp6?.ipv4(ip).filter(|made_of| segment.contains(*made_of))),
        }
    }

    /// The entry whose address this is.
    #[must_use]
    pub fn entry_by_ip(&self, ip: Ipv4Addr) -> Option<&Arc<BootEntry>> {
        self.entries_of(*self.by_ip.get(&ip)?).iter().find(|e| e.ip == ip)
    }

    /// Serves a file at `/artifacts/{name}`.
    pub fn publish_artifact(&mut self, name: ArtifactName, artifact: Artifact) {
        self.artifacts.insert(name, artifact);
    }

    /// Stops serving a file. Running downloads end normally.
    pub fn unpublish_artifact(&mut self, name: &ArtifactName) {
        self.artifacts.remove(name);
    }

    /// A served file.
    #[must_use]
    pub fn artifact(&self, name: &ArtifactName) -> Option<&Artifact> {
        self.artifacts.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(network: &str, ip: [u8; 4]) -> BootEntry {
        BootEntry {
            mac: MacAddr([2; 6]),
            node: "n".into(),
            hostname: "h".into(),
            ip: ip.into(),
            network: network.into(),
            boot: Boot::None,
        }
    }

    #[test]
    fn a_port_has_one_entry_a_network() {
        let mut table = BootTable::new();
        table.publish(entry("prov", [10, 0, 0, 2]));
        table.publish(entry("tenant", [10, 1, 0, 2]));
        table.publish(entry("prov", [10, 0, 0, 3]));
        assert_eq!(table.entries().count(), 2);
        assert!(table.entry_by_ip([10, 0, 0, 2].into()).is_none());
        assert_eq!(table.entry_by_ip([10, 0, 0, 3].into()).unwrap().network, "prov");
        table.unpublish(MacAddr([2; 6]), "prov");
        assert!(table.entry(MacAddr([2; 6]), "prov").is_none());
        table.unpublish_mac(MacAddr([2; 6]));
        assert!(table.entry_by_ip([10, 1, 0, 2].into()).is_none());
    }

    #[test]
    fn subnets_are_computed_for_every_prefix() {
        for (prefix, mask, inside) in [
            (0, [0, 0, 0, 0], true),
            (24, [255, 255, 255, 0], true),
            (25, [255, 255, 255, 128], false),
            (32, [255; 4], false),
        ] {
            let segment = Segment::new("n", "br0", [10, 0, 0, 1].into(), prefix);
            assert_eq!(segment.netmask(), Ipv4Addr::from(mask));
            assert_eq!(segment.contains([10, 0, 0, 200].into()), inside, "{prefix}");
        }
    }

    #[test]
    fn an_ipv6_address_is_the_prefix_and_the_ipv4_address() {
        let mut table = BootTable::new();
        for (server, prefix, v6) in
            [("2001:db8::1", 64, "2001:db8::a4d:32"), ("2001:db8::7:0:1", 96, "2001:db8::7:a4d:32")]
        {
            let six = Dhcp6::new(server.parse().unwrap(), prefix);
            let (v4, v6): (Ipv4Addr, Ipv6Addr) = ([10, 77, 0, 50].into(), v6.parse().unwrap());
            assert_eq!((six.address(v4), six.ipv4(v6)), (v6, Some(v4)));
            assert_eq!(six.ipv4("2001:db9::a4d:32".parse().unwrap()), None, "another prefix");
            let segment = Segment { dhcp6: Some(six), ..Segment::new("n", "br0", [10, 77, 0, 1].into(), 24) };
            table.set_segments(vec![segment]);
            let mapped = v4.to_ipv6_mapped().into();
            assert_eq!([v4.into(), mapped, IpAddr::V6(v6)].map(|ip| table.ipv4_of(ip)), [Some(v4); 3]);
        }
        let behind_relay = Some("2001:db8:79::".parse().unwrap());
        let far = Dhcp6 { behind_relay, ..Dhcp6::new("2001:db8::1".parse().unwrap(), 64) };
        let its = far.address([10, 79, 0, 50].into());
        assert_eq!(its.to_string(), "2001:db8:79::a4f:32");
        assert_eq!(far.ipv4(its), Some([10, 79, 0, 50].into()));
        assert!(!far.contains(far.server_ip), "we are elsewhere");
        let six = Dhcp6::new("2001:db8::1".parse().unwrap(), 64);
        assert_eq!(six.ipv4("2001:db8::1:a4d:32".parse().unwrap()), None, "not made by us");
        assert_eq!(table.ipv4_of("fe80::a4d:32".parse().unwrap()), None);
    }

    #[test]
    fn an_ipv6_address_in_one_network_is_nobodys_of_another() {
        let segment = |network: &str, server: [u8; 4], six: &str| Segment {
            dhcp6: Some(Dhcp6::new(six.parse().unwrap(), 64)),
            ..Segment::new(network, "br0", server.into(), 24)
        };
        let mut table = BootTable::new();
        table.set_segments(vec![
            segment("tenant", [10, 80, 0, 1], "2001:db8:1::1"),
            segment("provisioning", [10, 90, 0, 1], "2001:db8:2::1"),
        ]);
        // 10.90.0.50 by the prefix of either.
        let of = |ip: &str| table.ipv4_of(ip.parse().unwrap());
        assert_eq!(of("2001:db8:2::a5a:32"), Some([10, 90, 0, 50].into()));
        assert_eq!(of("2001:db8:1::a5a:32"), None);
    }

    #[test]
    fn a_segment_without_an_interface_is_known_and_not_served() {
        let mut table = BootTable::new();
        let segment = |network, interface| Segment::new(network, interface, [10, 0, 0, 1].into(), 24);
        table.set_segments(vec![segment("ours", "br0"), segment("theirs", "")]);
        assert!(table.segment("theirs").is_some());
        assert_eq!(table.served().map(|s| s.network.as_str()).collect::<Vec<_>>(), ["ours"]);
    }

    #[test]
    fn artifact_names_are_not_paths() {
        assert!("ramdisk-1.2_x.cpio".parse::<ArtifactName>().is_ok());
        for bad in ["", ".", "..", ".hidden", "a/b", "a b", "a%2fb", "é", &"a".repeat(101)] {
            assert!(bad.parse::<ArtifactName>().is_err(), "{bad}");
        }
    }
}
