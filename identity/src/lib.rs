//! Who is on the other end of a socket: SPIFFE ids, trust, rotation, and the TLS set-up of servers and
//! clients.
//!
//! This is the only crate that names rustls. It must never know what an identity is allowed to do: that
//! is each service's rule table. Start with [`Identity`], then [`Credentials`] (files, hot reload),
//! [`server::accept`] and [`client::channel`].
//!
//! **Invariant:** there is no plaintext mode. A file that fails to load keeps the last good one.

pub mod agent;
pub mod ca;
pub mod client;
pub mod device;
mod error;
mod files;
mod id;
pub mod server;
pub mod swap;
mod verify;
pub mod web;

pub use error::IdentityError;
pub use files::{Credentials, Validity};
pub use id::{Identity, ParseIdentityError, Role, TRUST_DOMAIN};
pub use server::Peer;

use rustls::crypto::CryptoProvider;
use std::sync::Arc;

/// The one place that chooses the cryptography provider.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
