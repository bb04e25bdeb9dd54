//! The wire contract: messages and services compiled from `proto/farrier`.
//!
//! Knows nothing but protobuf. Start with `proto/farrier/scheduler/v1/instance.proto`, what a user asks
//! for, or `proto/farrier/rack/v1/task.proto`, what a rack is told.
#![allow(clippy::all, clippy::pedantic, clippy::unwrap_used, unreachable_pub)]

/// The packages, as modules: `farrier.inventory.v1` is [`farrier::inventory::v1`].
pub mod farrier {
    pub mod r#type {
        pub mod v1 {
            tonic::include_proto!("farrier.r#type.v1");
        }
    }
    pub mod agent {
        pub mod v1 {
            tonic::include_proto!("farrier.agent.v1");
        }
    }
    pub mod inventory {
        pub mod v1 {
            tonic::include_proto!("farrier.inventory.v1");
        }
    }
    pub mod images {
        pub mod v1 {
            tonic::include_proto!("farrier.images.v1");
        }
    }
    pub mod rack {
        pub mod v1 {
            tonic::include_proto!("farrier.rack.v1");
        }
    }
    pub mod scheduler {
        pub mod v1 {
            tonic::include_proto!("farrier.scheduler.v1");
        }
    }
}

pub use farrier::agent::v1 as agent;
pub use farrier::images::v1 as images;
pub use farrier::inventory::v1 as inventory;
pub use farrier::rack::v1 as rack;
pub use farrier::scheduler::v1 as scheduler;
pub use farrier::r#type::v1 as types;

/// Every descriptor of this crate, for reflection and for checks over all RPCs.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/farrier.binpb"));
