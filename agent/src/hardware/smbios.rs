//! SMBIOS structure 42, Management Controller Host Interface: where a BMC serves Redfish to its own machine.
//!
//! ```text
//! structure   type u8 | length u8 | handle u16 | formatted area | strings, each ended by 0, and one more 0   DSP0134 §6.1
//! type 42     interface type u8 | n u8 | interface data n | protocols u8 | records                          §7.43
//! record      protocol u8 | n u8 | data n                                                                    §7.43.2
//! Redfish     uuid 16 | assignment u8 | format u8 | ip 16 | mask 16 | discovery u8 | format u8 | ip 16 |
//!             mask 16 | port u16 | vlan u32 | n u8 | host name n                                             DSP0270 §8.2
//! ```
use super::{bytes, printable};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

const MANAGEMENT_CONTROLLER_HOST_INTERFACE: u8 = 42;
const END_OF_TABLE: u8 = 127;
/// DSP0134 table 140 and DSP0239: a network interface.
const NETWORK: u8 = 0x40;
/// DSP0270 table 6.
const REDFISH_OVER_IP: u8 = 4;

/// `host:port`; empty where there is none. The kernel shows the table to root.
pub fn redfish_host_interface(root: &Path) -> String {
    in_table(&bytes(&root.join("sys/firmware/dmi/tables/DMI"))).unwrap_or_default()
}

/// Of a whole SMBIOS table.
pub(super) fn in_table(mut table: &[u8]) -> Option<String> {
    while let Some([kind, length, ..]) = table.first_chunk::<4>().copied() {
        let (structure, strings) = table.split_at_checked(usize::from(length))?;
        if kind == END_OF_TABLE || length < 4 {
            return None;
        }
        if kind == MANAGEMENT_CONTROLLER_HOST_INTERFACE
            && let Some(found) = structure.get(4..).and_then(host_interface)
        {
            return Some(found);
        }
        let end = strings.windows(2).position(|two| two == [0, 0])?;
        table = strings.get(end + 2..)?;
    }
    None
}

fn host_interface(area: &[u8]) -> Option<String> {
    let ([kind, n], rest) = area.split_first_chunk::<2>()?;
    let (count, mut records) = rest.get(usize::from(*n)..)?.split_first()?;
    if *kind != NETWORK {
        return None;
    }
    for _ in 0..*count {
        let ([protocol, n], rest) = records.split_first_chunk::<2>()?;
        let (record, rest) = rest.split_at_checked(usize::from(*n))?;
        if *protocol == REDFISH_OVER_IP {
            return redfish(record);
        }
        records = rest;
    }
    None
}

/// By its address, or else by its name.
fn redfish(record: &[u8]) -> Option<String> {
    let format = *record.get(51)?;
    let ip: [u8; 16] = record.get(52..68)?.try_into().ok()?;
    let port = u16::from_le_bytes(record.get(84..86)?.try_into().ok()?);
    let port = if port == 0 { 443 } else { port };
    let name = record.get(90).and_then(|n| record.get(91..91 + usize::from(*n))).map(printable);
    let ip = match format {
        1 => ip.first_chunk::<4>().map(|ip| IpAddr::V4(Ipv4Addr::from(*ip))),
        2 => Some(IpAddr::V6(Ipv6Addr::from(ip))),
        _ => None,
    };
    match ip.filter(|ip| !ip.is_unspecified()) {
        Some(IpAddr::V6(ip)) => Some(format!("[{ip}]:{port}")),
        Some(IpAddr::V4(ip)) => Some(format!("{ip}:{port}")),
        None => name.filter(|name| !name.is_empty()).map(|name| format!("{name}:{port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Structures 1, 42 and 127 as DSP0134 has them; dmidecode 3.4 reads "IPv4 Redfish Service Address: 169.254.0.17",
    /// "Redfish Service Port: 443", "Redfish Service Hostname: idrac-SVC1" in it.
    const TABLE: &str = "011b0001010200000000000000000000000000000000000006000044656c6c20496e632e005236353000002a75002a40\
        07023c4102a1020101046544454c4c310010308052b4c04f4a35320101a9fe0012000000000000000000000000ffffff\
        000000000000000000000000000101a9fe0011000000000000000000000000ffffff00000000000000000000000000bb\
        01000000000a69647261632d5356433100007f04007f0000";

    fn table() -> Vec<u8> {
        hex::decode(TABLE).unwrap()
    }

    #[test]
    fn where_a_bmc_serves_redfish_to_its_machine_is_read() {
        assert_eq!(in_table(&table()).as_deref(), Some("169.254.0.17:443"));
        let at = table().windows(4).position(|four| four == [0xA9, 0xFE, 0, 0x11]).unwrap();
        let mut by_name = table();
        by_name[at..at + 4].fill(0);
        assert_eq!(in_table(&by_name).as_deref(), Some("idrac-SVC1:443"));
        // Interface type 2 is KCS.
        let mut other = table();
        let kind = other.iter().position(|byte| *byte == 0x40).unwrap();
        other[kind] = 2;
        assert_eq!(in_table(&other), None);
    }

    #[test]
    fn a_table_that_is_cut_or_changed_anywhere_does_no_harm() {
        for cut in 0..table().len() {
            in_table(&table()[..cut]);
            for byte in [0, 1, 0x2A, 0x7F, 0xFF] {
                let mut changed = table();
                changed[cut] = byte;
                in_table(&changed);
            }
        }
    }
}
