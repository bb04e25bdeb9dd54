//! Nodes in the hands of operations that move no state, or that are over.

use super::Engine;
use super::drive::{Broken, Next};
use super::place::reserve_noted;
use farrier_model::lifecycle::Event;
use farrier_proto::inventory::{HoldNodeRequest, Node, ReleaseNodeRequest, TransitionNodeRequest};
use farrier_proto::rack::PowerAction;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::scheduler::Operation;
use farrier_runtime::error::asked;
use farrier_scheduler_store::OperationRow;
use tonic::{Code, Status};

/// Takes the node for power work: it queues behind whatever works on the node, and has a fencing token of
/// its own, so that it never acts with the token of work that came later.
pub(super) async fn power(engine: &Engine, row: &OperationRow) -> Result<Next, Broken> {
    let request = HoldNodeRequest {
        node: row.operation.node.clone(),
        operation: row.operation.name.clone(),
        action: action(row),
        actor: row.operation.actor.clone(),
    };
    match engine.clients.dispatch.clone().hold_node(request).await {
        Ok(answer) => reserve_noted(engine, row, &answer.into_inner().node.unwrap_or_default()).await,
        Err(status) if status.code() == Code::Aborted => Ok(Next::Wait(status.message().to_owned())),
        Err(status) => Err(Broken::of("inventory", &status)),
    }
}

/// What power work did, into the node and the audit log.
pub(super) async fn release(engine: &Engine, op: &Operation) -> Result<(), Status> {
    let request = ReleaseNodeRequest {
        node: op.node.clone(),
        operation: op.name.clone(),
        error: op.error.as_ref().map(|e| e.message.clone()).unwrap_or_default(),
        power_state: op.result.as_ref().map_or(0, |r| r.power_state),
        actor: op.actor.clone(),
    };
    engine.clients.dispatch.clone().release_node(request).await.map(drop)
}

impl Engine {
    /// Lets go of a node whose operation is over and could not do so itself.
    pub(crate) async fn free(&self, node: &Node, actor: &str, why: &str) -> Result<(), Status> {
        let mut dispatch = self.clients.dispatch.clone();
        let (name, operation) = (node.name.clone(), node.operation.clone());
        let (error, actor) = (why.to_owned(), actor.to_owned());
        let freed = if crate::app::state_of(node.state()).is_working() {
            let request = TransitionNodeRequest {
                node: name,
                event: Event::Abort.to_string(),
                operation,
                error,
                actor,
                ..TransitionNodeRequest::default()
            };
            dispatch.transition_node(request).await.map(drop)
        } else {
            let request = ReleaseNodeRequest { node: name, operation, error, actor, power_state: 0 };
            dispatch.release_node(request).await.map(drop)
        };
        freed.map_err(|s| asked("inventory", s))?;
        self.wake_all_waiting();
        Ok(())
    }
}

fn action(row: &OperationRow) -> String {
    let action = match &row.work.work {
        Some(Work::Power(power)) => power.action(),
        _ => PowerAction::Unspecified,
    };
    action.as_str_name().replace("POWER_ACTION", "power").replace('_', " ").to_lowercase()
}
