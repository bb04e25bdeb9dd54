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

/// Of a network that never leaves the machine (DSP0270 §8.3): USB, and USB with more said of it.
const USB: [u8; 2] = [2, 4];

/// Where a BMC serves Redfish to its own machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostInterface {
    /// What the machine's end of it is.
    device: Option<u8>,
    ip: Option<IpAddr>,
    name: String,
    port: u16,
    /// 802.1q VLAN; 0: none.
    vlan: u32,
}

impl HostInterface {
    /// What the table of a machine has; the kernel shows it to root.
    #[must_use]
    pub fn read(root: &Path) -> Option<Self> {
        in_table(&bytes(&root.join("sys/firmware/dmi/tables/DMI")))
    }

    /// `host:port`, by its address, or else by its name.
    #[must_use]
    pub fn service(&self) -> String {
        let port = self.port;
        match self.ip {
            Some(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
            Some(IpAddr::V4(ip)) => format!("{ip}:{port}"),
            None => format!("{}:{port}", self.name),
        }
    }

    /// Its address, if others than the machine can have a way to it: no link of its own, neither by address (RFC 3927) nor by
    /// device.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        let Some(IpAddr::V4(ip)) = self.ip else { return None };
        let own_link = self.device.is_some_and(|device| USB.contains(&device)) || ip.is_link_local();
        let nobodys = ip.is_loopback() || ip.is_multicast() || ip.is_broadcast();
        (!own_link && !nobodys).then_some(ip)
    }

    /// Its VLAN; 0: none.
    #[must_use]
    pub fn vlan(&self) -> i32 {
        // IEEE 802.1Q table 9-2: twelve bits, without the first and the last.
        i32::try_from(self.vlan).ok().filter(|vlan| (1..0xFFF).contains(vlan)).unwrap_or(0)
    }
}

/// Of a whole SMBIOS table.
pub(super) fn in_table(mut table: &[u8]) -> Option<HostInterface> {
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

fn host_interface(area: &[u8]) -> Option<HostInterface> {
    let ([kind, n], rest) = area.split_first_chunk::<2>()?;
    let (data, rest) = rest.split_at_checked(usize::from(*n))?;
    let (count, mut records) = rest.split_first()?;
    if *kind != NETWORK {
        return None;
    }
    for _ in 0..*count {
        let ([protocol, n], rest) = records.split_first_chunk::<2>()?;
        let (record, rest) = rest.split_at_checked(usize::from(*n))?;
        if *protocol == REDFISH_OVER_IP {
            return redfish(data.first().copied(), record);
        }
        records = rest;
    }
    None
}

fn redfish(device: Option<u8>, record: &[u8]) -> Option<HostInterface> {
    let format = *record.get(51)?;
    let ip: [u8; 16] = record.get(52..68)?.try_into().ok()?;
    let port = u16::from_le_bytes(record.get(84..86)?.try_into().ok()?);
    let vlan = record.get(86..90).and_then(|vlan| vlan.try_into().ok()).map_or(0, u32::from_le_bytes);
    let name = record.get(90).and_then(|n| record.get(91..91 + usize::from(*n))).map(printable);
    let ip = match format {
        1 => ip.first_chunk::<4>().map(|ip| IpAddr::V4(Ipv4Addr::from(*ip))),
        2 => Some(IpAddr::V6(Ipv6Addr::from(ip))),
        _ => None,
    };
    let (ip, name) = (ip.filter(|ip| !ip.is_unspecified()), name.unwrap_or_default());
    let port = if port == 0 { 443 } else { port };
    (ip.is_some() || !name.is_empty()).then_some(HostInterface { device, ip, name, port, vlan })
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
        assert_eq!(service(&table()), "169.254.0.17:443");
        let at = table().windows(4).position(|four| four == [0xA9, 0xFE, 0, 0x11]).unwrap();
        let mut by_name = table();
        by_name[at..at + 4].fill(0);
        assert_eq!(service(&by_name), "idrac-SVC1:443");
        // Interface type 2 is KCS.
        let mut other = table();
        let kind = other.iter().position(|byte| *byte == 0x40).unwrap();
        other[kind] = 2;
        assert_eq!(in_table(&other), None);
    }

    fn service(table: &[u8]) -> String {
        in_table(table).map(|found| found.service()).unwrap_or_default()
    }

    /// That table with the machine's end of another kind, and the service at another address and VLAN.
    fn with(device: u8, ip: [u8; 4], vlan: u32) -> Vec<u8> {
        let mut table = table();
        let at = table.windows(4).position(|four| four == [0xA9, 0xFE, 0, 0x11]).unwrap();
        table[at..at + 4].copy_from_slice(&ip);
        // After address, mask and port (DSP0270 §8.2).
        table[at + 34..at + 38].copy_from_slice(&vlan.to_le_bytes());
        let kind = table.iter().position(|byte| *byte == 0x40).unwrap();
        table[kind + 2] = device;
        table
    }

    #[test]
    fn an_address_on_a_link_of_the_machines_own_is_nobodys_else() {
        let pci = 5;
        for (device, ip, expect) in [
            (pci, [10, 0, 9, 23], Some([10, 0, 9, 23])),
            (3, [192, 168, 7, 1], Some([192, 168, 7, 1])),
            (0x80, [10, 0, 9, 23], Some([10, 0, 9, 23])),
            // One vendor's virtual network card has this address in every machine.
            (2, [16, 1, 15, 1], None),
            (4, [10, 0, 9, 23], None),
            (pci, [169, 254, 0, 17], None),
            (pci, [127, 0, 0, 1], None),
            (pci, [224, 0, 0, 1], None),
            (pci, [255; 4], None),
        ] {
            let found = in_table(&with(device, ip, 0)).unwrap();
            assert_eq!((found.address(), found.vlan()), (expect.map(Ipv4Addr::from), 0), "{device} {ip:?}");
        }
        for (vlan, expect) in [(103, 103), (4094, 4094), (4095, 0), (u32::MAX, 0)] {
            assert_eq!(in_table(&with(pci, [10, 0, 9, 23], vlan)).unwrap().vlan(), expect);
        }
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
