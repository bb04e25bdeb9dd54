//! One operation, phase by phase.

use super::{Engine, close, place, start, watch};
use farrier_proto::scheduler::{OperationError, OperationPhase};
use farrier_runtime::telemetry::chain;
use farrier_runtime::time::{now, now_ms, timestamp};
use farrier_runtime::vault::VaultError;
use farrier_scheduler_store::{OperationRow, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tonic::{Code, Status};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// A running operation is looked at this often even when nothing is heard of it.
const RUNNING_LOOK: Duration = Duration::from_secs(30);

/// What a phase came to.
pub(super) enum Next {
    /// Another phase begins: go on at once.
    Advance,
    /// Nothing to do until something is heard.
    Listen,
    /// It cannot go on now; try again.
    Wait(String),
    /// It cannot go on at all.
    Fail(OperationError),
}

/// Why a phase broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("{who} does not answer: {message}")]
    Away { who: String, message: String },
    #[error("{who} refused: {message}")]
    Refused { who: String, message: String },
}

impl Broken {
    /// Sorts another service's answer into "try again" and "never".
    pub(super) fn of(who: &str, status: &Status) -> Self {
        let (who, message) = (who.to_owned(), status.message().to_owned());
        match status.code() {
            Code::NotFound
            | Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unimplemented => Broken::Refused { who, message },
            _ => Broken::Away { who, message },
        }
    }
}

pub(super) fn failure(reason: &str, message: impl Into<String>) -> OperationError {
    OperationError { reason: reason.to_owned(), message: message.into(), rejections: Vec::new() }
}

/// Drives an operation until it is done or the scheduler ends.
pub(super) async fn drive(engine: &Arc<Engine>, name: &str, wake: &Notify) {
    let mut pause = FIRST_PAUSE;
    loop {
        if engine.shutdown.is_cancelled() {
            return;
        }
        let next = match step(engine, name).await {
            Ok(None) => return,
            Ok(Some(next)) => next,
            Err(Broken::Refused { who, message }) => {
                Next::Fail(failure("TASK_FAILED", format!("{who} refused: {message}")))
            }
            Err(error) => Next::Wait(chain(&error)),
        };
        let sleep = match next {
            Next::Advance => {
                pause = FIRST_PAUSE;
                continue;
            }
            Next::Fail(error) => match close::fail(engine, name, error).await {
                Ok(()) => continue,
                Err(error) => {
                    tracing::error!(error = %chain(&error), operation.id = name, "a failure cannot be stored");
                    pause
                }
            },
            Next::Listen => RUNNING_LOOK,
            Next::Wait(why) => {
                note_waiting(engine, name, &why, pause).await;
                let this = pause;
                pause = (pause * 2).min(LAST_PAUSE);
                this
            }
        };
        tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep(sleep) => {}
            () = engine.shutdown.cancelled() => return,
        }
    }
}

async fn step(engine: &Arc<Engine>, name: &str) -> Result<Option<Next>, Broken> {
    let row = engine.store.operation(name).await?;
    if row.operation.done {
        return Ok(None);
    }
    let next = match row.operation.phase() {
        OperationPhase::Placing | OperationPhase::Unspecified => place::place(engine, &row).await?,
        OperationPhase::Starting => start::start(engine, &row).await?,
        OperationPhase::Running => running(engine, &row).await?,
        OperationPhase::Closing => close::close(engine, &row).await?,
        OperationPhase::Done | OperationPhase::Failed => return Ok(None),
    };
    Ok(Some(next))
}

/// The rack works; its reports come through the watcher.
async fn running(engine: &Arc<Engine>, row: &OperationRow) -> Result<Next, Broken> {
    watch::ensure(engine, &row.operation.rack);
    if row.cancel.is_empty() { Ok(Next::Listen) } else { start::abort(engine, row).await }
}

/// Every wait has a reason and a next try that people can see.
async fn note_waiting(engine: &Engine, name: &str, why: &str, pause: Duration) {
    tracing::info!(operation.id = name, reason = why, "operation waits");
    let next = timestamp(now_ms() + i64::try_from(pause.as_millis()).unwrap_or(0));
    let noted = engine
        .store
        .edit(name, |row| {
            row.operation.waiting = why.to_owned();
            row.operation.next_try_time = Some(next);
            row.operation.update_time = Some(now());
        })
        .await;
    if let Err(error) = noted {
        tracing::warn!(error = %chain(&error), operation.id = name, "the reason of a wait is not stored");
    }
}
