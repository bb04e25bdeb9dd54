//! A simulated BMC: IPMI over LAN on a UDP socket, [`redfish`] and [`seamicro`] on TCP sockets, in front of anything that is a
//! [`Chassis`].
//!
//! Over IPMI it speaks what real BMCs speak before and in RMCP+ sessions (suites 3 and 17), keeps sessions
//! few and short, checks privileges, forgets boot flags the way real ones do, and gives its machine's serial port
//! over SOL to one console at a time. The protocol is
//! `farrier_ipmi::server`; this module adds the socket, the commands and [`Faults`].
//!
//! [`fleet`] is thousands of them in one process, each with both protocols: `farrier-sim bmc`. [`qemu`] is the machine behind one
//! that is an operator's own QEMU.
//!
//! Start at [`BmcServer::start`]; implement [`Chassis`] for what has a power button.

mod accounts;
mod bell;
mod boot;
mod chassis;
pub mod cli;
mod commands;
mod config;
mod dcmi;
mod faults;
pub mod fleet;
mod fru;
mod lan;
mod memory;
pub mod qemu;
pub mod redfish;
pub mod seamicro;
mod sel;
mod sensors;
mod serial;
mod server;
mod sol;
mod users;
mod watchdog;

pub use accounts::{Accounts, Takes};
pub use chassis::{Chassis, ChassisError, PowerAction, PowerState};
pub use config::BmcConfig;
pub use farrier_ipmi::command::{BootDeviceSelector, BootFlags, ChassisIdentify, ChassisStatus};
pub use farrier_ipmi::{CipherSuite, Secret};
pub use faults::{Cut, Faults, Refusal, Resets};
pub use memory::MemoryChassis;
pub use sel::EventLog;
pub(crate) use serial::connect_unix;
pub use serial::{Heard, Line, PretendSerial, Pretended, SerialPort};
pub use server::{BmcHandle, BmcServer};
