//! `farrier node sensors NODE`: what a machine's sensors say now.

use super::Session;
use crate::call;
use crate::failure::Failure;
use crate::names::full;
use farrier_model::Collection::Nodes;
use farrier_proto::scheduler::ReadNodeSensorsRequest;
use farrier_proto::scheduler::node_bmc_service_client::NodeBmcServiceClient;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node, by its name.
    name: String,
}

pub async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let name = full(Nodes, &args.name)?;
    let link = session.services.scheduler()?;
    let read = call!(link, NodeBmcServiceClient, read_node_sensors, slow ReadNodeSensorsRequest { name })?;
    for warning in &read.warnings {
        session.say(warning);
    }
    session.say(&format!("{} sensors, by driver {}", read.sensors.len(), read.driver));
    session.printer.list(&read.sensors)
}
