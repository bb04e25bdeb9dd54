//! `farrier discovered …`: machines that asked to boot and are no nodes.

use super::node::Fields;
use super::{Session, discovery_plan};
use crate::args::{EtagArg, ListArgs, key_value, length_of_time};
use crate::client::Link;
use crate::failure::{Exit, Failure};
use crate::names::{full, full_or_empty};
use crate::output::value::{duration, system_time};
use crate::{call, list};
use clap::Subcommand;
use farrier_model::Collection::{Discovered, Nodes, Racks};
use farrier_proto::inventory::discovered_service_client::DiscoveredServiceClient;
use farrier_proto::inventory::{
    AcceptDiscoveredMachineRequest, DeleteDiscoveredMachineRequest, DiscoveredMachine,
    GetDiscoveredMachineRequest, ListDiscoveredMachinesRequest, Node,
};
use std::time::{Duration, SystemTime};

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
        /// The node's name; as the plan proposes when left out.
        #[arg(long = "as", value_name = "NODE")]
        node: Option<String>,
        #[command(flatten)]
        fields: Box<Fields>,
        /// Repeat for more.
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
        labels: Vec<(String, String)>,
        #[command(flatten)]
        etag: EtagArg,
    },
    /// The rules that say what becomes of discovered machines, and the machines that are expected.
    Plan {
        #[command(subcommand)]
        verb: discovery_plan::Verb,
    },
    /// Forgets a machine, or all that were not seen for some time, until they ask to boot again.
    Forget {
        /// The machine: the MAC address that it was first seen by.
        #[arg(required_unless_present = "older_than", conflicts_with = "older_than")]
        name: Option<String>,
        /// Instead: all that were not seen for so long, such as 12h or 30d.
        #[arg(long, value_name = "TIME", value_parser = length_of_time, conflicts_with = "etag")]
        older_than: Option<Duration>,
        /// Of those, only the ones of this rack.
        #[arg(long, requires = "older_than")]
        rack: Option<String>,
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
            session.printer.list(&listed(&link, args.limit, filter).await?)
        }
        Verb::Show { name } => {
            let link = session.services.inventory()?;
            let request = GetDiscoveredMachineRequest { name: full(Discovered, &name)? };
            session.printer.one(&call!(link, DiscoveredServiceClient, get_discovered_machine, request)?)
        }
        Verb::Accept { name, node, fields, labels, etag } => {
            let name = full(Discovered, &name)?;
            let mut node = Node {
                name: full_or_empty(Nodes, node.as_deref())?,
                labels: labels.into_iter().collect(),
                ..Node::default()
            };
            fields.apply(&mut node, session.env.bmc_password.as_deref())?;
            let link = session.services.inventory()?;
            let etag = etag.etag.unwrap_or_default();
            let request = AcceptDiscoveredMachineRequest { name, node: Some(node), etag };
            session.printer.one(&call!(link, DiscoveredServiceClient, accept_discovered_machine, request)?)
        }
        Verb::Plan { verb } => discovery_plan::run(verb, session).await,
        Verb::Forget { name: Some(name), etag, .. } => {
            let link = session.services.inventory()?;
            let name = full(Discovered, &name)?;
            let request =
                DeleteDiscoveredMachineRequest { name: name.clone(), etag: etag.etag.unwrap_or_default() };
            call!(link, DiscoveredServiceClient, delete_discovered_machine, request)?;
            session.say(&format!("{name} forgotten"));
            Ok(())
        }
        Verb::Forget { name: None, older_than, rack, .. } => {
            let rack = rack.map(|rack| full(Racks, &rack)).transpose()?;
            forget_unseen(session, rack.as_deref(), older_than.unwrap_or_default()).await
        }
    }
}

async fn listed(
    link: &Link,
    limit: Option<usize>,
    filter: String,
) -> Result<Vec<DiscoveredMachine>, Failure> {
    list!(
        link,
        DiscoveredServiceClient,
        list_discovered_machines,
        ListDiscoveredMachinesRequest {},
        machines,
        limit,
        filter
    )
}

/// One that is seen meanwhile stays.
async fn forget_unseen(session: &Session, rack: Option<&str>, for_so_long: Duration) -> Result<(), Failure> {
    let link = session.services.inventory()?;
    let filter = rack.map(|rack| format!("rack={rack}")).unwrap_or_default();
    let machines = unseen(listed(&link, None, filter).await?, SystemTime::now(), for_so_long);
    if !machines.is_empty() {
        let long = duration(for_so_long);
        session.confirm(&format!(
            "{} machines that were not seen for {long} will be forgotten",
            machines.len()
        ))?;
    }
    let mut forgotten = 0;
    for machine in &machines {
        let request =
            DeleteDiscoveredMachineRequest { name: machine.name.clone(), etag: machine.etag.clone() };
        match call!(link, DiscoveredServiceClient, delete_discovered_machine, request) {
            Ok(_) => {
                forgotten += 1;
                session.say(&format!("{} forgotten", machine.name));
            }
            Err(failure) if matches!(failure.exit, Exit::Conflict | Exit::NotFound) => {
                session.say(&format!("{} was seen meanwhile, or is gone: left as it is", machine.name));
            }
            Err(failure) => return Err(failure),
        }
    }
    session.say(&format!("{forgotten} machines forgotten"));
    Ok(())
}

/// Those that nobody saw for so long. What says no time was never seen.
fn unseen(
    machines: Vec<DiscoveredMachine>,
    now: SystemTime,
    for_so_long: Duration,
) -> Vec<DiscoveredMachine> {
    let is_old = |machine: &DiscoveredMachine| {
        let seen = machine.seen_time.as_ref().and_then(system_time);
        seen.is_none_or(|seen| now.duration_since(seen).unwrap_or_default() >= for_so_long)
    };
    machines.into_iter().filter(is_old).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::Timestamp;

    #[test]
    fn only_what_nobody_saw_for_so_long_is_forgotten() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let seen = |ago: i64| DiscoveredMachine {
            name: ago.to_string(),
            seen_time: Some(Timestamp { seconds: 1_000_000 - ago, nanos: 0 }),
            ..DiscoveredMachine::default()
        };
        let never = DiscoveredMachine { name: "never".into(), ..DiscoveredMachine::default() };
        let machines = vec![seen(10), seen(3600), seen(3599), seen(-60), never];
        let names: Vec<_> =
            unseen(machines, now, Duration::from_secs(3600)).into_iter().map(|m| m.name).collect();
        assert_eq!(names, ["3600", "never"]);
    }
}
