//! `farrier node firmware list|update|task NODE`: what has firmware, and other firmware for it.

use super::Session;
use crate::call;
use crate::failure::Failure;
use crate::names::full;
use clap::Subcommand;
use farrier_model::Collection::Nodes;
use farrier_proto::scheduler::node_bmc_service_client::NodeBmcServiceClient;
use farrier_proto::scheduler::{ReadNodeBmcTaskRequest, ReadNodeFirmwareRequest, UpdateNodeFirmwareRequest};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Shows what has firmware, and which.
    List {
        /// The node, by its name.
        name: String,
    },
    /// Has the node's BMC fetch an image and install it; many parts take the new one at the node's next start.
    Update {
        /// The node, by its name.
        name: String,
        /// Where the BMC reads the image from, `http://` or `https://`.
        #[arg(long, value_name = "URL")]
        url: String,
        /// The part that it is for, by its id; several are possible. Without one the BMC finds out from the image.
        #[arg(long, value_name = "ID")]
        part: Vec<String>,
    },
    /// Shows how a task of the node's BMC gets on, as an update or a change of BIOS settings told it.
    Task {
        /// The node, by its name.
        name: String,
        /// The task.
        task: String,
    },
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let link = session.services.scheduler()?;
    match verb {
        Verb::List { name } => {
            let request = ReadNodeFirmwareRequest { name: full(Nodes, &name)? };
            let read = call!(link, NodeBmcServiceClient, read_node_firmware, request)?;
            session.say(&format!("{} parts, by driver {}", read.parts.len(), read.driver));
            session.printer.list(&read.parts)
        }
        Verb::Update { name, url, part } => {
            let name = full(Nodes, &name)?;
            session.confirm(&format!("{name} gets other firmware: its BMC may be away meanwhile"))?;
            let request = UpdateNodeFirmwareRequest { name: name.clone(), image_url: url, parts: part };
            let begun = call!(link, NodeBmcServiceClient, update_node_firmware, request)?;
            if begun.task.is_empty() {
                session.say(&format!(
                    "the BMC of {name} took it, by driver {}, and tells nothing of it",
                    begun.driver
                ));
            }
            session.printer.one(&begun)
        }
        Verb::Task { name, task } => {
            let request = ReadNodeBmcTaskRequest { name: full(Nodes, &name)?, task };
            session.printer.one(&call!(link, NodeBmcServiceClient, read_node_bmc_task, request)?)
        }
    }
}
