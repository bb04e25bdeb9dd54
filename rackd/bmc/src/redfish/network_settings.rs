//! Changes of the BMC's own interfaces (DSP0268 EthernetInterface): one PATCH, so that all of it is taken or none.

use std::net::IpAddr;

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::document::{Document, Path};
use super::driver::{DRIVER, RedfishBmc, optional};
use super::link::Link;
use super::network::interface;
use crate::actor::Call;
use crate::{BmcError, Capability, Deadline, NetworkInterface, NetworkSettings, NewAddress, SetNetwork};

#[async_trait]
impl SetNetwork for RedfishBmc {
    async fn set_network(&self, wanted: &NetworkSettings, deadline: Deadline) -> Result<(), BmcError> {
        let wanted = wanted.clone();
        self.call(deadline, move |link, call| Box::pin(link.set_network(call, wanted))).await
    }

    async fn settle_network(
        &self,
        wanted: &NetworkSettings,
        deadline: Deadline,
    ) -> Result<NetworkInterface, BmcError> {
        let wanted = wanted.clone();
        self.call(deadline, move |link, call| {
            Box::pin(async move {
                let (_, document) = link.own_interface(call, &wanted.interface).await?;
                interface(&document).settled(link.address.addr, &wanted)
            })
        })
        .await
    }
}

impl Link {
    async fn set_network(&mut self, call: &mut Call, wanted: NetworkSettings) -> Result<(), BmcError> {
        let (path, document) = self.own_interface(call, &wanted.interface).await?;
        if interface(&document).is_as(&wanted) {
            return Ok(());
        }
        let body = change(&document, &wanted)
            .map_err(|capability| BmcError::Unsupported { driver: DRIVER, capability })?;
        let etag = document.etag.clone();
        match self.patch_once(call, &path, &body, etag, "a change of its own network settings").await {
            Ok((_, answer)) if answer.status.is_success() => Ok(()),
            Ok((ask, answer)) => Err(self.refused(&ask, &answer)),
            // It is elsewhere already, or it is not: who looks there knows.
            Err(BmcError::AnswerLost { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The interface of this name, or where none is named the one with the address that the BMC is asked at, or its only one.
    async fn own_interface(&mut self, call: &mut Call, name: &str) -> Result<(Path, Document), BmcError> {
        let absent = BmcError::Unsupported { driver: DRIVER, capability: Capability::SetNetwork.as_str() };
        let (_, system) = self.system(call).await?;
        let Some((_, manager)) = self.manager(call, &system).await? else { return Err(absent) };
        let Some(collection) = manager.link("EthernetInterfaces") else { return Err(absent) };
        let members = self.get(call, &collection).await?.links("Members", self.tuning.max_members);
        let mut all = Vec::new();
        for member in members {
            let document = self.get(call, &member).await;
            all.extend(
                optional(document, &mut Vec::new(), member.as_str())?.map(|document| (member, document)),
            );
        }
        let here = self.address.addr.ip();
        let offered = all.iter().map(|(_, document)| id(document)).collect();
        let is_it = |document: &Document| match name {
            "" => interface(document).address.map(IpAddr::V4) == Some(here),
            name => id(document) == name,
        };
        let is_only = name.is_empty() && all.len() == 1;
        let found = all.into_iter().find(|(_, document)| is_only || is_it(document));
        found.ok_or_else(|| BmcError::NotListed {
            addr: self.address.addr,
            what: "network interface",
            wanted: if name.is_empty() { here.to_string() } else { name.to_owned() },
            offered,
        })
    }
}

fn id(document: &Document) -> String {
    document.text("Id").unwrap_or_default()
}

/// What is written of an interface; what it has no word for is an error.
fn change(document: &Document, wanted: &NetworkSettings) -> Result<Value, &'static str> {
    let mut body = Map::new();
    // Before v1.4 (2018.1) there was one list, in which each address says where it is from.
    let is_old = document.at("DHCPv4").is_none() && document.at("IPv4StaticAddresses").is_none();
    match wanted.address {
        None => {}
        Some(NewAddress::Static(address)) => {
            let mut part = json!({
                "Address": address.address().to_string(), "SubnetMask": address.subnet_mask().to_string(),
            });
            // Many insist on the property: the one that it has, where that is of the network.
            let own = interface(document).gateway.filter(|gateway| address.takes_gateway(*gateway));
            let gateway = address.gateway().or(own);
            if let (Some(gateway), Some(part)) = (gateway, part.as_object_mut()) {
                part.insert("Gateway".to_owned(), gateway.to_string().into());
            }
            if is_old {
                if let Some(part) = part.as_object_mut() {
                    part.insert("AddressOrigin".to_owned(), "Static".into());
                }
                body.insert("IPv4Addresses".to_owned(), json!([part]));
            } else {
                body.insert("DHCPv4".to_owned(), json!({ "DHCPEnabled": false }));
                body.insert("IPv4StaticAddresses".to_owned(), json!([part]));
            }
        }
        Some(NewAddress::Dhcp) if is_old => {
            body.insert("IPv4Addresses".to_owned(), json!([{ "AddressOrigin": "DHCP" }]));
        }
        Some(NewAddress::Dhcp) => {
            body.insert("DHCPv4".to_owned(), json!({ "DHCPEnabled": true }));
        }
    }
    if let Some(vlan) = wanted.vlan {
        if document.at("VLAN").is_none() {
            return Err("VLAN of the BMC itself");
        }
        let vlan = match vlan {
            Some(id) => json!({ "VLANEnable": true, "VLANId": id }),
            None => json!({ "VLANEnable": false }),
        };
        body.insert("VLAN".to_owned(), vlan);
    }
    Ok(Value::Object(body))
}

#[cfg(test)]
mod tests {
    use farrier_model::StaticAddress;

    use super::*;

    fn of(document: &str, wanted: &NetworkSettings) -> Result<Value, &'static str> {
        change(&Document::parse(document.as_bytes(), None).unwrap(), wanted)
    }

    #[test]
    fn a_change_is_written_in_the_words_that_the_interface_has() {
        let address = StaticAddress::new([192, 0, 2, 7].into(), [255, 255, 255, 0].into(), None).unwrap();
        let fixed = NetworkSettings {
            address: Some(NewAddress::Static(address)),
            vlan: Some(Some(100)),
            ..NetworkSettings::default()
        };
        let new = r#"{"DHCPv4": {"DHCPEnabled": true}, "IPv4StaticAddresses": [], "VLAN": {"VLANEnable": false},
            "IPv4Addresses": [{"Address": "192.0.2.90", "Gateway": "192.0.2.1", "AddressOrigin": "DHCP"}]}"#;
        let part = json!({ "Address": "192.0.2.7", "SubnetMask": "255.255.255.0", "Gateway": "192.0.2.1" });
        assert_eq!(
            of(new, &fixed).unwrap(),
            json!({ "DHCPv4": { "DHCPEnabled": false }, "IPv4StaticAddresses": [part],
                "VLAN": { "VLANEnable": true, "VLANId": 100 } })
        );
        let dhcp = NetworkSettings {
            address: Some(NewAddress::Dhcp),
            vlan: Some(None),
            ..NetworkSettings::default()
        };
        assert_eq!(
            of(new, &dhcp).unwrap(),
            json!({ "DHCPv4": { "DHCPEnabled": true }, "VLAN": { "VLANEnable": false } })
        );
        let old = r#"{"IPv4Addresses": [{"Address": "192.0.2.90"}]}"#;
        assert_eq!(of(old, &fixed), Err("VLAN of the BMC itself"));
        let fixed = NetworkSettings { vlan: None, ..fixed };
        assert_eq!(
            of(old, &fixed).unwrap(),
            json!({ "IPv4Addresses":
                [{ "Address": "192.0.2.7", "SubnetMask": "255.255.255.0", "AddressOrigin": "Static" }] })
        );
        assert_eq!(
            of(old, &NetworkSettings { vlan: None, ..dhcp }).unwrap(),
            json!({ "IPv4Addresses": [{ "AddressOrigin": "DHCP" }] })
        );
    }
}
