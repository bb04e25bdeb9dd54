//! The wire contract: messages and services compiled from `proto/farrier`.
//!
//! Knows nothing but protobuf. Start with `proto/farrier/scheduler/v1/instance.proto`, what a user asks
//! for, or `proto/farrier/rack/v1/rack.proto`, what a rack is told.
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
}

pub use farrier::agent::v1 as agent;
pub use farrier::r#type::v1 as types;

/// Every descriptor of this crate, for reflection and for checks over all RPCs.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/farrier.binpb"));
