//! `farrier node inventory NODE`: what a BMC knows of its machine, without booting anything.

use super::Session;
use crate::call;
use crate::failure::Failure;
use crate::names::full;
use farrier_model::Collection::Nodes;
use farrier_proto::scheduler::ReadNodeInventoryRequest;
use farrier_proto::scheduler::node_bmc_service_client::NodeBmcServiceClient;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node, by its name.
    name: String,
}

pub async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let name = full(Nodes, &args.name)?;
    let link = session.services.scheduler()?;
    let request = ReadNodeInventoryRequest { name };
    let read = call!(link, NodeBmcServiceClient, read_node_inventory, slow request)?;
    session.printer.one(&read)
}
