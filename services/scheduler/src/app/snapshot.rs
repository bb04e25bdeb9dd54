//! An image of a diskless instance's disk.

use super::{App, new_operation, request_key, store_error};
use farrier_model::{Collection, parse_name};
use farrier_proto::images::GetImageRequest;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Snapshot, TaskSpec};
use farrier_proto::scheduler::{Instance, InstanceState, Operation, OperationType, SnapshotInstanceRequest};
use farrier_proto::types::DeployMethod;
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{Reason, asked, invalid, refuse, refuse_with};
use farrier_scheduler_store::NewOperation;
use tonic::{Code, Status};

impl App {
    pub(crate) async fn snapshot(
        &self,
        caller: &Caller,
        request: SnapshotInstanceRequest,
    ) -> Result<Operation, Status> {
        let key = request_key(caller, &request.request_id, &request);
        if let Some(before) = self.answered(&key).await? {
            return Ok(before);
        }
        parse_name(Collection::Images, &request.image).map_err(|e| invalid("image", e))?;
        if request.description.len() > DESCRIPTION_MAX {
            return Err(invalid("description", format!("expected at most {DESCRIPTION_MAX} bytes")));
        }
        let instance = self.own_instance(caller, &request.name).await?;
        has_disk_at_rack(&instance)?;
        if instance.state() != InstanceState::Active {
            return Err(not_now(&instance, "a snapshot is made of an active instance"));
        }
        self.is_free(&request.image).await?;
        let work = Work::Snapshot(Snapshot {
            instance: instance.name.clone(),
            image: request.image,
            description: request.description,
            max_bytes: 0,
        });
        let work = TaskSpec { machine: None, work: Some(work) };
        let mut row =
            new_operation(caller, OperationType::Snapshot, &instance.name, &instance.placed_node, work);
        // The image will be the project's, whoever asked.
        row.owner.clone_from(&instance.owner);
        let stored =
            self.store.create(NewOperation { row, request: key, create: None }).await.map_err(store_error)?;
        self.engine.nudge();
        Ok(stored)
    }

    /// Known now, before any work. Whoever is quicker meanwhile is found when the name is reserved.
    async fn is_free(&self, image: &str) -> Result<(), Status> {
        let asked_for = GetImageRequest { name: image.to_owned() };
        match self.clients.images.clone().get_image(asked_for).await {
            Ok(_) => Err(refuse_with(
                Code::AlreadyExists,
                Reason::NameTaken,
                format!("{image} exists: choose another name or delete it first"),
                [("resource", image.to_owned())],
            )),
            Err(status) if status.code() == Code::NotFound => Ok(()),
            Err(status) => Err(asked("images", status)),
        }
    }
}

/// Everybody else's disk is in its machine.
pub(super) fn has_disk_at_rack(instance: &Instance) -> Result<(), Status> {
    let method = instance.method();
    if method == DeployMethod::Diskless {
        return Ok(());
    }
    let seen = method.as_str_name().trim_start_matches("DEPLOY_METHOD_").to_lowercase();
    Err(refuse_with(
        Code::FailedPrecondition,
        Reason::NotDiskless,
        format!(
            "{} was deployed by method {seen}: its disk is in its machine. Expected a diskless instance, whose disk is at its rack",
            instance.name
        ),
        [("method", seen)],
    ))
}

pub(super) fn not_now(instance: &Instance, expected: &str) -> Status {
    let state = instance.state().as_str_name().trim_start_matches("INSTANCE_STATE_").to_lowercase();
    refuse(
        Code::FailedPrecondition,
        Reason::LifecycleRefused,
        format!("{} is {state}: {expected}", instance.name),
    )
}

/// As the images service has it.
const DESCRIPTION_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_runtime::error::reason_of;

    #[test]
    fn only_a_diskless_instance_has_its_disk_at_the_rack() {
        for (method, good) in [
            (DeployMethod::Diskless, true),
            (DeployMethod::Direct, false),
            (DeployMethod::Iscsi, false),
            (DeployMethod::Unspecified, false),
        ] {
            let instance = Instance { method: method.into(), ..Instance::default() };
            let answer = has_disk_at_rack(&instance);
            assert_eq!(answer.is_ok(), good, "{method:?}");
            assert!(answer.err().is_none_or(|s| reason_of(&s).as_deref() == Some("NOT_DISKLESS")));
        }
    }
}
