//! The way to the rack of a node, for what is asked of it directly, and what of that is written down.

use super::App;
use crate::clients::Clients;
use farrier_model::{Collection, parse_name};
use farrier_proto::inventory::{Dispatch, GetDispatchRequest, RecordActionRequest};
use farrier_runtime::error::{Reason, asked, invalid, refuse};
use tonic::{Code, Response, Status};

/// A node with its BMC, and where its rack is.
pub(super) struct NodeRack {
    pub(super) dispatch: Dispatch,
    /// `racks/{rack}`
    pub(super) rack: String,
}

impl NodeRack {
    /// The URL of the rack's rackd.
    pub(super) fn address(&self) -> &str {
        &self.dispatch.rack_address
    }
}

impl App {
    pub(super) async fn rack_of(&self, node: &str) -> Result<NodeRack, Status> {
        parse_name(Collection::Nodes, node).map_err(|error| invalid("name", error))?;
        let request = GetDispatchRequest { node: node.to_owned(), flavor: String::new() };
        let answer = self.clients.dispatch.clone().get_dispatch(request).await;
        let dispatch = answer.map_err(|status| asked("inventory", status))?.into_inner();
        let rack = dispatch.node.as_ref().map(|node| node.rack.clone()).unwrap_or_default();
        if dispatch.rack_address.is_empty() {
            let id = rack.trim_start_matches("racks/");
            return Err(refuse(
                Code::FailedPrecondition,
                Reason::Unavailable,
                format!(
                    "{rack} has no address: set it with `farrier rack update {id} --address https://HOST:7400`"
                ),
            ));
        }
        Ok(NodeRack { dispatch, rack })
    }
}

/// What is written down about what one caller does with one node.
pub(super) struct Audit {
    pub(super) clients: Clients,
    pub(super) node: String,
    pub(super) actor: String,
}

impl Audit {
    /// Before it happens: what cannot be written down does not happen.
    pub(super) async fn record(&self, action: &str, detail: &str) -> Result<(), Status> {
        let request = RecordActionRequest {
            node: self.node.clone(),
            action: action.to_owned(),
            detail: detail.to_owned(),
            actor: self.actor.clone(),
        };
        let answer = self.clients.dispatch.clone().record_action(request).await;
        answer.map(drop).map_err(|status| asked("inventory", status))
    }

    /// What came of it: who reads in the history that it was asked for reads there that it was refused. What cannot be written down
    /// is told all the same.
    pub(super) async fn outcome<T>(
        &self,
        action: &str,
        answer: Result<Response<T>, Status>,
    ) -> Result<T, Status> {
        let status = match answer {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => status,
        };
        self.failed(action, status.message()).await;
        Err(asked("the rack", status))
    }

    pub(super) async fn failed(&self, action: &str, why: &str) {
        let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(DETAIL).collect();
        if let Err(error) = self.record(&format!("{action} failed"), &why).await {
            tracing::warn!(node.id = %self.node, action, error = error.message(), "what failed is not in the history");
        }
    }
}

/// What the history has room for.
const DETAIL: usize = 500;
