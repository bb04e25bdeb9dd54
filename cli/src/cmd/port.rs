//! `farrier port …`. A port is named by its MAC address, in any usual spelling.

use super::{Session, mask, set};
use crate::args::{EtagArg, ListArgs};
use crate::client::{Link, request_id};
use crate::failure::Failure;
use crate::names::{full, mac};
use crate::{call, list};
use clap::{ArgAction, Subcommand};
use farrier_model::Collection::{Nodes, Ports};
use farrier_proto::inventory::port_service_client::PortServiceClient;
use farrier_proto::inventory::{
    CreatePortRequest, DeletePortRequest, GetPortRequest, ListPortsRequest, Port, UpdatePortRequest,
};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Adds an interface to a node.
    Create {
        /// For example 52:54:00:12:34:56.
        mac: String,
        /// The node, by its name.
        #[arg(long)]
        node: String,
        /// Whether network boot is tried on it.
        #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
        pxe: bool,
        /// Switch that the cable goes to.
        #[arg(long, value_name = "NAME")]
        switch: Option<String>,
        /// Port of that switch.
        #[arg(long, value_name = "PORT")]
        switch_port: Option<String>,
    },
    /// Shows one port.
    Get {
        /// MAC address, for example 52:54:00:12:34:56.
        mac: String,
    },
    /// Lists ports.
    List {
        #[command(flatten)]
        args: ListArgs,
        /// Only those of this node.
        #[arg(long)]
        node: Option<String>,
    },
    /// Changes the fields that are named.
    Update {
        /// MAC address, for example 52:54:00:12:34:56.
        mac: String,
        /// Whether network boot is tried on it.
        #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
        pxe: Option<bool>,
        /// Switch that the cable goes to.
        #[arg(long, value_name = "NAME")]
        switch: Option<String>,
        /// Port of that switch.
        #[arg(long, value_name = "PORT")]
        switch_port: Option<String>,
        #[command(flatten)]
        etag: EtagArg,
    },
    /// Removes a port.
    Delete {
        /// MAC address, for example 52:54:00:12:34:56.
        mac: String,
        #[command(flatten)]
        etag: EtagArg,
    },
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let link = session.services.inventory()?;
    match verb {
        Verb::Create { mac: address, node, pxe, switch, switch_port } => {
            let port = Port {
                node: full(Nodes, &node)?,
                mac_address: mac(&address)?,
                pxe_enabled: pxe,
                switch_name: switch.unwrap_or_default(),
                switch_port: switch_port.unwrap_or_default(),
                ..Port::default()
            };
            let request =
                CreatePortRequest { port: Some(port), request_id: request_id(), validate_only: false };
            session.printer.one(&call!(link, PortServiceClient, create_port, request)?)
        }
        Verb::Get { mac } => {
            let name = full(Ports, &mac)?;
            session.printer.one(&call!(link, PortServiceClient, get_port, GetPortRequest { name })?)
        }
        Verb::List { args, node } => {
            let node = node.map(|node| full(Nodes, &node)).transpose()?;
            let filter = args.filter_with(node.map(|node| format!("node={node}")));
            session.printer.list(&ports(&link, args.limit, filter).await?)
        }
        Verb::Update { mac, pxe, switch, switch_port, etag } => {
            let mut paths = Vec::new();
            let mut port =
                Port { name: full(Ports, &mac)?, etag: etag.etag.unwrap_or_default(), ..Port::default() };
            set(&mut paths, "pxe_enabled", &mut port.pxe_enabled, pxe);
            set(&mut paths, "switch_name", &mut port.switch_name, switch);
            set(&mut paths, "switch_port", &mut port.switch_port, switch_port);
            let request = UpdatePortRequest { port: Some(port), update_mask: mask(paths)? };
            session.printer.one(&call!(link, PortServiceClient, update_port, request)?)
        }
        Verb::Delete { mac, etag } => {
            let name = full(Ports, &mac)?;
            session.confirm(&format!("{name} will be deleted"))?;
            let request = DeletePortRequest { name: name.clone(), etag: etag.etag.unwrap_or_default() };
            call!(link, PortServiceClient, delete_port, request)?;
            session.say(&format!("{name} deleted"));
            Ok(())
        }
    }
}

/// The ports that a filter lets through.
pub async fn ports(link: &Link, limit: Option<usize>, filter: String) -> Result<Vec<Port>, Failure> {
    list!(*link, PortServiceClient, list_ports, ListPortsRequest {}, ports, limit, filter)
}
