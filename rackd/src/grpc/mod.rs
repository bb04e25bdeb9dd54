//! The gRPC surfaces of rackd: for the centre, and for ramdisks.

mod agent;
mod bmc;
mod bmc_itself;
mod bmc_network;
mod bmc_readings;
mod boot_device;
mod boot_event_type;
mod boot_events;
mod boot_order;
mod chassis;
mod console;
mod dhcp;
mod firmware;
mod rack;

pub(crate) use agent::AgentApi;
pub(crate) use bmc::BmcApi;
pub(crate) use boot_event_type::boot_event_word;
pub(crate) use console::ConsoleApi;
pub(crate) use rack::RackApi;
