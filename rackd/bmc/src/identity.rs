//! Capability: who the BMC is.

use async_trait::async_trait;

use crate::{BmcError, Deadline};

/// What a BMC says about itself, in its driver's words. Empty: it does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BmcIdentity {
    /// A name; over IPMI the IANA enterprise number, 20 bits.
    pub manufacturer: String,
    /// A model; over IPMI the manufacturer's product number.
    pub product: String,
    /// Version of the BMC's firmware. Over IPMI "major.minor", minor with two digits as `ipmitool mc info` shows it.
    pub firmware: String,
    /// "IPMI 2.0", "Redfish 1.15.0".
    pub protocol: String,
    /// System GUID or UUID, as the BMC sent it (16 bytes); `None` if it has none.
    pub guid: Option<[u8; 16]>,
    /// The machine's serial number, where the same answers have it.
    pub serial: String,
}

/// Reads the identity.
#[async_trait]
pub trait Identity: Send + Sync {
    /// Device id and GUID.
    async fn identity(&self, deadline: Deadline) -> Result<BmcIdentity, BmcError>;
}
