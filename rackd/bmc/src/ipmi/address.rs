//! Where a BMC is and how to get in.

use std::net::SocketAddr;

use farrier_ipmi::{CipherSuite, Secret};

/// Which cipher suite to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Cipher {
    /// 17, then 3; what worked is remembered per BMC, and after 17 nothing else is tried ([`super::Pins`]).
    #[default]
    Auto,
    /// Only this one.
    Fixed(CipherSuite),
}

impl Cipher {
    /// From the number people configure. `None` for suites we refuse to speak (0 among them).
    #[must_use]
    pub fn fixed(id: u8) -> Option<Self> {
        CipherSuite::from_id(id).map(Self::Fixed)
    }
}

/// One BMC as it is configured. Two handles with equal addresses share one actor and session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BmcAddress {
    /// Address and UDP port, normally [`super::RMCP_PORT`].
    pub addr: SocketAddr,
    /// At most 16 bytes; may be empty.
    pub user: String,
    /// At most 20 bytes.
    pub password: Secret,
    /// BMC key for two-key login, at most 20 bytes.
    pub kg: Option<Secret>,
    /// Cipher suite.
    pub cipher: Cipher,
}

impl BmcAddress {
    /// No Kg, cipher suite found out.
    #[must_use]
    pub fn new(addr: SocketAddr, user: impl Into<String>, password: Secret) -> Self {
        Self { addr, user: user.into(), password, kg: None, cipher: Cipher::Auto }
    }
}
