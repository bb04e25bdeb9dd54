//! Who a lease belongs to.

use std::fmt;

use crate::{
    MacAddr,
    dhcp::{Client, Request},
};

/// The key of a lease in a pool (RFC 2131 §4.2): the client identifier where there is one, else the address on the
/// wire.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum ClientKey {
    /// By its address.
    Mac(MacAddr),
    /// By its client identifier (option 61), 2 to 255 bytes.
    Id(Box<[u8]>),
}

impl ClientKey {
    /// The key of who sent a packet.
    ///
    /// Firmware and iPXE are known by their address whatever they call themselves: PXE ROM, iPXE and installer of one
    /// machine each make up an identifier of their own, and would take three addresses for one boot. An identifier
    /// that is nothing but the address (type 1 and the address, RFC 2132 §9.14) is the address.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        let mac = Self::Mac(request.mac);
        // Over InfiniBand each of them says who it is in another way, and the port is the same.
        if request.client != Client::Other || request.infiniband {
            return mac;
        }
        match request.client_id.as_deref() {
            Some([1, rest @ ..]) if rest == request.mac.0 => mac,
            Some(id) if (2..=255).contains(&id.len()) => Self::Id(id.into()),
            _ => mac,
        }
    }

    /// The client identifier, if it is the key.
    #[must_use]
    pub fn id(&self) -> Option<&[u8]> {
        match self {
            Self::Mac(_) => None,
            Self::Id(id) => Some(id),
        }
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => write!(f, "{mac}"),
            Self::Id(id) => id.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}
