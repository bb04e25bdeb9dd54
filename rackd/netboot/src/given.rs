//! Who is given which boot script: it holds a per-boot secret, so it goes to the address of the machine and to nobody
//! else, whatever protocol asks.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Instant, SystemTime},
};

use crate::{Boot, BootEntry, BootTable, MacAddr, Segment, server::Shared};

/// What a machine boots.
pub(crate) struct Given {
    /// Its node, if it is in the table.
    pub(crate) node: Option<String>,
    pub(crate) boot: Boot,
    /// Where it finds the files: our address in its segment, of the family that it asks by, and the port of HTTP.
    pub(crate) server: SocketAddr,
}

/// What the machine `mac` boots, if `peer` is its address. One answer for "not known", "not yours" and "nothing to
/// boot": a neighbour learns nothing.
pub(crate) fn to(shared: &Shared, table: &BootTable, mac: MacAddr, peer: IpAddr) -> Option<Given> {
    let v6 = peer.to_canonical().is_ipv6();
    let peer = table.ipv4_of(peer)?;
    let known = table.entries_of(mac);
    // Beside another DHCP server it is the address that the machine was heard to take from it, or, on a link that is ours
    // too, that the machine answers ARP for: whoever could forge that could take a reserved address, too.
    let is_its = |segment: &Segment| {
        shared.heard.has(mac, peer)
            || (segment.is_on_link() && shared.neighbours.has(mac, peer, Instant::now()))
    };
    let foreign = |entry: &BootEntry| {
        let segment = table.segment(&entry.network).filter(|s| s.addresses_are_foreign() && s.contains(peer));
        segment.is_some_and(|segment| is_its(segment))
    };
    let server = |segment: &Segment| {
        let ours = if v6 { IpAddr::from(segment.dhcp6?.server_ip) } else { segment.server_ip.into() };
        Some(shared.config.boot_files.server(ours))
    };
    if let Some(entry) = known.iter().find(|e| e.ip == peer || foreign(e)) {
        let server = server(table.segment(&entry.network)?)?;
        return Some(Given { node: Some(entry.node.clone()), boot: entry.boot.clone(), server });
    }
    if !known.is_empty() {
        // Where DHCP is somebody else's this is how it is heard that it is there, and not where it is awaited.
        let here = table.segments().iter().find(|s| s.addresses_are_foreign() && s.contains(peer));
        if let Some(here) = here.filter(|here| table.entry(mac, &here.network).is_none() && is_its(here)) {
            shared.elsewhere.note(mac, &here.network);
        }
        return None;
    }
    // A machine that is not in the table, with an address of a pool.
    let lease = shared.config.leases.by_ip(peer, SystemTime::now()).filter(|lease| lease.mac == mac)?;
    let segment = table.segment(&lease.network)?;
    let boot = segment.pool.as_ref()?.boot.clone();
    Some(Given { node: None, boot, server: server(segment)? })
}
