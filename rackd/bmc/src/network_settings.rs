//! Capability: the BMC's own place in the network is changed.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use farrier_model::StaticAddress;

use crate::{AddressSource, Bmc, BmcError, Capability, Deadline, NetworkInterface};

/// Changes one of the BMC's own interfaces. It is mostly the one that the BMC is asked through, which is why there are two calls:
/// the first goes to where the BMC is, the second to where it is then.
#[async_trait]
pub trait SetNetwork: Send + Sync {
    /// Has the BMC take the settings; those that are as they should be are not written. `Ok` says that it took them, or that the
    /// answer to the last of them did not come, as from a BMC that is elsewhere now: [`SetNetwork::settle_network`] knows.
    /// Whoever gets an error is told what is not as it was.
    async fn set_network(&self, wanted: &NetworkSettings, deadline: Deadline) -> Result<(), BmcError>;

    /// Ends the change, by a handle with the address that the BMC has after it, and reads the interface back. Idempotent.
    async fn settle_network(
        &self,
        wanted: &NetworkSettings,
        deadline: Deadline,
    ) -> Result<NetworkInterface, BmcError>;
}

/// What shall be so; what is not said stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSettings {
    /// The BMC's word for the interface; empty: the one that it is asked through, or its only one.
    pub interface: String,
    /// Where its IPv4 address comes from.
    pub address: Option<NewAddress>,
    /// The VLAN that its frames are tagged with; `Some(None)`: they are not.
    pub vlan: Option<Option<u16>>,
}

/// An IPv4 address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewAddress {
    /// A server says it.
    Dhcp,
    /// This one.
    Static(StaticAddress),
}

impl NetworkSettings {
    /// Whether an interface is so. A source or a mask that a BMC does not tell is not held against it; a gateway is: there is
    /// none then.
    pub(crate) fn is_kept(&self, seen: &NetworkInterface) -> bool {
        let from = match self.address {
            None => true,
            Some(NewAddress::Dhcp) => seen.source.is_none_or(|source| source == AddressSource::Dhcp),
            Some(NewAddress::Static(wanted)) => {
                seen.source != Some(AddressSource::Dhcp)
                    && seen.address == Some(wanted.address())
                    && seen.subnet_mask.is_none_or(|mask| mask == wanted.subnet_mask())
                    && wanted.gateway().is_none_or(|gateway| seen.gateway == Some(gateway))
            }
        };
        from && self.vlan.is_none_or(|vlan| seen.vlan == vlan)
    }

    /// The interface, if it is so.
    pub(crate) fn settled(
        &self,
        addr: std::net::SocketAddr,
        seen: NetworkInterface,
    ) -> Result<NetworkInterface, BmcError> {
        if self.is_kept(&seen) {
            return Ok(seen);
        }
        let (expected, seen) = (self.to_string(), seen.to_string());
        Err(BmcError::NotApplied { addr, what: "its own network settings", expected, seen })
    }
}

impl fmt::Display for NetworkSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        words.extend(self.address.map(|address| match address {
            NewAddress::Dhcp => "address by DHCP".to_owned(),
            NewAddress::Static(address) => format!("address {address}"),
        }));
        words.extend(self.vlan.map(vlan_words));
        f.write_str(if words.is_empty() { "nothing" } else { "" })?;
        f.write_str(&words.join(", "))
    }
}

impl fmt::Display for NetworkInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |told: Option<std::net::Ipv4Addr>| told.map_or("none".to_owned(), |ip| ip.to_string());
        let source = self.source.map_or("unknown", AddressSource::as_str);
        let (address, mask, gateway) = (told(self.address), told(self.subnet_mask), told(self.gateway));
        let vlan = vlan_words(self.vlan);
        write!(f, "address {address} ({source}), subnet mask {mask}, gateway {gateway}, {vlan}")
    }
}

fn vlan_words(vlan: Option<u16>) -> String {
    vlan.map_or("no VLAN".to_owned(), |vlan| format!("VLAN {vlan}"))
}

impl Bmc {
    /// Adds changes of the BMC's own network.
    #[must_use]
    pub fn with_network_settings(mut self, settings: Arc<dyn SetNetwork>) -> Self {
        self.network_settings = Some((self.driver(), settings));
        self
    }

    /// See [`SetNetwork::set_network`].
    pub async fn set_network(&self, wanted: &NetworkSettings, deadline: Deadline) -> Result<(), BmcError> {
        self.either(Capability::SetNetwork, |bmc| async move {
            bmc.give(&bmc.network_settings, Capability::SetNetwork)?.set_network(wanted, deadline).await
        })
        .await
    }

    /// See [`SetNetwork::settle_network`].
    pub async fn settle_network(
        &self,
        wanted: &NetworkSettings,
        deadline: Deadline,
    ) -> Result<NetworkInterface, BmcError> {
        self.either(Capability::SetNetwork, |bmc| async move {
            bmc.give(&bmc.network_settings, Capability::SetNetwork)?.settle_network(wanted, deadline).await
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_what_is_read_back_and_what_is_not_told_is_believed() {
        let address =
            StaticAddress::new([192, 0, 2, 7].into(), [255, 255, 255, 0].into(), Some([192, 0, 2, 1].into()));
        let wanted = NetworkSettings {
            address: Some(NewAddress::Static(address.unwrap())),
            vlan: Some(Some(100)),
            ..NetworkSettings::default()
        };
        assert_eq!(wanted.to_string(), "address 192.0.2.7/24 via 192.0.2.1, VLAN 100");
        let good = NetworkInterface {
            address: Some([192, 0, 2, 7].into()),
            subnet_mask: Some([255, 255, 255, 0].into()),
            gateway: Some([192, 0, 2, 1].into()),
            source: Some(AddressSource::Static),
            vlan: Some(100),
            ..NetworkInterface::default()
        };
        let bare = NetworkInterface { subnet_mask: None, source: None, ..good.clone() };
        assert!(wanted.is_kept(&good) && wanted.is_kept(&bare));
        for bad in [
            NetworkInterface { address: Some([192, 0, 2, 8].into()), ..good.clone() },
            NetworkInterface { subnet_mask: Some([255, 255, 0, 0].into()), ..good.clone() },
            NetworkInterface { gateway: None, ..good.clone() },
            NetworkInterface { source: Some(AddressSource::Dhcp), ..good.clone() },
            NetworkInterface { vlan: None, ..good.clone() },
        ] {
            let error = wanted.settled(([192, 0, 2, 7], 623).into(), bad.clone()).unwrap_err();
            assert!(error.to_string().contains(&format!("seen {bad}")), "{error}");
        }
        let dhcp = NetworkSettings {
            address: Some(NewAddress::Dhcp),
            vlan: Some(None),
            ..NetworkSettings::default()
        };
        assert!(!dhcp.is_kept(&good));
        assert!(dhcp.is_kept(&NetworkInterface { source: Some(AddressSource::Dhcp), vlan: None, ..good }));
    }
}
