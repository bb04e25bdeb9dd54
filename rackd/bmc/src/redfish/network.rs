//! The BMC's own interfaces (DSP0268: Manager `EthernetInterfaces`, EthernetInterface).

use std::net::{Ipv4Addr, Ipv6Addr};

use async_trait::async_trait;
use serde_json::Value;

use super::document::Document;
use super::driver::{DRIVER, RedfishBmc, optional};
use super::link::Link;
use crate::actor::Call;
use crate::{AddressSource, BmcError, BmcNetwork, Capability, Deadline, NetworkInterface, ReadNetwork};

#[async_trait]
impl ReadNetwork for RedfishBmc {
    async fn network(&self, deadline: Deadline) -> Result<BmcNetwork, BmcError> {
        self.read(&self.kept.reads.network, deadline, |link, call| Box::pin(link.network(call))).await
    }
}

impl Link {
    async fn network(&mut self, call: &mut Call) -> Result<BmcNetwork, BmcError> {
        let absent = BmcError::Unsupported { driver: DRIVER, capability: Capability::Network.as_str() };
        let (_, system) = self.system(call).await?;
        let Some((_, manager)) = self.manager(call, &system).await? else { return Err(absent) };
        let Some(collection) = manager.link("EthernetInterfaces") else { return Err(absent) };
        let members = self.get(call, &collection).await?.links("Members", self.tuning.max_members);
        let mut network = BmcNetwork::default();
        for member in members {
            let document = self.get(call, &member).await;
            if let Some(document) = optional(document, &mut network.warnings, member.as_str())? {
                network.interfaces.push(interface(&document));
            }
        }
        Ok(network)
    }
}

pub(super) fn interface(document: &Document) -> NetworkInterface {
    let first = document.parts("IPv4Addresses", 1).pop().unwrap_or_default();
    let ipv4 = |path: &str| {
        first.text(path).and_then(|text| text.parse::<Ipv4Addr>().ok()).filter(|ip| !ip.is_unspecified())
    };
    let ipv6 = document.parts("IPv6Addresses", MOST_ADDRESSES).into_iter();
    let tagged = document.at("VLAN/VLANEnable").and_then(Value::as_bool) == Some(true);
    NetworkInterface {
        name: document.text("Id").unwrap_or_default(),
        mac: document
            .text("MACAddress")
            .or_else(|| document.text("PermanentMACAddress"))
            .and_then(|text| mac(&text)),
        address: ipv4("Address"),
        subnet_mask: ipv4("SubnetMask"),
        gateway: ipv4("Gateway"),
        source: match first.text("AddressOrigin").as_deref() {
            Some("Static") => Some(AddressSource::Static),
            Some("DHCP" | "BOOTP") => Some(AddressSource::Dhcp),
            Some(_) => Some(AddressSource::Other),
            None => None,
        },
        vlan: document.number("VLAN/VLANId").and_then(|id| u16::try_from(id).ok()).filter(|_| tagged),
        ipv6: ipv6.filter_map(|one| one.text("Address")?.parse::<Ipv6Addr>().ok()).collect(),
    }
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes = text.split([':', '-']).map(|byte| u8::from_str_radix(byte, 16).ok());
    bytes.collect::<Option<Vec<_>>>()?.try_into().ok()
}

/// Of one interface.
const MOST_ADDRESSES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_read_as_far_as_it_says_something() {
        let read = |text: &str| interface(&Document::parse(text.as_bytes(), None).unwrap());
        let whole = read(
            r#"{"Id": "eth0", "MACAddress": "02:bc:0A:0b:0c:0d", "VLAN": {"VLANEnable": true, "VLANId": 100},
                "IPv4Addresses": [{"Address": "192.0.2.7", "SubnetMask": "255.255.255.0", "Gateway": "192.0.2.1",
                "AddressOrigin": "DHCP"}], "IPv6Addresses": [{"Address": "fe80::1"}, {"Address": "x"}, 7]}"#,
        );
        assert_eq!((whole.name.as_str(), whole.mac), ("eth0", Some([2, 0xBC, 10, 11, 12, 13])));
        assert_eq!(
            (whole.address, whole.gateway),
            (Some([192, 0, 2, 7].into()), Some([192, 0, 2, 1].into()))
        );
        assert_eq!((whole.source, whole.vlan, whole.ipv6.len()), (Some(AddressSource::Dhcp), Some(100), 1));
        let poor = read(
            r#"{"IPv4Addresses": [{"Address": "0.0.0.0"}], "VLAN": {"VLANEnable": false, "VLANId": 1}}"#,
        );
        assert_eq!(poor, NetworkInterface::default());
    }
}
