//! Phase *placing*: choose a node and reserve it, or take the node that was named.

use super::drive::{Broken, Next, failure};
use super::networks::Networks;
use super::{Engine, hold, placement, recover, snapshot};
use farrier_model::lifecycle::Event;
use farrier_model::placement::Rejection;
use farrier_proto::images::GetImageRequest;
use farrier_proto::inventory::{
    GetFlavorRequest, ListNodesRequest, Node, TransitionNodeRequest, TransitionNodeResponse,
};
use farrier_proto::rack::task_spec::Work;
use farrier_proto::scheduler::{InstanceState, OperationPhase, OperationType};
use farrier_proto::types::ProvisionState;
use farrier_runtime::crash;
use farrier_runtime::error::{Reason, reason_of};
use farrier_runtime::time::now;
use farrier_scheduler_store::{OperationRow, StoreError};
use tonic::{Code, Status};

pub(super) async fn place(engine: &Engine, row: &OperationRow) -> Result<Next, Broken> {
    let op = &row.operation;
    if op.r#type() == OperationType::Recover {
        // It has two nodes.
        return recover::place(engine, row).await;
    }
    // A crash may have come between the reservation and its note: the node knows whose it is.
    if let Some(node) = reserved(engine, &op.name).await? {
        return reserve_noted(engine, row, &node).await;
    }
    if !row.cancel.is_empty() {
        return Ok(Next::Fail(failure("CANCELLED", row.cancel.clone())));
    }
    if let Some(ahead) = engine.store.ahead_of(&op.name, &op.node, &op.target).await? {
        return Ok(Next::Wait(format!("{ahead} is not done yet; work on one node is done in order")));
    }
    match op.r#type() {
        OperationType::Deploy => choose(engine, row).await,
        OperationType::Undeploy => undeploy(engine, row).await,
        OperationType::Power | OperationType::RotateBmcCredentials | OperationType::UpdateFirmware => {
            hold::node(engine, row, &op.node).await
        }
        OperationType::Snapshot => snapshot::place(engine, row).await,
        _ => verb(engine, row, &op.node).await,
    }
}

/// The node that inventory holds for this operation.
async fn reserved(engine: &Engine, operation: &str) -> Result<Option<Node>, Broken> {
    let request = ListNodesRequest {
        page_size: 1,
        filter: format!("operation={operation}"),
        ..ListNodesRequest::default()
    };
    let answer = engine.clients.nodes.clone().list_nodes(request).await.map_err(|s| away("inventory", &s))?;
    Ok(answer.into_inner().nodes.into_iter().next())
}

/// Chooses the best node that nobody else takes first.
async fn choose(engine: &Engine, row: &OperationRow) -> Result<Next, Broken> {
    let instance = match engine.store.instance(&row.operation.target).await {
        Ok(instance) => instance,
        Err(StoreError::NotFound { name }) => {
            return Ok(Next::Fail(failure("NOT_FOUND", format!("{name} is gone"))));
        }
        Err(other) => return Err(other.into()),
    };
    let flavor = engine
        .clients
        .flavors
        .clone()
        .get_flavor(GetFlavorRequest { name: instance.flavor.clone() })
        .await
        .map_err(|s| Broken::of("inventory", &s))?
        .into_inner();
    let image = engine
        .clients
        .images
        .clone()
        .get_image(GetImageRequest { name: instance.image.clone() })
        .await
        .map_err(|s| Broken::of("images", &s))?
        .into_inner();
    let demand = placement::demand(&instance, &flavor, &image);
    let (mut placed, nodes) = engine.candidates(&demand).await.map_err(|s| Broken::of("inventory", &s))?;
    let mut networks = Networks::new(&instance.network);
    let mut taken = 0;
    for name in std::mem::take(&mut placed.fits) {
        let Some(Node { etag, rack, .. }) = nodes.iter().find(|n| n.name == name).cloned() else { continue };
        if let Some(reason) = networks.refuse(engine, &rack).await {
            placed.rejections.push(Rejection { node: name, reason });
            continue;
        }
        let request = TransitionNodeRequest {
            node: name.clone(),
            event: Event::Deploy.to_string(),
            operation: row.operation.name.clone(),
            instance: instance.name.clone(),
            etag,
            actor: row.operation.actor.clone(),
            ..TransitionNodeRequest::default()
        };
        crash::point("reserve", "before");
        match engine.clients.dispatch.clone().transition_node(request).await {
            Ok(answer) => {
                crash::point("reserve", "after");
                let node = answer.into_inner().node.unwrap_or_default();
                return reserve_noted(engine, row, &node).await;
            }
            // Another took it between our look and our hand: the next best.
            Err(status) if lost(&status) => taken += 1,
            Err(status) => return Err(Broken::of("inventory", &status)),
        }
    }
    if taken == 0 {
        return Ok(Next::Fail(placement::error(&placed)));
    }
    Ok(Next::Wait(format!("{taken} nodes fit, all were taken by others meanwhile")))
}

/// Takes the instance's node back; an instance that never got one is just removed.
async fn undeploy(engine: &Engine, row: &OperationRow) -> Result<Next, Broken> {
    let instance = match engine.store.instance(&row.operation.target).await {
        Ok(instance) => Some(instance),
        Err(StoreError::NotFound { .. }) => None,
        Err(other) => return Err(other.into()),
    };
    let Some(instance) = instance.filter(|i| !i.placed_node.is_empty()) else {
        engine
            .store
            .edit_removing_instance(&row.operation.name, |row| {
                row.operation.set_phase(OperationPhase::Done);
                row.operation.done = true;
                row.operation.waiting.clear();
                row.operation.end_time = Some(now());
                row.operation.update_time = Some(now());
            })
            .await?;
        return Ok(Next::Advance);
    };
    verb(engine, row, &instance.placed_node).await
}

/// Moves a named node by the operation's verb.
async fn verb(engine: &Engine, row: &OperationRow, node: &str) -> Result<Next, Broken> {
    let event = match row.operation.r#type() {
        OperationType::Manage => Event::Manage,
        OperationType::Inspect => Event::Inspect,
        OperationType::Clean => Event::Clean,
        OperationType::Provide => Event::Provide,
        OperationType::Undeploy => Event::Undeploy,
        OperationType::Deploy
        | OperationType::Power
        | OperationType::RotateBmcCredentials
        | OperationType::UpdateFirmware
        | OperationType::Snapshot
        | OperationType::Recover
        | OperationType::Unspecified => {
            return Ok(Next::Fail(failure("LIFECYCLE_REFUSED", "this operation has no verb")));
        }
    };
    let request = TransitionNodeRequest {
        node: node.to_owned(),
        event: event.to_string(),
        operation: row.operation.name.clone(),
        actor: row.operation.actor.clone(),
        ..TransitionNodeRequest::default()
    };
    match engine.clients.dispatch.clone().transition_node(request).await {
        Ok(answer) => {
            let TransitionNodeResponse { node, .. } = answer.into_inner();
            reserve_noted(engine, row, &node.unwrap_or_default()).await
        }
        Err(status) if status.code() == Code::Aborted => Ok(Next::Wait(status.message().to_owned())),
        Err(status) if reason_of(&status).as_deref() == Some(Reason::LifecycleRefused.as_str()) => {
            Ok(Next::Fail(failure("LIFECYCLE_REFUSED", status.message())))
        }
        Err(status) => Err(Broken::of("inventory", &status)),
    }
}

/// The node is ours: note it, and go on to the rack if there is work for it.
pub(super) async fn reserve_noted(engine: &Engine, row: &OperationRow, node: &Node) -> Result<Next, Broken> {
    let works = is_working(node.state())
        || matches!(
            row.work.work,
            Some(
                Work::Power(_) | Work::Snapshot(_) | Work::RotateBmcCredentials(_) | Work::UpdateFirmware(_)
            )
        );
    let deploy = row.operation.r#type() == OperationType::Deploy;
    let undeploy = row.operation.r#type() == OperationType::Undeploy;
    engine
        .store
        .edit_with_instance(&row.operation.name, |row, instance| {
            row.operation.node.clone_from(&node.name);
            row.operation.rack.clone_from(&node.rack);
            row.operation.waiting.clear();
            row.operation.next_try_time = None;
            row.operation.update_time = Some(now());
            if works {
                row.operation.set_phase(OperationPhase::Starting);
            } else {
                // `manage` of an available node: a change of state without work.
                row.operation.set_phase(OperationPhase::Done);
                row.operation.done = true;
                row.operation.end_time = Some(now());
            }
            if deploy {
                instance.placed_node.clone_from(&node.name);
                instance.set_state(InstanceState::Deploying);
                instance.update_time = Some(now());
            } else if undeploy {
                instance.set_state(InstanceState::Deleting);
                instance.operation.clone_from(&row.operation.name);
                instance.update_time = Some(now());
            }
        })
        .await?;
    Ok(Next::Advance)
}

fn is_working(state: ProvisionState) -> bool {
    crate::app::state_of(state).is_working()
}

/// Somebody else has it, or it changed: not an error, another node may do.
fn lost(status: &Status) -> bool {
    status.code() == Code::Aborted
        || reason_of(status).as_deref() == Some(Reason::LifecycleRefused.as_str())
        || status.code() == Code::NotFound
}

fn away(who: &str, status: &Status) -> Broken {
    Broken::Away { who: who.to_owned(), message: status.message().to_owned() }
}
