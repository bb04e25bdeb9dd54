//! What the agent in the ramdisk needs: a pinned authority from the kernel command line, a key that never
//! leaves memory, and a channel.

use crate::client::{client_config, connect};
use crate::verify::Trust;
use crate::{Identity, IdentityError};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use tonic::transport::Channel;

/// SHA-256 of the authority's certificate (DER).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinnedCa([u8; 32]);

impl PinnedCa {
    /// The pin of this certificate (DER).
    pub fn of(ca_der: &[u8]) -> Self {
        Self(crate::ca::sha256(ca_der))
    }

    /// From 64 hexadecimal digits (kernel argument `farrier.ca`).
    pub fn from_hex(text: &str) -> Result<Self, IdentityError> {
        let bad = || IdentityError::BadPin { len: text.len() };
        let bytes = hex::decode(text).map_err(|_| bad())?;
        Ok(Self(bytes.try_into().map_err(|_| bad())?))
    }

    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }

    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

/// The agent's private key, in memory only.
pub struct Key {
    pkcs8: Vec<u8>,
    csr: Vec<u8>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    pub fn generate() -> Result<Self, IdentityError> {
        let key = rcgen::KeyPair::generate()?;
        let params = rcgen::CertificateParams::new(Vec::<String>::new())?;
        let csr = params.serialize_request(&key)?.der().to_vec();
        Ok(Self { pkcs8: key.serialize_der(), csr })
    }

    /// PKCS#10 request for this key, DER.
    pub fn csr_der(&self) -> &[u8] {
        &self.csr
    }

    fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.clone()))
    }
}

/// A lazy channel to rackd's agent endpoint. Without `identity` only `Register` is answered.
pub fn channel(uri: &str, pin: &PinnedCa, identity: Option<(&Key, &[u8])>) -> Result<Channel, IdentityError> {
    let pin = pin.0;
    let identity =
        identity.map(|(key, cert)| (vec![CertificateDer::from(cert.to_vec())], Arc::new(key.private())));
    let config = move || {
        client_config(
            Trust::Pin(pin),
            Box::new(|id| matches!(id, Identity::Rack(_))),
            identity.as_ref().map(|(chain, key)| (chain.clone(), key.clone_key())),
        )
    };
    connect(uri, Arc::new(config), None)
}
