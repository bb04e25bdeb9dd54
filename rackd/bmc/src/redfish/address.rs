//! Where a BMC's Redfish service is, how to get in, and how it proves itself.

use std::net::SocketAddr;
use std::sync::Arc;

use farrier_ipmi::Secret;
use http::Uri;

use super::document::Path;
use crate::BmcError;

/// One BMC as it is configured. Two handles with equal addresses share one actor, connection and session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RedfishAddress {
    /// Address and TCP port.
    pub addr: SocketAddr,
    /// The name or address that was configured: a certificate signed by an authority must have it.
    pub host: String,
    /// The account.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// How the BMC proves itself.
    pub trust: Trust,
    /// Fingerprint of the host key of the BMC's SSH, as OpenSSH says it; empty: none is trusted.
    pub ssh_host_key: String,
    /// Id or path of the system, where a BMC has several; empty: the only one.
    pub system: String,
    /// One of [`super::DRIVERS`]: another than the first is refused by another vendor's BMC.
    pub driver: String,
}

impl RedfishAddress {
    /// The only system of a BMC.
    #[must_use]
    pub fn new(addr: SocketAddr, user: impl Into<String>, password: Secret, trust: Trust) -> Self {
        let host = addr.ip().to_string();
        let driver = super::DRIVERS.first().copied().unwrap_or_default().to_owned();
        Self {
            addr,
            host,
            user: user.into(),
            password,
            trust,
            ssh_host_key: String::new(),
            system: String::new(),
            driver,
        }
    }

    /// The path of a URL on this BMC; `None` for everybody else's.
    pub(super) fn same_origin(&self, location: &str) -> Option<Path> {
        if let Some(path) = Path::of(location) {
            return Some(path);
        }
        let uri: Uri = location.parse().ok()?;
        let (scheme, default) = if self.trust.is_tls() { ("https", 443) } else { ("http", 80) };
        let host = uri.host()?.trim_matches(['[', ']']);
        let same = uri.scheme_str() == Some(scheme)
            && (host.eq_ignore_ascii_case(&self.host) || host == self.addr.ip().to_string())
            && uri.port_u16().unwrap_or(default) == self.addr.port();
        Path::of(uri.path()).filter(|_| same)
    }

    /// The account, and what opens it.
    pub(crate) fn account(&self) -> (String, Secret) {
        (self.user.clone(), self.password.clone())
    }

    pub(super) fn wrong_password(&self) -> BmcError {
        BmcError::WrongPassword { addr: self.addr, user: self.user.clone() }
    }
}

/// What makes a BMC the one that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Trust {
    /// http: nothing does, and everything can be read on the way. Somebody has asked for it.
    Plain,
    /// https: its certificate has this SHA-256. Nothing else in it is looked at.
    Pin([u8; 32]),
    /// https: its certificate is signed by one of these authorities (PEM) and has the host's name.
    Authorities(Arc<str>),
    /// https, and nothing is known of its certificate: the connection is refused, and says what was seen.
    Nothing,
}

impl Trust {
    /// Whether the connection is TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        *self != Self::Plain
    }

    /// What a certificate must be, in words.
    #[must_use]
    pub fn expects(&self) -> String {
        match self {
            Self::Plain => "no certificate".to_owned(),
            Self::Pin(pin) => {
                let hex: String = pin.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("the pinned one, {hex}")
            }
            Self::Authorities(_) => "one for this host, signed by an authority of the node".to_owned(),
            Self::Nothing => "one that the node names, and it names none".to_owned(),
        }
    }
}

/// Where https listens.
pub const HTTPS_PORT: u16 = 443;
/// Where http listens.
pub const HTTP_PORT: u16 = 80;
