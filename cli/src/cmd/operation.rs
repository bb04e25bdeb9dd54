//! `farrier operation …`

use super::Session;
use crate::args::ListArgs;
use crate::client::Link;
use crate::failure::Failure;
use crate::names::full;
use crate::{call, list};
use clap::Subcommand;
use farrier_model::Collection::{Nodes, Operations};
use farrier_proto::scheduler::operation_service_client::OperationServiceClient;
use farrier_proto::scheduler::{
    CancelOperationRequest, GetOperationRequest, ListOperationsRequest, Operation,
};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Lists operations.
    List {
        #[command(flatten)]
        args: ListArgs,
        /// Only those that go on.
        #[arg(long)]
        running: bool,
        /// Only those on this node.
        #[arg(long)]
        node: Option<String>,
    },
    /// Shows one operation with its steps.
    Get {
        /// The operation, by its id.
        id: String,
    },
    /// Follows an operation until it is done; exit 0 only when it succeeded.
    Watch {
        /// The operation, by its id.
        id: String,
    },
    /// Stops an operation at the next safe point.
    Cancel {
        /// The operation, by its id.
        id: String,
        /// Why, for the audit log.
        #[arg(long, default_value = "")]
        reason: String,
        /// Wait until it has stopped.
        #[arg(long)]
        wait: bool,
    },
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let link = session.services.scheduler()?;
    match verb {
        Verb::List { args, running, node } => {
            let node = node.map(|node| full(Nodes, &node)).transpose()?.map(|node| format!("node={node}"));
            let filter = args.filter_with(running.then(|| "done=false".to_owned()).into_iter().chain(node));
            let operations = list!(
                link,
                OperationServiceClient,
                list_operations,
                ListOperationsRequest {},
                operations,
                args.limit,
                filter
            )?;
            session.printer.list(&operations)
        }
        Verb::Get { id } => session.printer.one(&get(&link, &id).await?),
        Verb::Watch { id } => {
            // Asked for first, so that a wrong id or address is told at once and not retried.
            let operation = get(&link, &id).await?;
            session.operation(&link, operation, true).await
        }
        Verb::Cancel { id, reason, wait } => {
            let name = full(Operations, &id)?;
            session.confirm(&format!("{name} will be stopped; its node ends in a failed state"))?;
            let request = CancelOperationRequest { name, reason };
            let operation = call!(link, OperationServiceClient, cancel_operation, request)?;
            if !wait {
                return session.printer.one(&operation);
            }
            // Being stopped is what was asked for: it is no failure here.
            let last = crate::progress::wait(&link, operation).await?;
            session.printer.one(&last)
        }
    }
}

async fn get(link: &Link, id: &str) -> Result<Operation, Failure> {
    let name = full(Operations, id)?;
    call!(link, OperationServiceClient, get_operation, GetOperationRequest { name })
}
