//! The images database. sea-orm stops here.
//!
//! What do we store? One row an image: what lists filter on as columns, the whole image as protobuf. The
//! bytes of disks are files beside it; this crate must never know them. Start with [`Store`].

mod entity;
mod hold;
mod migration;
mod reservation;
mod store;

pub use hold::{HoldError, Holder};
pub use migration::Migrations;
pub use reservation::{Reservation, ReserveError};
pub use store::{DeleteError, Deleted, Filter, InsertError, Store, StoreError, Stored};
