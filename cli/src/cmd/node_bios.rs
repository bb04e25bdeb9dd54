//! `farrier node bios show|set NODE`: what a machine's firmware is set to.

use super::Session;
use crate::call;
use crate::failure::Failure;
use crate::names::full;
use clap::Subcommand;
use farrier_model::Collection::Nodes;
use farrier_proto::rack::BiosChange;
use farrier_proto::scheduler::node_bmc_service_client::NodeBmcServiceClient;
use farrier_proto::scheduler::{ReadNodeBiosRequest, SetNodeBiosRequest};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Shows the settings, and what they will be after the next start.
    Show {
        /// The node, by its name.
        name: String,
        /// Only those with this in their name.
        #[arg(long, value_name = "TEXT")]
        like: Option<String>,
        /// Only those that the next start changes.
        #[arg(long)]
        pending: bool,
    },
    /// Changes settings, all or none of those named, from the node's next start on.
    Set {
        /// The node, by its name.
        name: String,
        /// What to change, as the node's BMC names it.
        #[arg(required = true, value_name = "NAME=VALUE", value_parser = change)]
        changes: Vec<BiosChange>,
    },
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let link = session.services.scheduler()?;
    match verb {
        Verb::Show { name, like, pending } => {
            let request = ReadNodeBiosRequest { name: full(Nodes, &name)? };
            let mut read = call!(link, NodeBmcServiceClient, read_node_bios, slow request)?;
            let like = like.unwrap_or_default().to_lowercase();
            read.settings.retain(|setting| {
                setting.name.to_lowercase().contains(&like) && (setting.pending.is_some() || !pending)
            });
            session.say(&format!("{} settings, by driver {}", read.settings.len(), read.driver));
            session.printer.list(&read.settings)
        }
        Verb::Set { name, changes } => {
            let asked: Vec<_> = changes.iter().map(|change| change.name.clone()).collect();
            let request = SetNodeBiosRequest { name: full(Nodes, &name)?, changes };
            let mut set = call!(link, NodeBmcServiceClient, set_node_bios, slow request)?;
            if !set.task.is_empty() {
                session.say(&format!("the BMC's task for it: {}", set.task));
            }
            session.say("what is pending takes effect at the node's next start");
            set.settings.retain(|setting| asked.contains(&setting.name));
            session.printer.list(&set.settings)
        }
    }
}

fn change(text: &str) -> Result<BiosChange, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok(BiosChange { name: name.to_owned(), value: value.to_owned() })
        }
        _ => Err(format!("expected NAME=VALUE, saw {text:?}")),
    }
}
