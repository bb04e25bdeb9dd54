//! `farrier node sel NODE`: the event log of a node's BMC.

use super::Session;
use crate::call;
use crate::failure::Failure;
use crate::names::full;
use farrier_model::Collection::Nodes;
use farrier_proto::scheduler::node_bmc_service_client::NodeBmcServiceClient;
use farrier_proto::scheduler::{ClearNodeEventLogRequest, ReadNodeEventLogRequest};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node, by its name.
    name: String,
    /// Only the newest N records.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=10_000))]
    last: Option<i32>,
    /// Another log, as the BMC names it: an iDRAC's lifecycle log is `Lclog`. Which there are is told with each.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    log: String,
    /// Forgets all records instead; that is an event of the node.
    #[arg(long, conflicts_with = "last")]
    clear: bool,
}

pub async fn run(args: Args, session: &Session) -> Result<(), Failure> {
    let name = full(Nodes, &args.name)?;
    let link = session.services.scheduler()?;
    if args.clear {
        let which = if args.log.is_empty() { "event log".to_owned() } else { format!("log {}", args.log) };
        session.confirm(&format!("the {which} of {name}'s BMC will be erased"))?;
        let request = ClearNodeEventLogRequest { name: name.clone(), log: args.log };
        let done = call!(link, NodeBmcServiceClient, clear_node_event_log, slow request)?;
        session.say(&format!("the {which} of {name}'s BMC is empty, by driver {}", done.driver));
        return Ok(());
    }
    let request = ReadNodeEventLogRequest { name, last: args.last.unwrap_or(0), log: args.log };
    let log = call!(link, NodeBmcServiceClient, read_node_event_log, slow request)?;
    if log.overflow {
        session.say("the log was full and has lost records: `farrier node sel NODE --clear` makes room");
    }
    for warning in &log.warnings {
        session.say(warning);
    }
    let (shown, total, driver) = (log.events.len(), log.total, &log.driver);
    session.say(&format!("{shown} of {total} records of log {}, by driver {driver}", log.log));
    let others: Vec<_> = log.logs.iter().filter(|other| **other != log.log).map(String::as_str).collect();
    if !others.is_empty() {
        session.say(&format!("other logs, for --log: {}", others.join(", ")));
    }
    session.printer.list(&log.events)
}
