//! `farrier event …`

use super::Session;
use crate::args::ListArgs;
use crate::failure::Failure;
use crate::list;
use clap::Subcommand;
use farrier_proto::inventory::ListEventsRequest;
use farrier_proto::inventory::event_service_client::EventServiceClient;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Lists what happened, oldest first.
    List {
        #[command(flatten)]
        args: ListArgs,
        /// Only on this resource: `racks/r1`, or a node's name.
        #[arg(long, value_name = "NAME")]
        resource: Option<String>,
        /// Only the newest N.
        #[arg(long, value_name = "N", conflicts_with = "limit")]
        last: Option<usize>,
        /// Newest first.
        #[arg(long)]
        descending: bool,
    },
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let Verb::List { args, resource, last, descending } = verb;
    let link = session.services.inventory()?;
    // Most questions are about a node: a bare name is one's.
    let resource = resource.map(|name| if name.contains('/') { name } else { format!("nodes/{name}") });
    let asked = resource.clone();
    let filter = args.filter_with(resource.map(|name| format!("resource={name}")));
    let newest_first = descending || last.is_some();
    let mut events = list!(
        link,
        EventServiceClient,
        list_events,
        ListEventsRequest { descending: newest_first },
        events,
        last.or(args.limit),
        filter
    )?;
    if newest_first && !descending {
        events.reverse();
    }
    if let (true, Some(resource)) = (events.is_empty(), asked) {
        session.say(&format!("nothing happened to {resource}, or there is no such thing"));
    }
    session.printer.list(&events)
}
