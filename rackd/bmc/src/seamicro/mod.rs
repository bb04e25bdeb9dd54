//! Driver `seamicro`: the REST API v2.0 of a SeaMicro SM15000 chassis, whose servers have no BMC of their own; an actor per
//! server, each with a connection of its own.
//!
//! The shapes are those that the public client sends and reads (python-seamicroclient 0.4.0, OpenStack; sections of no
//! standard can be cited). There are no sessions: the account goes along with each request, as `username` and `password` in
//! the query of GET and DELETE and in the body of PUT. So no request's query is ever put into words.
//!
//! - `hub`: the table of actors, and what is to be undone after a boot
//! - `link`: one request
//! - `driver`: power, boot device, identity, inventory; `vlans`, `volumes`: the capabilities of those names
//! - `words`: what the chassis's values mean; pure
//!
//! Connections, TLS, repetition and limits are [`crate::redfish`]'s.

mod driver;
mod hub;
mod link;
mod vlans;
mod volumes;
mod words;

pub use hub::SeaMicroHub;

/// The driver's name.
pub const SEAMICRO: &str = "seamicro";
/// Where the API listens on http, as its client's documents have it.
pub const API: &str = "/v2.0";
