//! A recovery: an operation with two nodes and two tasks.
//!
//! Both nodes are held first, so that nobody else takes either. The first task runs on the node that broke and ends
//! with the disk given to the other: until then, everything can be let go of as it was. From then on the disk is the
//! other node's, whatever happens: that node is deployed, and the first one is dirty and without an instance.

use super::Engine;
use super::close::superseded;
use super::drive::{Broken, Next, failure};
use super::hold::{self, Held};
use crate::app::state_of;
use farrier_model::lifecycle::{Event, State};
use farrier_proto::inventory::{Dispatch, GetDispatchRequest, Node, TransitionNodeRequest};
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Fence, Recovery, TaskSpec};
use farrier_proto::scheduler::{Instance, InstanceState, Operation, OperationPhase, OperationType};
use farrier_proto::types::BootMode;
use farrier_runtime::crash;
use farrier_runtime::time::now;
use farrier_scheduler_store::{OperationRow, StoreError};
use tonic::Status;

/// Why a node cannot take the disk of an instance that lives on `from`; empty: it can.
pub(crate) fn unfit(instance: &Instance, from: &Dispatch, onto: &Dispatch) -> Vec<String> {
    let bootable = onto.ports.iter().any(|port| port.pxe_enabled);
    let (none_from, none_onto) = (Node::default(), Node::default());
    let (from, onto) = (from.node.as_ref().unwrap_or(&none_from), onto.node.as_ref().unwrap_or(&none_onto));
    let (was, is) = (state_of(from.state()), state_of(onto.state()));
    let mut why = Vec::new();
    if from.instance != instance.name {
        why.push(format!("{} is not given to {}", from.name, instance.name));
    }
    if !matches!(was, State::Active | State::DeployFailed) {
        why.push(format!("{} must be active or deploy failed, is {was}", from.name));
    }
    if from.name == onto.name {
        // Trying again where it already is makes sense after a failure only.
        if was != State::DeployFailed {
            why.push(format!("{} is where it lives: name another node", onto.name));
        }
    } else {
        if is != State::Available {
            why.push(format!("state: must be available, is {is}"));
        }
        if onto.maintenance {
            why.push("maintenance: a person keeps it out of use".to_owned());
        }
    }
    if onto.rack != from.rack {
        why.push(format!(
            "rack: the disk is at {}, {} is in {}; make an image of it with `farrier instance snapshot` to take it to another rack",
            from.rack, onto.name, onto.rack
        ));
    }
    if !onto.owner.is_empty() && onto.owner != instance.owner {
        why.push("owner: belongs to another project".to_owned());
    }
    if !bootable {
        why.push("ports: none with network boot enabled".to_owned());
    }
    if boot_mode(onto) != boot_mode(from) {
        why.push(format!(
            "boot mode: the disk boots with {}, the node with {}",
            boot_mode(from),
            boot_mode(onto)
        ));
    }
    let known = !from.architecture.is_empty() && !onto.architecture.is_empty();
    if known && onto.architecture != from.architecture {
        why.push(format!(
            "architecture: the disk is of {}, the node of {}",
            from.architecture, onto.architecture
        ));
    }
    why
}

/// As racks understand it.
fn boot_mode(node: &Node) -> &'static str {
    match node.boot_mode() {
        BootMode::Bios => "bios",
        BootMode::Uefi | BootMode::Unspecified => "uefi",
    }
}

/// Whether the operation's first task is the one under way.
pub(super) fn is_fencing(op: &Operation) -> bool {
    op.r#type() == OperationType::Recover && op.earlier_step_count == 0
}

/// The first task has ended well: the disk is the other node's.
pub(super) fn fenced(op: &mut Operation) {
    op.earlier_step_count = i32::try_from(op.steps.len()).unwrap_or(i32::MAX);
    op.set_phase(OperationPhase::Placing);
}

/// What the rack does now.
pub(super) fn work(op: &Operation, stored: TaskSpec) -> TaskSpec {
    match stored.work {
        Some(Work::Deploy(deploy)) if is_fencing(op) => {
            let Recovery { onto, force, .. } = deploy.recovery.unwrap_or_default();
            let fence = Fence { instance: deploy.instance, onto, force };
            TaskSpec { work: Some(Work::Fence(fence)), ..stored }
        }
        work => TaskSpec { work, ..stored },
    }
}

/// Phase *placing*, of either task.
pub(super) async fn place(engine: &Engine, row: &OperationRow) -> Result<Next, Broken> {
    let Some(recovery) = recovery(row) else {
        return Ok(Next::Fail(failure("LIFECYCLE_REFUSED", "this operation names no nodes")));
    };
    // Also when it is to stop: the disk is the other node's already, and somebody must have that node.
    if row.operation.earlier_step_count > 0 {
        return attach(engine, row, recovery).await;
    }
    let op = &row.operation;
    if !row.cancel.is_empty() {
        return Ok(Next::Fail(failure("CANCELLED", row.cancel.clone())));
    }
    if let Some(ahead) = engine.store.ahead_of(&op.name, &op.node, &op.target).await? {
        return Ok(Next::Wait(format!("{ahead} is not done yet; work on one node is done in order")));
    }
    let instance = match engine.store.instance(&op.target).await {
        Ok(instance) => instance,
        Err(StoreError::NotFound { name }) => {
            return Ok(Next::Fail(failure("NOT_FOUND", format!("{name} is gone"))));
        }
        Err(other) => return Err(other.into()),
    };
    if instance.placed_node != recovery.from {
        let why = format!("{} lives on {:?} meanwhile", instance.name, instance.placed_node);
        return Ok(Next::Fail(failure("LIFECYCLE_REFUSED", why)));
    }
    for (node, point) in [(&recovery.from, "recover_hold_from"), (&recovery.onto, "recover_hold_onto")] {
        if let Held::Others(why) = hold::take(engine, row, node).await? {
            return Ok(Next::Wait(why));
        }
        crash::point(point, "after");
    }
    // Judged when both are held: what is true now stays true.
    let (from, onto) = (dispatch(engine, &recovery.from).await?, dispatch(engine, &recovery.onto).await?);
    let why = unfit(&instance, &from, &onto);
    if !why.is_empty() {
        let why = format!("{} cannot take {}: {}", recovery.onto, instance.name, why.join("; "));
        return Ok(Next::Fail(failure("NO_NODE_FITS", why)));
    }
    let from = from.node.unwrap_or_default();
    engine
        .store
        .edit(&op.name, |row| {
            note_node(&mut row.operation, &from);
        })
        .await?;
    Ok(Next::Advance)
}

/// The disk is the other node's: so is the instance.
async fn attach(engine: &Engine, row: &OperationRow, recovery: &Recovery) -> Result<Next, Broken> {
    let op = &row.operation;
    let request = TransitionNodeRequest {
        node: recovery.onto.clone(),
        event: Event::Recover.to_string(),
        operation: op.name.clone(),
        instance: op.target.clone(),
        actor: op.actor.clone(),
        ..TransitionNodeRequest::default()
    };
    let node = match engine.clients.dispatch.clone().transition_node(request).await {
        Ok(answer) => answer.into_inner().node.unwrap_or_default(),
        // Never given up: the disk is there, and nothing else may come to that node.
        Err(status) => {
            let why = format!("{} has the disk and cannot be deployed: {}", recovery.onto, status.message());
            return Ok(Next::Wait(why));
        }
    };
    crash::point("recover_attach", "after");
    if recovery.from != recovery.onto {
        match moved(engine, op, recovery).await {
            Ok(()) => {}
            Err(status) if superseded(&status) => {}
            Err(status) => return Err(Broken::of("inventory", &status)),
        }
        crash::point("recover_moved", "after");
    }
    engine
        .store
        .edit_with_instance(&op.name, |row, instance| {
            note_node(&mut row.operation, &node);
            instance.placed_node.clone_from(&node.name);
            instance.operation.clone_from(&row.operation.name);
            instance.set_state(InstanceState::Deploying);
            instance.update_time = Some(now());
        })
        .await?;
    Ok(Next::Advance)
}

/// The node that broke has no instance any more, and is dirty.
async fn moved(engine: &Engine, op: &Operation, recovery: &Recovery) -> Result<(), Status> {
    let id = recovery.from.trim_start_matches("nodes/");
    let request = TransitionNodeRequest {
        node: recovery.from.clone(),
        event: Event::Moved.to_string(),
        operation: op.name.clone(),
        error: format!(
            "{} was taken from it and lives on {} now; repair it, see that it is off, then offer it again: `farrier node provide {id}`",
            op.target, recovery.onto
        ),
        power_state: op.result.as_ref().map_or(0, |result| result.power_state),
        actor: op.actor.clone(),
        ..TransitionNodeRequest::default()
    };
    engine.clients.dispatch.clone().transition_node(request).await.map(drop)
}

/// Lets go of both nodes: the disk stays where it is, so does the instance.
pub(super) async fn release(engine: &Engine, row: &OperationRow) -> Result<(), Status> {
    let Some(recovery) = recovery(row) else { return Ok(()) };
    let op = Operation { node: recovery.from.clone(), ..row.operation.clone() };
    let first = hold::release(engine, &op).await;
    let second = match recovery.from == recovery.onto {
        true => Ok(()),
        false => hold::release_untouched(engine, &op, &recovery.onto).await,
    };
    // One that was not held yet, or is gone, must not keep the other.
    for told in [first, second] {
        match told {
            Err(status) if !superseded(&status) => return Err(status),
            _ => {}
        }
    }
    Ok(())
}

fn note_node(op: &mut Operation, node: &Node) {
    op.node.clone_from(&node.name);
    op.rack.clone_from(&node.rack);
    op.set_phase(OperationPhase::Starting);
    op.waiting.clear();
    op.next_try_time = None;
    op.update_time = Some(now());
}

async fn dispatch(engine: &Engine, node: &str) -> Result<Dispatch, Broken> {
    let request = GetDispatchRequest { node: node.to_owned(), flavor: String::new() };
    let answer = engine.clients.dispatch.clone().get_dispatch(request).await;
    Ok(answer.map_err(|s| Broken::of("inventory", &s))?.into_inner())
}

fn recovery(row: &OperationRow) -> Option<&Recovery> {
    match &row.work.work {
        Some(Work::Deploy(deploy)) => deploy.recovery.as_ref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
