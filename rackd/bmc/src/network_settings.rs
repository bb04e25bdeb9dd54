//! Capability: the BMC's own place in the network is changed.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

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
pub use farrier_model::bmc_place::{BmcPlace as NetworkSettings, NewAddress};

impl NetworkInterface {
    /// Whether it is as somebody wants it. A source or a mask that a BMC does not tell is not held against it; a gateway is: there is
    /// none then.
    pub(crate) fn is_as(&self, wanted: &NetworkSettings) -> bool {
        let from = match wanted.address {
            None => true,
            Some(NewAddress::Dhcp) => self.source.is_none_or(|source| source == AddressSource::Dhcp),
            Some(NewAddress::Static(wanted)) => {
                self.source != Some(AddressSource::Dhcp)
                    && self.address == Some(wanted.address())
                    && self.subnet_mask.is_none_or(|mask| mask == wanted.subnet_mask())
                    && wanted.gateway().is_none_or(|gateway| self.gateway == Some(gateway))
            }
        };
        from && wanted.vlan.is_none_or(|vlan| self.vlan == vlan)
    }

    /// Itself, if it is so.
    pub(crate) fn settled(
        self,
        addr: std::net::SocketAddr,
        wanted: &NetworkSettings,
    ) -> Result<Self, BmcError> {
        if self.is_as(wanted) {
            return Ok(self);
        }
        let (expected, seen) = (wanted.to_string(), self.to_string());
        Err(BmcError::NotApplied { addr, what: "its own network settings", expected, seen })
    }
}

impl fmt::Display for NetworkInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |told: Option<std::net::Ipv4Addr>| told.map_or("none".to_owned(), |ip| ip.to_string());
        let source = self.source.map_or("unknown", AddressSource::as_str);
        let (address, mask, gateway) = (told(self.address), told(self.subnet_mask), told(self.gateway));
        let vlan = self.vlan.map_or("no VLAN".to_owned(), |vlan| format!("VLAN {vlan}"));
        write!(f, "address {address} ({source}), subnet mask {mask}, gateway {gateway}, {vlan}")
    }
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
    use farrier_model::StaticAddress;

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
        assert!(good.is_as(&wanted) && bare.is_as(&wanted));
        for bad in [
            NetworkInterface { address: Some([192, 0, 2, 8].into()), ..good.clone() },
            NetworkInterface { subnet_mask: Some([255, 255, 0, 0].into()), ..good.clone() },
            NetworkInterface { gateway: None, ..good.clone() },
            NetworkInterface { source: Some(AddressSource::Dhcp), ..good.clone() },
            NetworkInterface { vlan: None, ..good.clone() },
        ] {
            let error = bad.clone().settled(([192, 0, 2, 7], 623).into(), &wanted).unwrap_err();
            assert!(error.to_string().contains(&format!("seen {bad}")), "{error}");
        }
        let dhcp = NetworkSettings {
            address: Some(NewAddress::Dhcp),
            vlan: Some(None),
            ..NetworkSettings::default()
        };
        assert!(!good.is_as(&dhcp));
        assert!(NetworkInterface { source: Some(AddressSource::Dhcp), vlan: None, ..good }.is_as(&dhcp));
    }
}
