//! Snapshots: the node is held, the image's name reserved for its rack, and both let go of at the end.

use super::drive::{Broken, Next, failure};
use super::{Engine, hold};
use farrier_proto::images::{Image, ReleaseImageRequest, ReserveImageRequest};
use farrier_proto::inventory::Node;
use farrier_proto::rack::{Snapshot, task_spec};
use farrier_proto::scheduler::{InstanceState, Operation, OperationError};
use farrier_scheduler_store::{OperationRow, StoreError};
use tonic::{Code, Status};

/// Takes the node that the instance lives on now: it may have moved while the request waited for its turn.
pub(super) async fn place(engine: &Engine, row: &OperationRow) -> Result<Next, Broken> {
    let instance = match engine.store.instance(&row.operation.target).await {
        Ok(instance) => instance,
        Err(StoreError::NotFound { name }) => {
            return Ok(Next::Fail(failure("NOT_FOUND", format!("{name} is gone"))));
        }
        Err(other) => return Err(other.into()),
    };
    if instance.state() != InstanceState::Active {
        let why =
            format!("{} is not active any more: a snapshot is made of an active instance", instance.name);
        return Ok(Next::Fail(failure("LIFECYCLE_REFUSED", why)));
    }
    hold::node(engine, row, &instance.placed_node).await
}

/// Reserves the image's name for the node's rack, and nobody else's. `Err` in `Ok`: it is another's.
pub(super) async fn reserve(
    engine: &Engine,
    row: &OperationRow,
    node: &Node,
    snapshot: &mut Snapshot,
) -> Result<Result<(), OperationError>, Broken> {
    let image = Image {
        name: snapshot.image.clone(),
        description: snapshot.description.clone(),
        // What runs on it was built for it.
        architecture: node.architecture.clone(),
        owner: row.owner.clone(),
        ..Image::default()
    };
    let request = ReserveImageRequest {
        image: Some(image),
        rack: row.operation.rack.clone(),
        operation: row.operation.name.clone(),
    };
    match engine.clients.images.clone().reserve_image(request).await {
        Ok(answer) => {
            snapshot.max_bytes = answer.into_inner().max_bytes;
            Ok(Ok(()))
        }
        Err(status) if status.code() == Code::AlreadyExists => {
            Ok(Err(failure("NAME_TAKEN", status.message())))
        }
        Err(status) => Err(Broken::of("images", &status)),
    }
}

/// Ends the reservation. Whether there is an image now: one that was whole before the work was stopped is there.
pub(super) async fn release(engine: &Engine, row: &OperationRow) -> Result<bool, Status> {
    let Some(task_spec::Work::Snapshot(snapshot)) = &row.work.work else { return Ok(false) };
    let request = ReleaseImageRequest { name: snapshot.image.clone(), operation: row.operation.name.clone() };
    let answer = engine.clients.images.clone().release_image(request).await?;
    Ok(answer.into_inner().image.is_some())
}

/// What the end of the work means, now that it is known whether there is an image.
pub(super) fn settled(op: &Operation, made: bool) -> Option<OperationError> {
    op.error.clone().filter(|_| !made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_is_there_was_made_although_the_work_was_stopped_behind_it() {
        let stopped = Operation { error: Some(failure("CANCELLED", "stopped")), ..Operation::default() };
        assert_eq!(settled(&stopped, true), None);
        assert_eq!(settled(&stopped, false), stopped.error);
        assert_eq!(settled(&Operation::default(), true), None);
    }
}
