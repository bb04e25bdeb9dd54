//! `farrier node secure-boot show|set NODE`: UEFI Secure Boot, as a machine's firmware is set.

use super::Session;
use super::node_act::Switch;
use crate::call;
use crate::failure::Failure;
use crate::names::full;
use clap::Subcommand;
use farrier_model::Collection::Nodes;
use farrier_proto::scheduler::node_bmc_service_client::NodeBmcServiceClient;
use farrier_proto::scheduler::{ReadNodeSecureBootRequest, SetNodeSecureBootRequest};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Shows what the next start is, and what the last one was.
    Show {
        /// The node, by its name.
        name: String,
    },
    /// Sets it from the node's next start on. How Farrier boots the node is its `--secure-boot`.
    Set {
        /// The node, by its name.
        name: String,
        /// On or off.
        #[arg(value_enum)]
        switch: Switch,
    },
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let link = session.services.scheduler()?;
    match verb {
        Verb::Show { name } => {
            let request = ReadNodeSecureBootRequest { name: full(Nodes, &name)? };
            session.printer.one(&call!(link, NodeBmcServiceClient, read_node_secure_boot, request)?)
        }
        Verb::Set { name, switch } => {
            let request =
                SetNodeSecureBootRequest { name: full(Nodes, &name)?, enabled: switch == Switch::On };
            let set = call!(link, NodeBmcServiceClient, set_node_secure_boot, request)?;
            session.say("it takes effect at the node's next start");
            session.printer.one(&set)
        }
    }
}
