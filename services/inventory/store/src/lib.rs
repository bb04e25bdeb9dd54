//! The inventory database: sites, racks, nodes, ports, flavors, their history, and how racks join.
//!
//! What do we store? Per resource one row: the columns that lists search by, and the protobuf message
//! itself as bytes. Secrets are sealed by the caller and live in columns of their own, never in a message.
//! It must never know who may do what, nor what a state means. sea-orm stops here. Start with [`Store`]
//! and [`Resource`].
//!
//! **Invariant:** one function of [`Store`] is one transaction, and each that changes something writes the
//! event row in it.

mod boot_port;
mod discovered;
mod discovery_plan;
mod dispatch;
mod entity;
mod error;
mod event;
mod join;
mod known_node;
mod migration;
mod observation;
mod request;
mod resource;

pub use discovered::Found;
pub use dispatch::{Applied, Candidates, Shared, Stored, Transition};
pub use entity::discovered::MachineKeys;
pub use entity::node::{BmcPlace, NodeExtra, SecretChange, Secrets, SystemKeys};
pub use error::StoreError;
pub use event::EventQuery;
pub use join::{JoinToken, Redeemed};
pub use known_node::KnownNode;
pub use migration::Migrator;
pub use observation::Watchable;
pub use request::RequestRecord;
pub use resource::{Created, New, Query, Resource};

use farrier_db::Db;

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    db: Db,
}

impl Store {
    /// Opens `sqlite://PATH` or `postgres://…` and brings its schema up to date.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Ok(Self { db: Db::open::<Migrator>(url).await? })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.db.ping().await?)
    }
}
