//! `farrier node boot-mode show|set NODE`: the mode that a machine's firmware starts in.

use super::Session;
use crate::call;
use crate::failure::Failure;
use crate::names::full;
use clap::{Subcommand, ValueEnum};
use farrier_model::Collection::Nodes;
use farrier_proto::scheduler::node_bmc_service_client::NodeBmcServiceClient;
use farrier_proto::scheduler::{ReadNodeBootModeRequest, SetNodeBootModeRequest};
use farrier_proto::types::BootMode;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Shows the mode of now, and that of the next start where it is another.
    Show {
        /// The node, by its name.
        name: String,
    },
    /// Sets it from the node's next start on. How Farrier boots the node is its `--boot-mode`.
    Set {
        /// The node, by its name.
        name: String,
        /// Which.
        #[arg(value_enum)]
        mode: ModeArg,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    Uefi,
    Bios,
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let link = session.services.scheduler()?;
    match verb {
        Verb::Show { name } => {
            let request = ReadNodeBootModeRequest { name: full(Nodes, &name)? };
            session.printer.one(&call!(link, NodeBmcServiceClient, read_node_boot_mode, slow request)?)
        }
        Verb::Set { name, mode } => {
            let boot_mode = match mode {
                ModeArg::Uefi => BootMode::Uefi,
                ModeArg::Bios => BootMode::Bios,
            };
            let request = SetNodeBootModeRequest { name: full(Nodes, &name)?, boot_mode: boot_mode.into() };
            let set = call!(link, NodeBmcServiceClient, set_node_boot_mode, slow request)?;
            if set.pending() != BootMode::Unspecified {
                session.say("it takes effect at the node's next start");
            }
            session.printer.one(&set)
        }
    }
}
