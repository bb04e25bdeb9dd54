//! Phase *starting*: tell the rack. And stopping it again.

use super::drive::{Broken, Next, failure};
use super::{Engine, image_hold, recover, secret, snapshot, spec, watch};
use farrier_proto::inventory::GetDispatchRequest;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{AbortTaskRequest, StartTaskRequest, Step, TaskState};
use farrier_proto::scheduler::{Operation, OperationPhase, OperationType};
use farrier_runtime::crash;
use farrier_runtime::time::now;
use farrier_scheduler_store::OperationRow;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Request};

/// Accepting a task is one journal write; a rack that takes longer is away.
const CALL: Duration = Duration::from_secs(20);
/// Stopping waits for the task's next safe point, and for power off by a BMC that may have to be found first and take its time.
const STOP: Duration = Duration::from_secs(120);

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
    image_hold::take(engine, row).await?;
    let mut work = secret::open(&engine.vault, row)?;
    if let (Some(Work::Snapshot(snapshot)), Some(node)) = (&mut work.work, &dispatch.node)
        && let Err(taken) = snapshot::reserve(engine, row, node, snapshot).await?
    {
        return Ok(Next::Fail(taken));
    }
    let work = if op.r#type() == OperationType::Recover { recover::work(op, work) } else { work };
    let mut request =
        Request::new(StartTaskRequest { id: task_id(op), fence, spec: Some(spec::complete(work, dispatch)) });
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
                set_steps(&mut row.operation, task.steps);
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
    let recovers = op.r#type() == OperationType::Recover;
    match engine.clients.rack(&op.rack, &dispatch.rack_address) {
        Ok(mut rack) => {
            let mut request = Request::new(AbortTaskRequest { id: task_id(op), reason: row.cancel.clone() });
            request.set_timeout(STOP);
            match rack.abort_task(request).await {
                // What it came to decides: a disk that was given away is not taken back.
                Ok(task) if recovers => {
                    let task = task.into_inner();
                    let running = task.state() == TaskState::Running;
                    watch::report(engine, task).await?;
                    let why = format!("{} has not stopped its task yet", op.rack);
                    return Ok(if running { Next::Wait(why) } else { Next::Advance });
                }
                Ok(_) => {}
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) if recovers => return Ok(Next::Wait(unheard(op, status.message()))),
                Err(status) => {
                    message = format!("{message} ({} could not be told: {})", op.rack, status.message());
                }
            }
        }
        Err(error) if recovers => return Ok(Next::Wait(unheard(op, &error.to_string()))),
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

/// Only the rack knows whose the disk is: without its word neither machine may be let go of.
fn unheard(op: &Operation, why: &str) -> String {
    format!("{} could not be told to stop, and only it knows where the disk is: {why}", op.rack)
}

/// A task has its operation's id; the second one of a recovery with an end of its own.
pub(super) fn task_id(op: &Operation) -> String {
    let id = op.name.trim_start_matches("operations/");
    if op.earlier_step_count == 0 { id.to_owned() } else { format!("{id}{SECOND}") }
}

/// The operation that a task is of.
pub(super) fn operation_of(task: &str) -> String {
    format!("operations/{}", task.strip_suffix(SECOND).unwrap_or(task))
}

/// The steps of the task that works now, behind those of the one before.
pub(super) fn set_steps(op: &mut Operation, steps: Vec<Step>) {
    op.steps.truncate(usize::try_from(op.earlier_step_count).unwrap_or(0));
    op.steps.extend(steps);
}

/// End of the id of an operation's second task. No uid ends so.
const SECOND: &str = "-attach";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_task_of_an_operation_is_known_by_its_id_and_its_steps_come_behind() {
        let step = |name: &str| Step { name: name.into(), ..Step::default() };
        let mut op = Operation { name: "operations/0-1".into(), ..Operation::default() };
        assert_eq!((task_id(&op).as_str(), operation_of("0-1").as_str()), ("0-1", "operations/0-1"));
        set_steps(&mut op, vec![step("a"), step("b")]);
        set_steps(&mut op, vec![step("a"), step("b")]);
        op.earlier_step_count = 2;
        assert_eq!(operation_of(&task_id(&op)), op.name);
        assert_ne!(task_id(&op), "0-1");
        set_steps(&mut op, vec![step("c")]);
        set_steps(&mut op, vec![step("c"), step("d")]);
        assert_eq!(op.steps.iter().map(|s| s.name.as_str()).collect::<String>(), "abcd");
    }
}
