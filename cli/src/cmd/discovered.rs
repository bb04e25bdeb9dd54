//! `farrier discovered …`: machines that asked to boot and are no nodes.

use super::Session;
use super::node::Fields;
use crate::args::{EtagArg, ListArgs, key_value};
use crate::failure::Failure;
use crate::names::full;
use crate::{call, list};
use clap::Subcommand;
use farrier_model::Collection::{Discovered, Nodes, Racks};
use farrier_proto::inventory::discovered_service_client::DiscoveredServiceClient;
use farrier_proto::inventory::{
    AcceptDiscoveredMachineRequest, DeleteDiscoveredMachineRequest, GetDiscoveredMachineRequest,
    ListDiscoveredMachinesRequest, Node,
};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Lists machines that wait to be accepted.
    List {
        #[command(flatten)]
        args: ListArgs,
        /// Only those of this rack.
        #[arg(long)]
        rack: Option<String>,
    },
    /// Shows what one machine is made of.
    #[command(alias = "get")]
    Show {
        /// The machine: the MAC address that it was first seen by.
        name: String,
    },
    /// Makes a node of a machine, with a port for each of its network interfaces.
    Accept {
        /// The machine: the MAC address that it was first seen by.
        name: String,
        /// The node's name.
        #[arg(long = "as", value_name = "NODE")]
        node: String,
        #[command(flatten)]
        fields: Box<Fields>,
        /// Repeat for more.
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
        labels: Vec<(String, String)>,
        #[command(flatten)]
        etag: EtagArg,
    },
    /// Forgets a machine, until it asks to boot again.
    Forget {
        /// The machine: the MAC address that it was first seen by.
        name: String,
        #[command(flatten)]
        etag: EtagArg,
    },
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::List { args, rack } => {
            let link = session.services.inventory()?;
            let rack = rack.map(|rack| full(Racks, &rack)).transpose()?;
            let filter = args.filter_with(rack.map(|rack| format!("rack={rack}")));
            let machines = list!(
                link,
                DiscoveredServiceClient,
                list_discovered_machines,
                ListDiscoveredMachinesRequest {},
                machines,
                args.limit,
                filter
            )?;
            session.printer.list(&machines)
        }
        Verb::Show { name } => {
            let link = session.services.inventory()?;
            let request = GetDiscoveredMachineRequest { name: full(Discovered, &name)? };
            session.printer.one(&call!(link, DiscoveredServiceClient, get_discovered_machine, request)?)
        }
        Verb::Accept { name, node, fields, labels, etag } => {
            let name = full(Discovered, &name)?;
            let mut node =
                Node { name: full(Nodes, &node)?, labels: labels.into_iter().collect(), ..Node::default() };
            fields.apply(&mut node, session.env.bmc_password.as_deref())?;
            let link = session.services.inventory()?;
            let etag = etag.etag.unwrap_or_default();
            let request = AcceptDiscoveredMachineRequest { name, node: Some(node), etag };
            session.printer.one(&call!(link, DiscoveredServiceClient, accept_discovered_machine, request)?)
        }
        Verb::Forget { name, etag } => {
            let link = session.services.inventory()?;
            let name = full(Discovered, &name)?;
            let request =
                DeleteDiscoveredMachineRequest { name: name.clone(), etag: etag.etag.unwrap_or_default() };
            call!(link, DiscoveredServiceClient, delete_discovered_machine, request)?;
            session.say(&format!("{name} forgotten"));
            Ok(())
        }
    }
}
