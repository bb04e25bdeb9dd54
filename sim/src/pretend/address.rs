//! Which address a pretend node takes.

use std::net::Ipv4Addr;

/// The address that rackd's journal gives `mac` first in a pool: the last two bytes of the MAC choose it.
///
/// A pretend rack has no DHCP, so both ends reckon. They agree as long as no two MACs of a pool mean
/// the same address: give machines MACs in a row, no more of them than addresses.
#[must_use]
pub fn address(mac: [u8; 6], pool: (Ipv4Addr, Ipv4Addr)) -> Ipv4Addr {
    let (first, last) = (pool.0.to_bits(), pool.1.to_bits());
    let [.., high, low] = mac;
    let size = last.saturating_sub(first).saturating_add(1);
    let offset = u32::from(u16::from_be_bytes([high, low])).checked_rem(size).unwrap_or(0);
    Ipv4Addr::from_bits(first.saturating_add(offset))
}

/// `02:fa:…` (locally administered) with `index` in its last two bytes.
#[must_use]
pub fn mac(index: u16) -> [u8; 6] {
    let [high, low] = index.to_be_bytes();
    [0x02, 0xfa, 0, 0, high, low]
}

/// With colons, lower case.
pub(super) fn colons(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// As iPXE's `${mac:hexhyp}` writes it.
pub(super) fn hyphens(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_in_a_row_have_addresses_in_a_row() {
        let pool = (Ipv4Addr::new(127, 77, 0, 10), Ipv4Addr::new(127, 77, 0, 19));
        assert_eq!(address(mac(0), pool), Ipv4Addr::new(127, 77, 0, 10));
        assert_eq!(address(mac(9), pool), Ipv4Addr::new(127, 77, 0, 19));
        // 0x0102 is 258.
        assert_eq!(address(mac(0x0102), pool), Ipv4Addr::new(127, 77, 0, 18));
        assert_eq!(hyphens(mac(0x0102)), "02-fa-00-00-01-02");
    }
}
