//! `farrier node capabilities|power-draw|nmi|reset-bmc NODE`: what a node's BMC can do, and does at once.

use super::Session;
use crate::call;
use crate::failure::Failure;
use crate::names::full;
use clap::Subcommand;
use farrier_model::Collection::Nodes;
use farrier_proto::scheduler::node_bmc_service_client::NodeBmcServiceClient;
use farrier_proto::scheduler::{
    InterruptNodeRequest, ReadNodeCapabilitiesRequest, ReadNodePowerDrawRequest, ResetNodeBmcRequest,
};

#[derive(Debug, Subcommand)]
pub enum Ask {
    /// Shows what can be asked of the node's BMC, and which driver answers.
    Capabilities {
        /// The node, by its name.
        name: String,
    },
    /// Shows how much power the node draws.
    PowerDraw {
        /// The node, by its name.
        name: String,
    },
    /// Sends the node a diagnostic interrupt (NMI): an operating system that hangs then writes down why.
    Nmi {
        /// The node, by its name.
        name: String,
    },
    /// Restarts the node's BMC; the node keeps running.
    ResetBmc {
        /// The node, by its name.
        name: String,
    },
}

pub async fn run(ask: Ask, session: &Session) -> Result<(), Failure> {
    let link = session.services.scheduler()?;
    match ask {
        Ask::Capabilities { name } => {
            let request = ReadNodeCapabilitiesRequest { name: full(Nodes, &name)? };
            let read = call!(link, NodeBmcServiceClient, read_node_capabilities, request)?;
            if !read.passed_over.is_empty() {
                session.say(&format!("another driver does not work: {}", read.passed_over));
            }
            session.printer.list(&read.capabilities)
        }
        Ask::PowerDraw { name } => {
            let request = ReadNodePowerDrawRequest { name: full(Nodes, &name)? };
            session.printer.one(&call!(link, NodeBmcServiceClient, read_node_power_draw, request)?)
        }
        Ask::Nmi { name } => {
            let name = full(Nodes, &name)?;
            session
                .confirm(&format!("{name} gets a diagnostic interrupt: its system may crash or restart"))?;
            let request = InterruptNodeRequest { name: name.clone() };
            let done = call!(link, NodeBmcServiceClient, interrupt_node, request)?;
            session.say(&format!("{name} got a diagnostic interrupt, by driver {}", done.driver));
            Ok(())
        }
        Ask::ResetBmc { name } => {
            let name = full(Nodes, &name)?;
            session.confirm(&format!("the BMC of {name} will be away for a minute or more"))?;
            let request = ResetNodeBmcRequest { name: name.clone() };
            let done = call!(link, NodeBmcServiceClient, reset_node_bmc, request)?;
            session.say(&format!("the BMC of {name} restarts, by driver {}", done.driver));
            Ok(())
        }
    }
}
