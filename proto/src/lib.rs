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
            include!(concat!(env!("OUT_DIR"), "/farrier.agent.v1.debug.rs"));
        }
    }
    pub mod inventory {
        pub mod v1 {
            tonic::include_proto!("farrier.inventory.v1");
            include!(concat!(env!("OUT_DIR"), "/farrier.inventory.v1.debug.rs"));
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
            include!(concat!(env!("OUT_DIR"), "/farrier.rack.v1.debug.rs"));
        }
    }
    pub mod scheduler {
        pub mod v1 {
            tonic::include_proto!("farrier.scheduler.v1");
            include!(concat!(env!("OUT_DIR"), "/farrier.scheduler.v1.debug.rs"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let machine =
            rack::Machine { bmc_user: "ann".into(), bmc_password: "tiger".into(), ..Default::default() };
        let spec = rack::TaskSpec { machine: Some(machine), ..Default::default() };
        let shown = format!("{spec:?}");
        assert!(shown.contains("ann") && shown.contains("hidden") && !shown.contains("tiger"), "{shown}");
        let file = agent::session_response::File { name: "meta-data".into(), content: b"tiger".to_vec() };
        assert_eq!(format!("{file:?}"), "File { name: \"meta-data\", content: hidden }");
    }
}
