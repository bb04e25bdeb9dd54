//! Whole racks: one binary, a module a subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say what they expect by panicking"
)]

mod agents;
mod arm64;
mod asked_once;
mod authorization;
mod bench;
mod bmc_boot_settings;
mod bmc_dhcp;
mod bmc_itself;
mod bmc_key;
mod bmc_settings;
mod boot_by_command;
mod boot_cd_again;
#[path = "../../services/runtime/tests/buf/mod.rs"]
mod buf;
mod commands;
mod compose;
mod console;
mod console_log;
mod console_ssh;
mod demo;
mod diskless;
mod event_log;
mod far_boot;
mod hall;
mod kill;
mod kill_diskless;
mod pretend_autonomy;
mod pretend_cache;
mod pretend_discovery;
mod pretend_disk_away;
mod pretend_diskless;
mod pretend_faults;
mod pretend_rack;
mod pretend_recovery;
mod pretend_site;
mod pretend_streaming;
mod qemu;
mod redfish;
mod refused_login;
mod renewal;
mod rotation;
mod seamicro;
mod soft_off;
mod watch;
mod watch_many;
