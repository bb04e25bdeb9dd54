//! From a request to a running executor. It goes on when the caller has hung up: a task that is journaled is
//! started, or the same request again starts it.

use super::executor;
use crate::rack::Rack;
use farrier_journal::{Accepted, JournalError, Record};
use farrier_proto::rack::{Task, TaskState};
use std::sync::Arc;

/// Why a task is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAccepted {
    /// Its machine's BMC is on its way to another address, or being changed by hand, as told.
    #[error("{0}")]
    Waits(String),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Journals a task and starts it. The same task again changes nothing, unless nobody runs it any more.
pub(crate) async fn accept(rack: &Arc<Rack>, record: Record) -> Result<Task, NotAccepted> {
    let working = rack.clone();
    // Of its own: a caller's deadline drops its call in mid-commit, and then the task would lie there unstarted.
    let accepted = rack.tracker.spawn(async move { accept_and_start(&working, record).await });
    // A join error is a panic or the end of rackd: what was journaled is resumed or asked again.
    accepted.await.unwrap_or_else(|error| Err(JournalError::Interrupted(error.to_string()).into()))
}

async fn accept_and_start(rack: &Arc<Rack>, record: Record) -> Result<Task, NotAccepted> {
    // One at a time: between "nobody runs it" and "somebody does" must be nobody else, and no move or change of
    // the BMC.
    let _turn = rack.tasks.turn().await;
    if let Some(why) = keeps_waiting(rack, &record.task).await? {
        return Err(NotAccepted::Waits(why));
    }
    match rack.journal.accept(record).await? {
        Accepted::New(record) => {
            let task = record.task.clone();
            tracing::info!(operation.id = %task.id, node.id = %task.node, "task accepted");
            executor::start(rack, record, false);
            Ok(task)
        }
        Accepted::Known(record) => {
            let task = record.task.clone();
            if task.state() == TaskState::Running && rack.tasks.get(&task.id).is_none() {
                // Its executor may have ended it after that was read, before it left the list.
                if let Some(record) = rack.journal.get(&task.id).await?
                    && record.task.state() == TaskState::Running
                {
                    tracing::warn!(operation.id = %task.id, node.id = %task.node, "nobody ran this task, resumed");
                    executor::start(rack, record, true);
                }
            }
            Ok(task)
        }
    }
}

/// Why nothing begins on the task's machine now. One that runs already, or has ended, begins nothing.
async fn keeps_waiting(rack: &Rack, task: &Task) -> Result<Option<String>, JournalError> {
    let machine = task.spec.as_ref().and_then(|spec| spec.machine.as_ref());
    let address = machine.map(|machine| machine.bmc_address.as_str()).unwrap_or_default();
    let moves = rack.moves.keeps_waiting(&task.node, address);
    let Some(why) = moves.or_else(|| rack.changes.keeps_waiting(&task.node)) else { return Ok(None) };
    let known = rack.journal.get(&task.id).await?;
    let begins = known
        .is_none_or(|known| known.task.state() == TaskState::Running && rack.tasks.get(&task.id).is_none());
    Ok(begins.then_some(why))
}
