//! What rackd's DHCP server gave, and would give, as the API says it.

use farrier_netboot::{Boot, BootEntry, BootTable, LeaseKind};
use farrier_proto::rack::{Lease, LeaseKind as Kind, Reservation, ReservedBoot};
use farrier_runtime::page::Page;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// Leases after the page's token, one more than the page has.
pub(super) fn leases(
    all: Vec<farrier_netboot::Lease>,
    table: &BootTable,
    network: &str,
    page: &Page,
) -> Vec<Lease> {
    let wanted = |lease: &farrier_netboot::Lease| wanted(page, network, &lease.network, lease.ip);
    all.into_iter().filter(wanted).take(page.size + 1).map(|one| lease(one, table)).collect()
}

/// Reservations after the page's token, one more than the page has.
pub(super) fn reservations(table: &BootTable, network: &str, page: &Page) -> Vec<Reservation> {
    let wanted = |entry: &&BootEntry| wanted(page, network, &entry.network, entry.ip);
    let mut entries: Vec<&BootEntry> = table.entries().map(AsRef::as_ref).filter(wanted).collect();
    entries.sort_by(|a, b| (&a.network, a.ip).cmp(&(&b.network, b.ip)));
    entries.into_iter().take(page.size + 1).map(|entry| reservation(entry, table)).collect()
}

/// What a page's token is made of: it sorts as network and address do. No name of a network has a blank.
pub(super) fn key(network: &str, ip: &str) -> String {
    let ip = ip.parse::<Ipv4Addr>().unwrap_or(Ipv4Addr::UNSPECIFIED);
    format!("{network} {:08x}", ip.to_bits())
}

fn wanted(page: &Page, asked: &str, network: &str, ip: Ipv4Addr) -> bool {
    let after = page.after.as_deref();
    (asked.is_empty() || asked == network)
        && after.is_none_or(|after| format!("{network} {:08x}", ip.to_bits()).as_str() > after)
}

fn lease(lease: farrier_netboot::Lease, table: &BootTable) -> Lease {
    let (kind, client_id) = match &lease.kind {
        LeaseKind::Reserved => (Kind::Reserved, String::new()),
        LeaseKind::Pool(client) => (Kind::Pool, hex(client.id().unwrap_or_default())),
        LeaseKind::Declined => (Kind::Declined, String::new()),
    };
    let entry = table.entry(lease.mac, &lease.network).filter(|_| lease.kind == LeaseKind::Reserved);
    Lease {
        ipv6_address: entry.map(|entry| six(entry, table)).unwrap_or_default(),
        network: lease.network,
        ip_address: lease.ip.to_string(),
        mac_address: lease.mac.to_string(),
        kind: kind.into(),
        node: entry.map(|entry| entry.node.clone()).unwrap_or_default(),
        client_id,
        expire_time: Some(lease.expires_at.into()),
    }
}

fn reservation(entry: &BootEntry, table: &BootTable) -> Reservation {
    let boot = match entry.boot {
        Boot::None => ReservedBoot::None,
        Boot::LocalDisk => ReservedBoot::LocalDisk,
        Boot::Script { .. } | Boot::Signed { .. } => ReservedBoot::Ramdisk,
        // What is waited for is that.
        Boot::San(_) | Boot::Wait => ReservedBoot::Iscsi,
    };
    Reservation {
        network: entry.network.clone(),
        ip_address: entry.ip.to_string(),
        mac_address: entry.mac.to_string(),
        node: entry.node.clone(),
        hostname: entry.hostname.clone(),
        boot: boot.into(),
        ipv6_address: six(entry, table),
    }
}

fn six(entry: &BootEntry, table: &BootTable) -> String {
    table.ipv6_of(entry).map(|ip| ip.to_string()).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_everything_once_in_the_order_of_addresses() {
        let mut table = BootTable::new();
        for (index, network) in ["b", "a", "a-b", "b", "a"].into_iter().enumerate() {
            let last = 9 + u8::try_from(index).unwrap() * 60;
            table.publish(BootEntry {
                mac: farrier_netboot::MacAddr([2, 0, 0, 0, 0, last]),
                node: "nodes/n".into(),
                hostname: String::new(),
                ip: [10, 0, 0, last].into(),
                network: network.into(),
                boot: Boot::None,
            });
        }
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let page = Page::parse(2, &token).unwrap();
            let rows = reservations(&table, "", &page);
            let (rows, next) = page.finish(rows, |row| key(&row.network, &row.ip_address));
            assert!(rows.len() <= 2);
            seen.extend(rows.into_iter().map(|row| format!("{} {}", row.network, row.ip_address)));
            token = next;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, ["a 10.0.0.69", "a 10.0.0.249", "a-b 10.0.0.129", "b 10.0.0.9", "b 10.0.0.189"]);
        let only = reservations(&table, "a-b", &Page::parse(0, "").unwrap());
        assert_eq!(only.len(), 1);
    }
}
