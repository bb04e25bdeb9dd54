//! One watcher a rack: its reports into the operations.

use super::drive::failure;
use super::start::{operation_of, set_steps, task_id};
use super::{Engine, recover};
use farrier_proto::inventory::GetRackRequest;
use farrier_proto::rack::{GetTaskRequest, Task, TaskState, WatchTasksRequest};
use farrier_proto::scheduler::OperationPhase;
use farrier_runtime::telemetry::chain;
use farrier_runtime::time::now;
use farrier_scheduler_store::StoreError;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tonic::{Code, Request, Status};

/// Longest wait for the beginning of the stream, and for one task.
const CALL: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// Watches a rack from now on. Once is enough.
pub(super) fn ensure(engine: &Arc<Engine>, rack: &str) {
    if rack.is_empty()
        || !engine.watched.lock().unwrap_or_else(PoisonError::into_inner).insert(rack.to_owned())
    {
        return;
    }
    let (engine, rack) = (engine.clone(), rack.to_owned());
    engine.tracker.clone().spawn(async move {
        let mut pause = FIRST_PAUSE;
        loop {
            let followed = tokio::select! {
                followed = follow(&engine, &rack, &mut pause) => followed,
                () = engine.shutdown.cancelled() => return,
            };
            if let Err(why) = followed {
                tracing::warn!(rack.id = %rack, error = %why, "rack cannot be followed");
                note(&engine, &rack, &why).await;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LAST_PAUSE),
                () = engine.shutdown.cancelled() => return,
            }
        }
    });
}

/// Follows a rack's reports until the link breaks.
async fn follow(engine: &Engine, rack: &str, pause: &mut Duration) -> Result<(), String> {
    let away = |s: Status| format!("{rack} does not answer: {}", s.message());
    let registered = engine
        .clients
        .racks
        .clone()
        .get_rack(GetRackRequest { name: rack.to_owned() })
        .await
        .map_err(|s| format!("inventory does not answer: {}", s.message()))?
        .into_inner();
    let mut client = engine.clients.rack(rack, &registered.address).map_err(|e| chain(&e))?;
    let after_sequence = engine.store.cursor(rack).await.map_err(|e| chain(&e))?;
    let watch = client.watch_tasks(WatchTasksRequest { after_sequence });
    let mut reports = match tokio::time::timeout(CALL, watch).await {
        Ok(answer) => answer.map_err(away)?.into_inner(),
        Err(_) => return Err(format!("{rack} does not answer within {CALL:?}")),
    };
    // A rack that lost its journal has lost its tasks: they are given to it again.
    for row in engine.store.running_at(rack).await.map_err(|e| chain(&e))? {
        let mut request = Request::new(GetTaskRequest { id: task_id(&row.operation) });
        request.set_timeout(CALL);
        match client.get_task(request).await {
            Ok(task) => report(engine, task.into_inner()).await.map_err(|e| chain(&e))?,
            Err(status) if status.code() == Code::NotFound => {
                engine
                    .store
                    .edit(&row.operation.name, |row| row.operation.set_phase(OperationPhase::Starting))
                    .await
                    .map_err(|e| chain(&e))?;
                engine.wake(&row.operation.name);
            }
            Err(status) => return Err(away(status)),
        }
    }
    *pause = FIRST_PAUSE;
    while let Some(task) = reports.message().await.map_err(away)? {
        let sequence = task.sequence;
        report(engine, task).await.map_err(|e| chain(&e))?;
        engine.store.set_cursor(rack, sequence).await.map_err(|e| chain(&e))?;
    }
    Err(format!("{rack} ended the stream"))
}

/// One report of one task.
pub(super) async fn report(engine: &Engine, task: Task) -> Result<(), StoreError> {
    let name = operation_of(&task.id);
    let state = task.state();
    let edited = engine
        .store
        .edit(&name, |row| {
            let op = &mut row.operation;
            let working = matches!(op.phase(), OperationPhase::Starting | OperationPhase::Running);
            // A late word of its first task changes nothing in the second.
            if !working || task_id(op) != task.id {
                return;
            }
            set_steps(op, task.steps);
            op.result = task.result;
            op.waiting.clear();
            op.next_try_time = None;
            op.update_time = Some(now());
            match state {
                TaskState::Running | TaskState::Unspecified => {}
                TaskState::Done if recover::is_fencing(op) => recover::fenced(op),
                TaskState::Done => op.set_phase(OperationPhase::Closing),
                TaskState::Failed => {
                    op.set_phase(OperationPhase::Closing);
                    op.error = Some(failure("TASK_FAILED", task.error));
                }
                TaskState::Aborted => {
                    op.set_phase(OperationPhase::Closing);
                    op.error = Some(failure("CANCELLED", task.error));
                }
            }
        })
        .await;
    match edited {
        // Tasks of another scheduler's database, or started by hand.
        Err(StoreError::NotFound { .. }) => Ok(()),
        Err(other) => Err(other),
        Ok(_) => {
            if state != TaskState::Running {
                engine.wake(&name);
            }
            Ok(())
        }
    }
}

/// Tells everybody who waits for this rack.
async fn note(engine: &Engine, rack: &str, why: &str) {
    let Ok(rows) = engine.store.running_at(rack).await else { return };
    for row in rows.iter().filter(|r| r.operation.waiting != why) {
        let _ = engine
            .store
            .edit(&row.operation.name, |row| {
                row.operation.waiting = why.to_owned();
                row.operation.update_time = Some(now());
            })
            .await;
    }
}
