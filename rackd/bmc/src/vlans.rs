//! Capability: the VLANs of a server's NICs, where the chassis is also the switch.

use std::collections::BTreeSet;

use async_trait::async_trait;

use crate::{BmcError, Deadline};

/// In which VLANs a NIC is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicVlans {
    /// The chassis's name for it.
    pub nic: String,
    /// Of frames without a tag; mostly one or none.
    pub untagged: BTreeSet<u16>,
    /// Of frames with their tag.
    pub tagged: BTreeSet<u16>,
}

/// Changes in which VLANs a server's NICs are.
#[async_trait]
pub trait Vlans: Send + Sync {
    /// All NICs.
    async fn vlans(&self, deadline: Deadline) -> Result<Vec<NicVlans>, BmcError>;

    /// Makes a NIC a member of these VLANs (1 to 4094) and of no other, reads back and returns what was read. Idempotent.
    async fn set_vlans(&self, wanted: NicVlans, deadline: Deadline) -> Result<NicVlans, BmcError>;
}
