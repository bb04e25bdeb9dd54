//! Nodes in the hands of operations that move no state, or not yet, or that are over.

use super::Engine;
use super::drive::{Broken, Next};
use super::place::reserve_noted;
use farrier_model::lifecycle::Event;
use farrier_proto::inventory::{HoldNodeRequest, Node, ReleaseNodeRequest, TransitionNodeRequest};
use farrier_proto::rack::PowerAction;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::scheduler::{Operation, OperationType};
use farrier_runtime::error::asked;
use farrier_scheduler_store::OperationRow;
use tonic::{Code, Status};

/// Takes the node for work that moves no state.
pub(super) async fn node(engine: &Engine, row: &OperationRow, node: &str) -> Result<Next, Broken> {
    match take(engine, row, node).await? {
        Held::Ours(node) => reserve_noted(engine, row, &node).await,
        Held::Others(why) => Ok(Next::Wait(why)),
    }
}

/// Whose a node is that was asked for.
pub(super) enum Held {
    Ours(Box<Node>),
    /// Somebody works on it: who.
    Others(String),
}

/// Takes a node: it queues behind whatever works on the node, and has a fencing token of its own, so that it never
/// acts with the token of work that came later.
pub(super) async fn take(engine: &Engine, row: &OperationRow, node: &str) -> Result<Held, Broken> {
    let request = HoldNodeRequest {
        node: node.to_owned(),
        operation: row.operation.name.clone(),
        action: action(row),
        actor: row.operation.actor.clone(),
        bmc_new_user: match &row.work.work {
            Some(Work::RotateBmcCredentials(rotate)) => rotate.new_user.clone(),
            _ => String::new(),
        },
        rotates_bmc_credentials: row.operation.r#type() == OperationType::RotateBmcCredentials,
        expected_fence: row.operation.seen_fence,
        keeps_power: row.operation.actor == crate::app::keep_power::ACTOR,
    };
    match engine.clients.dispatch.clone().hold_node(request).await {
        Ok(answer) => Ok(Held::Ours(Box::new(answer.into_inner().node.unwrap_or_default()))),
        Err(status) if status.code() == Code::Aborted => Ok(Held::Others(status.message().to_owned())),
        Err(status) => Err(Broken::of("inventory", &status)),
    }
}

/// What was done to the operation's node, into the node and the audit log.
pub(super) async fn release(engine: &Engine, op: &Operation) -> Result<(), Status> {
    let power = op.result.as_ref().map_or(0, |r| r.power_state);
    release_as(engine, op, &op.node, power).await
}

/// Lets go of a node that nothing was done to.
pub(super) async fn release_untouched(engine: &Engine, op: &Operation, node: &str) -> Result<(), Status> {
    release_as(engine, op, node, 0).await
}

async fn release_as(engine: &Engine, op: &Operation, node: &str, power_state: i32) -> Result<(), Status> {
    let rotates = op.r#type() == OperationType::RotateBmcCredentials;
    let refused = op.result.as_ref().is_some_and(|result| result.bmc_password_refused);
    let request = ReleaseNodeRequest {
        node: node.to_owned(),
        operation: op.name.clone(),
        error: op.error.as_ref().map(|e| e.message.clone()).unwrap_or_default(),
        power_state,
        actor: op.actor.clone(),
        bmc_credentials_rotated: rotates && op.error.is_none(),
        bmc_credentials_refused: rotates && op.error.is_some() && refused,
        bmc_account_proven: op.result.as_ref().map(|r| r.bmc_account_proven.clone()).unwrap_or_default(),
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
            let request =
                ReleaseNodeRequest { node: name, operation, error, actor, ..ReleaseNodeRequest::default() };
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
        Some(Work::Snapshot(snapshot)) => return format!("snapshot of {}", snapshot.instance),
        Some(Work::Deploy(deploy)) => return format!("recovery of {}", deploy.instance),
        Some(Work::UpdateFirmware(update)) => return format!("update firmware from {}", update.image),
        Some(Work::RotateBmcCredentials(_)) => return "rotate bmc credentials".to_owned(),
        _ => PowerAction::Unspecified,
    };
    action.as_str_name().replace("POWER_ACTION", "power").replace('_', " ").to_lowercase()
}
