//! The image's bytes are kept at the centre as long as an instance needs them: a rack may have no copy yet, or lose it.

use super::Engine;
use super::close::away;
use super::drive::Broken;
use farrier_proto::images::{DropHoldRequest, HoldImageRequest};
use farrier_proto::rack::task_spec::Work;
use farrier_proto::scheduler::{Operation, OperationType};
use farrier_proto::types::DeployMethod;
use farrier_scheduler_store::OperationRow;

/// Before the rack is told: from here on the image that the task names stays.
pub(super) async fn take(engine: &Engine, row: &OperationRow) -> Result<(), Broken> {
    let op = &row.operation;
    let (OperationType::Deploy, Some(Work::Deploy(deploy))) = (op.r#type(), &row.work.work) else {
        return Ok(());
    };
    let request = HoldImageRequest {
        name: deploy.image.clone(),
        manifest_sha256: deploy.manifest_sha256.clone(),
        instance: op.target.clone(),
        owner: row.owner.clone(),
    };
    let held = engine.clients.images.clone().hold_image(request).await;
    held.map(drop).map_err(|status| Broken::of("images", &status))
}

/// At the end of an operation: whoever needs the bytes no more lets go of them. Asked again it is no error. A system
/// that runs does not wait for the images service to be told so: then the hold goes with its instance, and that waits.
pub(super) async fn settle(engine: &Engine, row: &OperationRow) -> Result<(), Broken> {
    let op = &row.operation;
    if !ends(op, row.work.work.as_ref()) {
        return Ok(());
    }
    let request = DropHoldRequest { instance: op.target.clone() };
    match engine.clients.images.clone().drop_hold(request).await {
        Ok(_) => Ok(()),
        Err(status) if op.r#type() == OperationType::Deploy => {
            tracing::warn!(operation.id = %op.name, error = status.message(), "the image stays held until its instance is taken back");
            Ok(())
        }
        Err(status) => Err(away("images", &status)),
    }
}

/// Whether the instance needs no bytes of its image after this operation. A diskless one does until it is taken back:
/// also one whose deployment failed, since its disk may be there.
fn ends(op: &Operation, work: Option<&Work>) -> bool {
    match (op.r#type(), work) {
        (OperationType::Deploy, Some(Work::Deploy(deploy))) => deploy.method() != DeployMethod::Diskless,
        (OperationType::Undeploy, _) => op.error.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::drive::failure;
    use super::*;
    use farrier_proto::rack::{Clean, Deploy};

    #[test]
    fn a_diskless_instance_needs_its_image_until_it_is_taken_back_and_others_while_they_are_made() {
        let ends = |kind: OperationType, method: DeployMethod, fails: bool| {
            let mut op = Operation { error: fails.then(|| failure("x", "y")), ..Operation::default() };
            op.set_type(kind);
            let work = match kind {
                OperationType::Undeploy => Work::Clean(Clean::default()),
                _ => Work::Deploy(Deploy { method: method.into(), ..Deploy::default() }),
            };
            super::ends(&op, Some(&work))
        };
        let (deploy, undeploy) = (OperationType::Deploy, OperationType::Undeploy);
        for fails in [false, true] {
            for method in [DeployMethod::Unspecified, DeployMethod::Direct, DeployMethod::Iscsi] {
                assert!(ends(deploy, method, fails));
            }
            assert!(!ends(deploy, DeployMethod::Diskless, fails));
            assert!(!ends(OperationType::Recover, DeployMethod::Diskless, fails));
            assert_eq!(ends(undeploy, DeployMethod::Diskless, fails), !fails);
        }
    }
}
