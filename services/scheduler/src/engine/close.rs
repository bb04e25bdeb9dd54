//! Phase *closing*: write the outcome into the node, then into the operation and its instance.

use super::drive::{Broken, Next};
use super::{Engine, hold, image_hold, recover, snapshot};
use farrier_model::lifecycle::Event;
use farrier_proto::inventory::TransitionNodeRequest;
use farrier_proto::rack::{Step, StepState};
use farrier_proto::scheduler::{
    Instance, InstanceState, Operation, OperationError, OperationPhase, OperationType,
};
use farrier_runtime::crash;
use farrier_runtime::error::{Reason, reason_of};
use farrier_runtime::time::now;
use farrier_scheduler_store::{OperationRow, StoreError};
use tonic::Status;

pub(super) async fn close(engine: &Engine, row: &OperationRow) -> Result<Next, Broken> {
    let mut row = row.clone();
    if row.operation.r#type() == OperationType::Snapshot {
        let made = snapshot::release(engine, &row).await.map_err(|s| away("images", &s))?;
        let error = snapshot::settled(&row.operation, made);
        let written = engine.store.edit(&row.operation.name, |row| row.operation.error = error).await?;
        let Some(written) = written else { return Ok(Next::Advance) };
        row = written;
    }
    let op = &row.operation;
    crash::point("close", "before");
    let told = match op.r#type() {
        OperationType::Power
        | OperationType::Snapshot
        | OperationType::RotateBmcCredentials
        | OperationType::UpdateFirmware => hold::release(engine, op).await,
        OperationType::Recover if op.earlier_step_count == 0 => recover::release(engine, &row).await,
        _ => transition(engine, op).await,
    };
    match told {
        Ok(()) => {}
        // The node went on without us, or is gone: our outcome has no place there any more.
        Err(status) if superseded(&status) => {
            tracing::warn!(operation.id = %op.name, node.id = %op.node, error = status.message(), "outcome not taken by the node");
        }
        // Whatever else inventory says, the node is still ours: given up here, nobody would let go of it. A
        // wrong certificate and a half-done upgrade pass.
        Err(status) => {
            return Err(away("inventory", &status));
        }
    }
    // Before the instance may be gone: another of its name has a hold of its own.
    image_hold::settle(engine, &row).await?;
    crash::point("close", "after");
    finish(engine, &row).await?;
    crash::point("close", "done");
    Ok(Next::Advance)
}

pub(super) fn away(who: &str, status: &Status) -> Broken {
    Broken::Away { who: who.to_owned(), message: status.message().to_owned() }
}

/// Whether the node is no longer this operation's to let go of.
pub(super) fn superseded(status: &Status) -> bool {
    let reason = reason_of(status);
    [Reason::LifecycleRefused, Reason::NotFound].iter().any(|r| reason.as_deref() == Some(r.as_str()))
}

async fn transition(engine: &Engine, op: &Operation) -> Result<(), Status> {
    let event = match (&op.error, op.r#type()) {
        (None, OperationType::Clean) => Event::Cleaned,
        (None, _) => Event::Done,
        (Some(error), _) if error.reason == "CANCELLED" => Event::Abort,
        (Some(_), _) => Event::Fail,
    };
    let result = op.result.clone().unwrap_or_default();
    // Only an inspection waits for every disk and link. What another ramdisk saw in passing may lack some, and a
    // clean would then not look for them.
    let hardware =
        if op.error.is_none() && op.r#type() == OperationType::Inspect { result.hardware } else { None };
    let refused = result.bmc_password_refused;
    let request = TransitionNodeRequest {
        node: op.node.clone(),
        event: event.to_string(),
        bmc_credentials_rotated: !refused && has_replaced(op),
        bmc_credentials_refused: refused,
        bmc_account_proven: result.bmc_account_proven,
        operation: op.name.clone(),
        error: op.error.as_ref().map(|e| e.message.clone()).unwrap_or_default(),
        hardware,
        power_state: result.power_state,
        actor: op.actor.clone(),
        ..TransitionNodeRequest::default()
    };
    engine.clients.dispatch.clone().transition_node(request).await.map(drop)
}

/// Whether the rack gave the BMC another password on the way. An older rack has no such step.
fn has_replaced(op: &Operation) -> bool {
    let is_done = |step: &Step| step.state() == StepState::Done;
    op.steps.iter().any(|step| step.name == REPLACE && is_done(step))
}

/// The step of a rack that replaces a default password.
const REPLACE: &str = "replace_default_password";

async fn finish(engine: &Engine, row: &OperationRow) -> Result<(), StoreError> {
    let name = &row.operation.name;
    let undeployed = row.operation.r#type() == OperationType::Undeploy && row.operation.error.is_none();
    if undeployed {
        engine.store.edit_removing_instance(name, |row| end(&mut row.operation)).await?;
    } else {
        engine
            .store
            .edit_with_instance(name, |row, instance| {
                end(&mut row.operation);
                settle(&row.operation, instance);
            })
            .await?;
    }
    Ok(())
}

/// Ends an operation that never got to a rack, or that a rack or a service refused.
pub(super) async fn fail(engine: &Engine, name: &str, error: OperationError) -> Result<(), StoreError> {
    tracing::info!(operation.id = name, error = %error.message, "operation failed");
    engine
        .store
        .edit_with_instance(name, |row, instance| {
            row.operation.error = Some(error);
            // A node that is held must be let go of: closing does that. A recovery may hold one of its two already.
            if row.operation.phase() == OperationPhase::Starting
                || row.operation.phase() == OperationPhase::Running
                || row.operation.r#type() == OperationType::Recover
            {
                row.operation.set_phase(OperationPhase::Closing);
            } else {
                end(&mut row.operation);
                settle(&row.operation, instance);
            }
        })
        .await?;
    Ok(())
}

fn end(op: &mut Operation) {
    op.set_phase(if op.error.is_some() { OperationPhase::Failed } else { OperationPhase::Done });
    op.done = true;
    op.waiting.clear();
    op.next_try_time = None;
    op.end_time = Some(now());
    op.update_time = Some(now());
}

/// What the end of an operation means for its instance.
fn settle(op: &Operation, instance: &mut Instance) {
    if !matches!(op.r#type(), OperationType::Deploy | OperationType::Undeploy | OperationType::Recover) {
        return;
    }
    instance.update_time = Some(now());
    // A recovery that ended before the disk was given away: the instance is where it was, as it was.
    if op.r#type() == OperationType::Recover && op.earlier_step_count == 0 {
        instance.last_error = op.error.as_ref().map(|error| error.message.clone()).unwrap_or_default();
        return;
    }
    match &op.error {
        Some(error) => {
            instance.set_state(InstanceState::Failed);
            instance.last_error.clone_from(&error.message);
        }
        None => {
            instance.set_state(InstanceState::Active);
            instance.last_error.clear();
            instance.addresses = op.result.as_ref().map(|r| r.addresses.clone()).unwrap_or_default();
        }
    }
}
