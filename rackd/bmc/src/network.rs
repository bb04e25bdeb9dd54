//! Capability: how the BMC itself is in the network.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use async_trait::async_trait;

use crate::{Bmc, BmcError, Capability, Deadline};

/// Reads the BMC's own interfaces.
#[async_trait]
pub trait ReadNetwork: Send + Sync {
    /// As the BMC tells them.
    async fn network(&self, deadline: Deadline) -> Result<BmcNetwork, BmcError>;
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BmcNetwork {
    /// As many as there are.
    pub interfaces: Vec<NetworkInterface>,
    /// What is missing, and why.
    pub warnings: Vec<String>,
}

/// One of them; what is not told is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkInterface {
    /// The BMC's word for it.
    pub name: String,
    /// Of six bytes.
    pub mac: Option<[u8; 6]>,
    /// Its address, IPv4.
    pub address: Option<Ipv4Addr>,
    /// Of its network.
    pub subnet_mask: Option<Ipv4Addr>,
    /// The way out.
    pub gateway: Option<Ipv4Addr>,
    /// Where the address is from.
    pub source: Option<AddressSource>,
    /// The VLAN that its frames are tagged with.
    pub vlan: Option<u16>,
    /// Its addresses, IPv6.
    pub ipv6: Vec<Ipv6Addr>,
}

/// Where an address is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressSource {
    /// Somebody has said it.
    Static,
    /// A server has.
    Dhcp,
    /// The machine's firmware has.
    Bios,
    /// Something else.
    Other,
}

impl AddressSource {
    /// In a word, also part of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Dhcp => "dhcp",
            Self::Bios => "bios",
            Self::Other => "other",
        }
    }
}

impl Bmc {
    /// Adds the BMC's own network.
    #[must_use]
    pub fn with_network(mut self, network: Arc<dyn ReadNetwork>) -> Self {
        self.network = Some((self.driver(), network));
        self
    }

    /// See [`ReadNetwork::network`].
    pub async fn network(&self, deadline: Deadline) -> Result<BmcNetwork, BmcError> {
        self.either(Capability::Network, |bmc| async move {
            bmc.give(&bmc.network, Capability::Network)?.network(deadline).await
        })
        .await
    }
}
