//! The rack daemon: netboot, BMCs, switch ports and tasks of one rack.
//!
//! rackd does what the centre decides and asks it nothing while it works, except for the bytes of an image.
//! It must never know about projects, flavors or placement. Start with [`run`], then `tasks/mod.rs`: what
//! happens when a node is deployed, step by step.

mod agents;
mod block;
mod bmc;
mod boot;
mod boot_cd;
mod boot_steps;
mod cache;
mod config;
mod consoles;
mod discovery;
mod disk_access;
#[cfg(test)]
mod fixture;
mod grpc;
mod homes;
mod housekeeping;
mod join;
mod kernel;
mod known;
mod metrics;
mod phone_home;
mod rack;
mod ramdisks;
mod renewal;
mod reports;
mod rules;
mod secrets;
mod secure;
mod serve;
mod signed;
mod snapshot;
mod snapshots;
mod space;
mod standalone;
mod tasks;
mod volumes;
mod watch;

pub use block::{BlockCommand, ServeArgs, block};
pub use config::{
    BadConfig, Config, RamdiskConfig, RamdiskFiles, Role, SegmentConfig, SwitchDriver, WatchConfig,
};
pub use farrier_bmc::ssh::help as ssh_help;
pub use join::{JoinRequest, join};
pub use rules::{AGENT_RULES, AGENT_SERVICES, RULES, SERVICES};
pub use serve::{Bound, run, start};
pub use snapshot::snapshot_table;
pub use standalone::{StandaloneArgs, standalone};
pub use tasks::{Timeouts, step_names};
