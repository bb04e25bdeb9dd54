//! Capability: who the BMC is.

use async_trait::async_trait;

use crate::{BmcError, Deadline};

/// What a BMC says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BmcIdentity {
    /// IANA enterprise number of the manufacturer, 20 bits.
    pub manufacturer_id: u32,
    /// The manufacturer's product number.
    pub product_id: u16,
    /// "major.minor", minor with two digits as `ipmitool mc info` shows it.
    pub firmware: String,
    /// IPMI version, "2.0".
    pub ipmi_version: String,
    /// System GUID as the BMC sent it (16 bytes); `None` if it has none.
    pub guid: Option<[u8; 16]>,
}

/// Reads the identity.
#[async_trait]
pub trait Identity: Send + Sync {
    /// Device id and GUID.
    async fn identity(&self, deadline: Deadline) -> Result<BmcIdentity, BmcError>;
}
