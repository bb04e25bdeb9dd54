//! What every gRPC server of Farrier needs: start, authorisation, error details, paging, filters, secrets
//! at rest, telemetry.
//!
//! It must never know a noun of the API. Start with [`serve::Server`] and [`authz::Rule`].

pub mod authz;
pub mod crash;
pub mod error;
pub mod filter;
pub mod health;
pub mod key;
pub mod mask;
pub mod page;
pub mod serve;
pub mod telemetry;
pub mod time;
pub mod vault;
