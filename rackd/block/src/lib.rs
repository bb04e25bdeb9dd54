//! rackd's iSCSI target: sockets, files and sessions around `farrier-iscsi`.
//!
//! [`Targets`] is the registry that targets are added to and removed from at run time; [`serve()`] listens.
//! What a logical unit stores its blocks in is a [`Backing`]: a file, or an [`Overlay`] over an [`Image`].

mod arrival;
pub mod backing;
mod budget;
mod connection;
mod events;
mod host;
mod inbox;
mod limits;
mod media;
mod overlay;
mod pool;
mod running;
mod serve;

mod spec;
mod targets;
mod trouble;

pub use backing::{Arrival, Backing, FileBacking, Image, Mode};
pub use events::{Event, SessionInfo};
pub use farrier_iscsi::{Chap, Credentials, Secret, is_iscsi_name};
pub use limits::Limits;
pub use overlay::{Overlay, OverlayError, OverlayInfo, OverlayOptions, Usage};
pub use serve::{Portal, serve};
pub use spec::{AddError, LunSpec, TargetSpec};
pub use targets::Targets;
