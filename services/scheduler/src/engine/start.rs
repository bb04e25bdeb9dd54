//! Phase *starting*: tell the rack. And stopping it again.

use super::drive::{Broken, Next, failure};
use super::{Engine, secret, spec, watch};
use farrier_proto::inventory::GetDispatchRequest;
use farrier_proto::rack::{AbortTaskRequest, StartTaskRequest};
use farrier_proto::scheduler::{Operation, OperationPhase};
use farrier_runtime::crash;
use farrier_runtime::time::now;
use farrier_scheduler_store::OperationRow;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Request};

/// Accepting a task is one journal write; a rack that takes longer is away.
const CALL: Duration = Duration::from_secs(20);
/// Stopping waits for the task's next safe point and for power off.
const STOP: Duration = Duration::from_secs(60);

pub(super) async fn start(engine: &Arc<Engine>, row: &OperationRow) -> Result<Next, Broken> {
    let op = &row.operation;
    if !row.cancel.is_empty() {
        return abort(engine, row).await;
    }
    let request = GetDispatchRequest { node: op.node.clone(), flavor: String::new() };
    let dispatch = engine
        .clients
        .dispatch
        .clone()
        .get_dispatch(request)
        .await
        .map_err(|s| Broken::of("inventory", &s))?
        .into_inner();
    let address = dispatch.rack_address.clone();
    if address.is_empty() {
        let id = op.rack.trim_start_matches("racks/");
        return Ok(Next::Wait(format!(
            "{} has no address: set it with `farrier rack update {id} --address https://HOST:7400`",
            op.rack
        )));
    }
    let (holder, fence) = dispatch.node.as_ref().map_or(("", 0), |n| (n.operation.as_str(), n.fence));
    if holder != op.name {
        return queue_again(engine, op, holder).await;
    }
    let mut rack = engine.clients.rack(&op.rack, &address).map_err(|e| Broken::Refused {
        who: op.rack.clone(),
        message: farrier_runtime::telemetry::chain(&e),
    })?;
    let mut request = Request::new(StartTaskRequest {
        id: task_id(op).to_owned(),
        fence,
        spec: Some(spec::complete(secret::open(&engine.vault, row)?, dispatch)),
    });
    request.set_timeout(CALL);
    // Reports may come before this call returns: follow first.
    watch::ensure(engine, &op.rack);
    crash::point("start", "before");
    let task = rack
        .start_task(request)
        .await
        .map_err(|s| Broken::of(&format!("{} at {address}", op.rack), &s))?
        .into_inner();
    crash::point("start", "after");
    engine
        .store
        .edit(&op.name, |row| {
            // The watcher may have heard of the end already.
            if row.operation.phase() == OperationPhase::Starting {
                row.operation.set_phase(OperationPhase::Running);
                row.operation.steps = task.steps;
            }
            row.operation.waiting.clear();
            row.operation.next_try_time = None;
            row.operation.update_time = Some(now());
        })
        .await?;
    Ok(Next::Advance)
}

/// The node is another's now: this operation must not act with that one's fencing token. It queues again.
async fn queue_again(engine: &Engine, op: &Operation, holder: &str) -> Result<Next, Broken> {
    let seen = if holder.is_empty() { "nobody" } else { holder };
    let why = format!("{} is held by {seen} meanwhile: waiting for its turn again", op.node);
    engine
        .store
        .edit(&op.name, |row| {
            if row.operation.phase() == OperationPhase::Starting {
                row.operation.set_phase(OperationPhase::Placing);
            }
        })
        .await?;
    Ok(Next::Wait(why))
}

/// Stops the rack's task, if the rack can be told, and closes. A rack that cannot be told keeps nothing: the
/// node's next operation has a higher fencing token, and the rack stops the older task when it sees it.
pub(super) async fn abort(engine: &Engine, row: &OperationRow) -> Result<Next, Broken> {
    let op = &row.operation;
    let request = GetDispatchRequest { node: op.node.clone(), flavor: String::new() };
    let dispatch = engine
        .clients
        .dispatch
        .clone()
        .get_dispatch(request)
        .await
        .map_err(|s| Broken::of("inventory", &s))?
        .into_inner();
    let mut message = row.cancel.clone();
    match engine.clients.rack(&op.rack, &dispatch.rack_address) {
        Ok(mut rack) => {
            let mut request =
                Request::new(AbortTaskRequest { id: task_id(op).to_owned(), reason: row.cancel.clone() });
            request.set_timeout(STOP);
            match rack.abort_task(request).await {
                Ok(_) => {}
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) => {
                    message = format!("{message} ({} could not be told: {})", op.rack, status.message());
                }
            }
        }
        Err(error) => message = format!("{message} ({} could not be told: {error})", op.rack),
    }
    engine
        .store
        .edit(&op.name, |row| {
            if row.operation.phase() != OperationPhase::Closing {
                row.operation.set_phase(OperationPhase::Closing);
                row.operation.error = Some(failure("CANCELLED", message));
            }
            row.operation.update_time = Some(now());
        })
        .await?;
    Ok(Next::Advance)
}

/// A task has its operation's id.
pub(super) fn task_id(op: &Operation) -> &str {
    op.name.trim_start_matches("operations/")
}
