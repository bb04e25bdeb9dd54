//! `farrier node boot-order show|set NODE`: in which order a machine's firmware tries what it can start from.

use super::Session;
use crate::call;
use crate::failure::Failure;
use crate::names::full;
use clap::Subcommand;
use farrier_model::Collection::Nodes;
use farrier_proto::rack::BmcBootOrder;
use farrier_proto::scheduler::node_bmc_service_client::NodeBmcServiceClient;
use farrier_proto::scheduler::{ReadNodeBootOrderRequest, SetNodeBootOrderRequest};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Shows the order of the node's next start.
    Show {
        /// The node, by its name.
        name: String,
    },
    /// Puts something first; all else keeps its order behind it.
    Set {
        /// The node, by its name.
        name: String,
        /// What is tried first, and what after it, by the ids that `show` tells.
        #[arg(required = true, value_name = "ID")]
        first: Vec<String>,
    },
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let link = session.services.scheduler()?;
    let order: BmcBootOrder = match verb {
        Verb::Show { name } => {
            let request = ReadNodeBootOrderRequest { name: full(Nodes, &name)? };
            call!(link, NodeBmcServiceClient, read_node_boot_order, slow request)?
        }
        Verb::Set { name, first } => {
            let request = SetNodeBootOrderRequest { name: full(Nodes, &name)?, first };
            call!(link, NodeBmcServiceClient, set_node_boot_order, slow request)?
        }
    };
    if !order.task.is_empty() {
        session.say(&format!("the BMC's task for it: {}", order.task));
    }
    if order.pending {
        session.say("this order takes effect at the node's next start");
    }
    session.printer.list(&order.options)
}
