//! `[[segment]]`: a network that rackd serves.

use super::BadConfig;
use farrier_netboot::{Dhcp6, MacAddr};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What a segment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Ramdisks boot here.
    Provisioning,
    /// Finished machines live here.
    Tenant,
    /// BMCs are here. They get addresses and are asked what they are; nobody boots.
    Management,
}

/// Whose DHCP it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DhcpMode {
    /// rackd's, for everybody: machines that it does not know get an address of `guests`.
    Authoritative,
    /// rackd's, for the machines that it knows; silence for others.
    #[default]
    Reservations,
    /// Somebody else's server gives addresses, rackd adds boot files.
    Proxy,
    /// Somebody else's, which names rackd as the boot server.
    Off,
}

/// Whose DHCPv6 it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Dhcp6Mode {
    /// rackd's, for the machines that it knows.
    Reservations,
    /// Somebody else's, or nobody's.
    #[default]
    Off,
}

/// A layer-2 network that rackd serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentConfig {
    pub name: String,
    pub role: Role,
    /// Interface with rackd's address; empty: DHCP is somebody else's here.
    pub interface: String,
    pub address: Ipv4Addr,
    /// The subnet of its machines, where they are behind a router that relays their DHCP; `address` is then rackd's in
    /// another segment, as they reach it, and there is no interface.
    pub behind_relay: Option<Ipv4Addr>,
    /// Prefix length of the machines' subnet.
    pub prefix: u8,
    pub gateway: Option<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
    /// Name servers that DHCPv6 tells (option 23).
    pub dns6: Vec<Ipv6Addr>,
    /// Domain name (DHCP option 15).
    pub domain: Option<String>,
    /// How long a machine has its address without renewing it, in seconds: so long may rackd be away.
    pub lease_seconds: u32,
    pub dhcp: DhcpMode,
    /// IPv6 for firmware that boots by it; a machine's address has its IPv4 address in the last 32 bits.
    pub dhcp6: Option<Dhcp6>,
    /// Addresses for machines that rackd does not know, first and last.
    pub guests: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Addresses for machines, first and last; where DHCP is somebody else's, none that it gives. Of a management network: for
    /// every BMC that has none of its own.
    pub pool: (Ipv4Addr, Ipv4Addr),
    /// Whether an address is looked for before it is given; its machine waits half a second for that, once.
    pub conflict_check: bool,
    /// Whether router solicitations are answered; not beside a router that says what is so.
    pub router_advertisements: bool,
    /// BMCs of a management network that have addresses of their own.
    pub reservations: Vec<(MacAddr, Ipv4Addr)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSegment {
    name: String,
    role: Role,
    #[serde(default)]
    interface: String,
    address: String,
    #[serde(default)]
    behind_relay: Option<String>,
    dhcp: Option<DhcpMode>,
    #[serde(default)]
    dhcp6: Dhcp6Mode,
    address6: Option<String>,
    behind_relay6: Option<String>,
    #[serde(default = "yes")]
    conflict_check: bool,
    router_advertisements: Option<bool>,
    guests: Option<String>,
    pool: String,
    gateway: Option<Ipv4Addr>,
    #[serde(default)]
    dns: Vec<Ipv4Addr>,
    #[serde(default)]
    dns6: Vec<Ipv6Addr>,
    domain: Option<String>,
    lease_seconds: Option<u32>,
    #[serde(default)]
    reservations: BTreeMap<String, Ipv4Addr>,
}

/// Each by itself, and those behind relays against the others.
pub(super) fn check(raw: Vec<RawSegment>) -> Result<Vec<SegmentConfig>, BadConfig> {
    let segments = raw.into_iter().map(segment).collect::<Result<Vec<_>, _>>()?;
    for far in segments.iter().filter(|s| s.behind_relay.is_some()) {
        let near = |s: &&SegmentConfig| !s.interface.is_empty() && s.address == far.address;
        if !segments.iter().any(|s| near(&s)) {
            let expected =
                "rackd's address in a segment with an interface, where the relay brings packets to";
            return Err(bad(&far.name, "address", expected, &far.address.to_string()));
        }
        // Whose machine it is that a relay speaks for is told by the subnet alone.
        let others = segments.iter().filter(|s| s.name != far.name);
        if let Some(other) = others.into_iter().find(|s| s.overlaps(far)) {
            let seen = format!("{}/{}, where segment {} is", far.subnet(), far.prefix, other.name);
            return Err(bad(&far.name, "behind_relay", "a subnet that no other segment has", &seen));
        }
        check_six(far, &segments)?;
    }
    for (index, segment) in segments.iter().enumerate() {
        let mut before = segments.iter().take(index);
        if before.clone().any(|other| other.name == segment.name) {
            return Err(bad(&segment.name, "name", "one segment of this name", "two"));
        }
        // Who asks there is in one network, and so is whoever answers.
        let same =
            |other: &&SegmentConfig| !segment.interface.is_empty() && other.interface == segment.interface;
        if let Some(other) = before.clone().find(same) {
            let expected = "an interface that no other segment has";
            let seen = format!("{}, which segment {} has", segment.interface, other.name);
            return Err(bad(&segment.name, "interface", expected, &seen));
        }
        // By its address it is known which of them a machine is in, and whose it is; and the snapshot of all of them has each
        // once. Where DHCP is somebody else's, tenants who never see each other may call their machines by the same addresses.
        let ours = |segment: &SegmentConfig| segment.role != Role::Tenant || segment.is_served();
        if let Some(other) = before.find(|other| ours(other) && ours(segment) && other.overlaps(segment)) {
            let expected = "a subnet that no other segment has in which rackd answers";
            let seen = format!("{}/{}, where segment {} is", segment.subnet(), segment.prefix, other.name);
            return Err(bad(&segment.name, "address", expected, &seen));
        }
    }
    Ok(segments)
}

/// Where firmware is sent to a name, whoever tells it the name has to tell it a name server too.
pub(super) fn resolve(name: &str, segments: &[SegmentConfig]) -> Result<(), BadConfig> {
    for segment in segments.iter().filter(|s| s.role != Role::Management && s.is_served()) {
        let ours = matches!(segment.dhcp, DhcpMode::Authoritative | DhcpMode::Reservations);
        if ours && segment.dns.is_empty() {
            return Err(bad(&segment.name, "dns", NAME_SERVER, &format!("none, and https.name {name}")));
        }
        if segment.dhcp6.is_some() && segment.dns6.is_empty() {
            return Err(bad(&segment.name, "dns6", NAME_SERVER, &format!("none, and https.name {name}")));
        }
    }
    Ok(())
}

const NAME_SERVER: &str =
    "a name server where rackd gives addresses: machines are sent to https.name, and have to resolve it";

/// IPv6 of a segment behind a relay, against the others.
fn check_six(far: &SegmentConfig, segments: &[SegmentConfig]) -> Result<(), BadConfig> {
    let Some(six) = far.dhcp6 else { return Ok(()) };
    let others = || segments.iter().filter(|s| s.name != far.name).filter_map(|s| Some((s, s.dhcp6?)));
    let near = |(s, its): (&SegmentConfig, Dhcp6)| !s.interface.is_empty() && its.server_ip == six.server_ip;
    if !others().any(near) {
        let expected = "rackd's address6 in a segment with an interface, where the relay brings packets to";
        return Err(bad(&far.name, "address6", expected, &six.server_ip.to_string()));
    }
    if let Some((other, _)) = others().find(|(_, its)| its.overlaps(six)) {
        let seen = format!("{}/{}, where segment {} is", six.subnet(), six.prefix, other.name);
        return Err(bad(&far.name, "behind_relay6", "a subnet that no other segment has", &seen));
    }
    Ok(())
}

impl SegmentConfig {
    /// An address of the machines' subnet.
    fn subnet(&self) -> Ipv4Addr {
        self.behind_relay.unwrap_or(self.address)
    }

    /// Whether one of its machines may have an address.
    pub(crate) fn contains(&self, ip: Ipv4Addr) -> bool {
        same_subnet(self.subnet(), ip, self.prefix)
    }

    /// Addresses for whoever is not known: of a management network all of its pool.
    pub(crate) fn strangers(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        match (self.role, self.dhcp) {
            (Role::Management, DhcpMode::Authoritative) => Some(self.pool),
            (Role::Management, _) => None,
            _ => self.guests,
        }
    }

    /// Whether its machines hear of their addresses from us.
    fn is_served(&self) -> bool {
        !self.interface.is_empty() || self.behind_relay.is_some()
    }

    fn overlaps(&self, other: &Self) -> bool {
        same_subnet(self.subnet(), other.subnet(), self.prefix.min(other.prefix))
    }
}

fn segment(raw: RawSegment) -> Result<SegmentConfig, BadConfig> {
    let bad = |key, expected, seen: &str| bad(&raw.name, key, expected, seen);
    if !farrier_model::is_label(&raw.name) {
        return Err(bad("name", "1 to 63 of a-z, 0-9 and '-'", &raw.name));
    }
    let (address, mut prefix) = network(&raw.address)
        .ok_or_else(|| bad("address", "address/prefix such as 10.90.0.1/24", &raw.address))?;
    let mut behind_relay = None;
    if let Some(text) = &raw.behind_relay {
        let parsed = network(text);
        let (subnet, theirs) =
            parsed.ok_or_else(|| bad("behind_relay", "a subnet such as 10.91.0.0/24", text))?;
        if !raw.interface.is_empty() {
            return Err(bad("interface", "none beside behind_relay", &raw.interface));
        }
        // Machines answer rackd through it, ramdisks too.
        let seen = raw.gateway.map_or_else(|| "none".to_owned(), |ip| ip.to_string());
        if !raw.gateway.is_some_and(|ip| same_subnet(ip, subnet, theirs)) {
            return Err(bad("gateway", "the router's address in the subnet that is behind_relay", &seen));
        }
        (behind_relay, prefix) = (Some(subnet), theirs);
    }
    let range = |key, text: &str| {
        let inside = |ip| same_subnet(ip, behind_relay.unwrap_or(address), prefix);
        let free = |(first, last): &(Ipv4Addr, Ipv4Addr)| {
            let taken = [Some(address), raw.gateway].into_iter().flatten();
            first <= last && !taken.into_iter().any(|ip| (*first..=*last).contains(&ip))
        };
        let range = text.split_once('-');
        let range =
            range.and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?)));
        // The subnet's own two are no machine's.
        let (lowest, highest) = hosts(behind_relay.unwrap_or(address), prefix);
        let range = range.filter(|(first, last)| inside(*first) && inside(*last));
        let range = range.map(|(first, last)| (lowest.max(first), highest.min(last)));
        range.filter(free).ok_or_else(|| {
            bad(key, "first-last inside the subnet, without rackd's own address and the gateway", text)
        })
    };
    let (first, last) = range("pool", &raw.pool)?;
    if let Some(domain) = raw.domain.as_deref().filter(|domain| !is_domain(domain)) {
        return Err(bad("domain", "a domain name such as rack.example", domain));
    }
    let lease_seconds = raw.lease_seconds.unwrap_or(match raw.role {
        Role::Provisioning => HOUR,
        Role::Tenant | Role::Management => DAY,
    });
    if !(MINUTE..=365 * DAY).contains(&lease_seconds) {
        return Err(bad("lease_seconds", "60 (a minute) to 31536000 (a year)", &lease_seconds.to_string()));
    }
    let management = raw.role == Role::Management;
    let dhcp = raw.dhcp.unwrap_or(if management { DhcpMode::Authoritative } else { DhcpMode::Reservations });
    let (lowest, highest) = hosts(behind_relay.unwrap_or(address), prefix);
    let reservations = reservations(&raw, |ip| (lowest..=highest).contains(&ip))?;
    if let (DhcpMode::Off, Some(subnet)) = (dhcp, &raw.behind_relay) {
        // What a relay brings is all that is known of who has which address there.
        let expected = "\"reservations\", \"authoritative\" or \"proxy\" beside behind_relay: with \"off\" nobody listens to \
                        the relay, and no machine there would get its script; \"proxy\" is for somebody else's DHCP";
        return Err(bad("dhcp", expected, &format!("off, and behind_relay {subnet}")));
    }
    let served = !raw.interface.is_empty() || behind_relay.is_some();
    if raw.dhcp.is_some_and(|dhcp| dhcp != DhcpMode::Off) && !served {
        return Err(bad("dhcp", "an interface to serve it on, or behind_relay", "neither"));
    }
    let dhcp6 = six(&raw, (first, last))?;
    if let Some(server) = raw.dns6.first().filter(|_| dhcp6.is_none()) {
        return Err(bad("dns6", "none unless dhcp6 = \"reservations\"", &server.to_string()));
    }
    let advertises = !raw.interface.is_empty()
        && !management
        && (dhcp6.is_some() || matches!(dhcp, DhcpMode::Authoritative | DhcpMode::Reservations));
    if raw.router_advertisements == Some(true) && !advertises {
        let expected =
            "none, or false, but on an interface where machines boot and DHCP or DHCPv6 is rackd's";
        return Err(bad("router_advertisements", expected, "true"));
    }
    let router_advertisements = raw.router_advertisements.unwrap_or(true);
    let guests = raw.guests.as_deref().map(|text| range("guests", text)).transpose()?;
    match (dhcp, guests) {
        (_, Some(_)) if management => {
            let expected = "none where role = \"management\": its pool is for every BMC";
            return Err(bad("guests", expected, raw.guests.as_deref().unwrap_or_default()));
        }
        (DhcpMode::Authoritative, None) if management => {}
        (DhcpMode::Proxy, _) if management => {
            return Err(bad("dhcp", "no proxy where role = \"management\": nobody boots there", "proxy"));
        }
        (DhcpMode::Authoritative, None) => {
            return Err(bad("guests", "first-last, addresses for machines that rackd does not know", "none"));
        }
        (DhcpMode::Authoritative, Some((low, high))) if low <= last && first <= high => {
            return Err(bad("guests", "addresses that are not in pool", &format!("{low}-{high}")));
        }
        (DhcpMode::Authoritative, Some(_)) | (_, None) => {}
        (_, Some(_)) => {
            return Err(bad(
                "guests",
                "none unless dhcp = \"authoritative\"",
                raw.guests.as_deref().unwrap_or_default(),
            ));
        }
    }
    Ok(SegmentConfig {
        name: raw.name,
        role: raw.role,
        interface: raw.interface,
        address,
        behind_relay,
        prefix,
        gateway: raw.gateway,
        dns: raw.dns,
        dns6: raw.dns6,
        domain: raw.domain,
        lease_seconds,
        dhcp,
        dhcp6,
        guests,
        pool: (first, last),
        conflict_check: raw.conflict_check,
        router_advertisements,
        reservations,
    })
}

/// BMCs and their addresses.
fn reservations(
    raw: &RawSegment,
    inside: impl Fn(Ipv4Addr) -> bool,
) -> Result<Vec<(MacAddr, Ipv4Addr)>, BadConfig> {
    let bad = |expected, seen: &str| bad(&raw.name, "reservations", expected, seen);
    let ours = network(&raw.address).map(|(address, _)| address);
    let mut out: Vec<(MacAddr, Ipv4Addr)> = Vec::new();
    for (text, ip) in &raw.reservations {
        if raw.role != Role::Management {
            return Err(bad("none unless role = \"management\": nodes have theirs by themselves", text));
        }
        let mac = text.parse().map_err(|_| bad("MAC addresses such as 52:54:00:00:00:01", text))?;
        if !inside(*ip) || [ours, raw.gateway].contains(&Some(*ip)) {
            let expected = "addresses of the subnet that are neither its first or last, nor rackd's own, nor the gateway";
            return Err(bad(expected, &ip.to_string()));
        }
        if out.iter().any(|(other, had)| *other == mac || had == ip) {
            return Err(bad("each BMC and each address once", &format!("{mac} {ip} again")));
        }
        out.push((mac, *ip));
    }
    Ok(out)
}

fn six(raw: &RawSegment, (first, last): (Ipv4Addr, Ipv4Addr)) -> Result<Option<Dhcp6>, BadConfig> {
    let seen = raw.address6.as_deref().unwrap_or("none");
    if let Some(text) = raw.behind_relay6.as_ref().filter(|_| raw.dhcp6 == Dhcp6Mode::Off) {
        return Err(bad(&raw.name, "behind_relay6", "none unless dhcp6 = \"reservations\"", text));
    }
    let bad = |key, expected| bad(&raw.name, key, expected, seen);
    match (raw.dhcp6, &raw.address6) {
        (Dhcp6Mode::Reservations, _) if raw.role == Role::Management => {
            return Err(bad("dhcp6", "\"off\" where role = \"management\": nobody boots there"));
        }
        (Dhcp6Mode::Off, None) => return Ok(None),
        (Dhcp6Mode::Off, Some(_)) => return Err(bad("address6", "none unless dhcp6 = \"reservations\"")),
        (Dhcp6Mode::Reservations, _) if raw.interface.is_empty() && raw.behind_relay.is_none() => {
            return Err(bad("dhcp6", "\"off\" without an interface to serve it on, and no behind_relay"));
        }
        (Dhcp6Mode::Reservations, _) => {}
    }
    let parsed = seen.split_once('/').and_then(|(address, prefix)| {
        let (server_ip, prefix) = (address.parse::<Ipv6Addr>().ok()?, prefix.parse::<u8>().ok()?);
        let global = !server_ip.is_multicast() && !server_ip.is_unicast_link_local();
        (global && (32..=96).contains(&prefix)).then_some(Dhcp6::new(server_ip, prefix))
    });
    let far = six_behind(raw)?;
    let expected = "rackd's global address and a prefix of 32 to 96, such as 2001:db8:90::1/64";
    let mut six = parsed.ok_or_else(|| bad("address6", expected))?;
    if let Some((subnet, prefix)) = far {
        (six.behind_relay, six.prefix) = (Some(subnet), prefix);
    }
    let taken = six.ipv4(six.server_ip).is_some_and(|ip| (first..=last).contains(&ip));
    if taken {
        return Err(bad(
            "address6",
            "an address whose last 32 bits are none of pool: they are the machines'",
        ));
    }
    Ok(Some(six))
}

/// The machines' subnet of IPv6, where there is one behind a relay.
fn six_behind(raw: &RawSegment) -> Result<Option<(Ipv6Addr, u8)>, BadConfig> {
    let bad = |expected, seen: &str| bad(&raw.name, "behind_relay6", expected, seen);
    match (&raw.behind_relay, &raw.behind_relay6) {
        (None, None) => Ok(None),
        (None, Some(text)) => Err(bad("none unless behind_relay is there", text)),
        (Some(_), None) => {
            Err(bad("the subnet of IPv6 beside behind_relay and dhcp6 = \"reservations\"", "none"))
        }
        (Some(_), Some(text)) => {
            let parsed = text.split_once('/').and_then(|(subnet, prefix)| {
                let (subnet, prefix) = (subnet.parse::<Ipv6Addr>().ok()?, prefix.parse::<u8>().ok()?);
                let global = !subnet.is_multicast() && !subnet.is_unicast_link_local();
                (global && (32..=96).contains(&prefix)).then_some((subnet, prefix))
            });
            parsed.map(Some).ok_or_else(|| {
                bad("a global subnet with a prefix of 32 to 96, such as 2001:db8:92::/64", text)
            })
        }
    }
}

fn bad(segment: &str, key: &str, expected: &'static str, seen: &str) -> BadConfig {
    BadConfig::Value { key: format!("segment {segment}: {key}"), expected, seen: seen.to_owned() }
}

const fn yes() -> bool {
    true
}

/// Labels of at most 63 with dots between them (RFC 1035 section 2.3.1).
fn is_domain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(farrier_model::is_label)
}

const MINUTE: u32 = 60;
/// Ramdisks stay for minutes.
const HOUR: u32 = 3600;
/// Systems that run lose their address when rackd is away for longer than half of this.
const DAY: u32 = 86_400;

/// An address and the length of its prefix.
fn network(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    Some((address.parse().ok()?, prefix.parse().ok().filter(|p| (8..=30).contains(p))?))
}

/// The first and the last address that a machine may have: a subnet's lowest is its own, its highest everybody's (RFC 1122
/// section 3.2.1.3).
fn hosts(subnet: Ipv4Addr, prefix: u8) -> (Ipv4Addr, Ipv4Addr) {
    let mask = u32::MAX << (32 - u32::from(prefix));
    let (lowest, highest) = (subnet.to_bits() & mask, subnet.to_bits() | !mask);
    (Ipv4Addr::from_bits(lowest.saturating_add(1)), Ipv4Addr::from_bits(highest.saturating_sub(1)))
}

fn same_subnet(one: Ipv4Addr, other: Ipv4Addr, prefix: u8) -> bool {
    let mask = u32::MAX << (32 - u32::from(prefix));
    one.to_bits() & mask == other.to_bits() & mask
}
