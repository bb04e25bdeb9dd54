//! `farrier node boot-device show|set NODE`: what a machine starts from, in place of its firmware's own order.

use super::Session;
use crate::call;
use crate::failure::Failure;
use crate::names::full;
use clap::{Subcommand, ValueEnum};
use farrier_model::Collection::Nodes;
use farrier_proto::rack::{BmcBootDevice, BootSource};
use farrier_proto::scheduler::node_bmc_service_client::NodeBmcServiceClient;
use farrier_proto::scheduler::{ReadNodeBootDeviceRequest, SetNodeBootDeviceRequest};
use farrier_proto::types::BootMode;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Shows what the node's next start is from; `none`: what its firmware's own order says.
    Show {
        /// The node, by its name.
        name: String,
    },
    /// Says what the node starts from. What is shown was read back.
    Set {
        /// The node, by its name.
        name: String,
        /// From where; `none`: what its firmware's own order says.
        #[arg(value_enum)]
        device: DeviceArg,
        /// At the next start, and not after that; also when neither is given.
        #[arg(long, conflicts_with = "persistent")]
        once: bool,
        /// At every start from now on.
        #[arg(long)]
        persistent: bool,
        /// In UEFI mode; the node's boot mode when neither is given.
        #[arg(long, conflicts_with = "bios")]
        uefi: bool,
        /// In BIOS mode.
        #[arg(long)]
        bios: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceArg {
    Pxe,
    Disk,
    Cdrom,
    BiosSetup,
    None,
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let link = session.services.scheduler()?;
    match verb {
        Verb::Show { name } => {
            let request = ReadNodeBootDeviceRequest { name: full(Nodes, &name)? };
            session.printer.one(&call!(link, NodeBmcServiceClient, read_node_boot_device, slow request)?)
        }
        Verb::Set { name, device, once: _, persistent, uefi, bios } => {
            let source = match device {
                DeviceArg::Pxe => BootSource::Network,
                DeviceArg::Disk => BootSource::Disk,
                DeviceArg::Cdrom => BootSource::Cdrom,
                DeviceArg::BiosSetup => BootSource::BiosSetup,
                DeviceArg::None => BootSource::None,
            };
            let mode = match (uefi, bios) {
                (true, _) => BootMode::Uefi,
                (_, true) => BootMode::Bios,
                _ => BootMode::Unspecified,
            };
            if source == BootSource::None && (persistent || uefi || bios) {
                return Err(Failure::usage("`none` goes with no --persistent, --uefi or --bios"));
            }
            let request = SetNodeBootDeviceRequest {
                name: full(Nodes, &name)?,
                source: source.into(),
                persistent,
                boot_mode: mode.into(),
            };
            let kept = call!(link, NodeBmcServiceClient, set_node_boot_device, slow request)?;
            if let Some(other) = other(&kept, source, persistent, mode) {
                session.say(&other);
            }
            session.printer.one(&kept)
        }
    }
}

/// What the BMC made of it, where that is not what was asked for.
fn other(kept: &BmcBootDevice, source: BootSource, persistent: bool, mode: BootMode) -> Option<String> {
    if source == BootSource::None {
        return None;
    }
    let times = persistent && !kept.persistent;
    let firmware = mode != BootMode::Unspecified && kept.boot_mode() != mode;
    match (times, firmware) {
        (false, false) => None,
        (true, _) => Some("the BMC keeps it for the next start only".to_owned()),
        (false, true) => Some("the BMC keeps another boot mode: the machine may start in its own".to_owned()),
    }
}
