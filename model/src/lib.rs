//! Ids, nouns, the node life cycle table and placement.
//!
//! Pure: no I/O, no async, no clock, no protobuf. It must never know how anything is stored or sent.
//! Start with [`lifecycle::TABLE`] (what can happen to a node) and [`placement::place`] (which node gets an
//! instance).

pub mod bmc_key;
pub mod bmc_place;
pub mod bmc_user;
pub mod chassis;
pub mod chunks;
pub mod hint;
pub mod lifecycle;
mod mac;
mod name;
pub mod placement;
pub mod root_device;
mod seldom;
mod shares;
pub mod size;
mod static_address;

pub use mac::{MacAddress, ParseMacError};
pub use name::{Collection, NameError, is_label, parse_name};
pub use seldom::Seldom;
pub use shares::{Share, Shares};
pub use static_address::{BadStaticAddress, StaticAddress};
