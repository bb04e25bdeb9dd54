//! A diskless instance from a node that broke onto another of its rack.

use super::snapshot::{has_disk_at_rack, not_now};
use super::{App, new_operation, request_key, store_error};
use crate::engine::recover;
use farrier_model::{Collection, parse_name};
use farrier_proto::inventory::{Dispatch, GetDispatchRequest};
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Deploy, Recovery, TaskSpec};
use farrier_proto::scheduler::{Instance, InstanceState, Operation, OperationType, RecoverInstanceRequest};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{PreconditionViolation, Reason, asked, invalid, refuse_each};
use farrier_scheduler_store::NewOperation;
use tonic::{Code, Status};

impl App {
    pub(crate) async fn recover(
        &self,
        caller: &Caller,
        request: RecoverInstanceRequest,
    ) -> Result<Operation, Status> {
        let key = request_key(caller, &request.request_id, &request);
        if let Some(before) = self.answered(&key).await? {
            return Ok(before);
        }
        parse_name(Collection::Nodes, &request.onto).map_err(|e| invalid("onto", e))?;
        let instance = self.own_instance(caller, &request.name).await?;
        has_disk_at_rack(&instance)?;
        let lives = matches!(instance.state(), InstanceState::Active | InstanceState::Failed);
        if !lives || instance.placed_node.is_empty() {
            return Err(not_now(&instance, "expected one that has a node and that nothing works on"));
        }
        let (from, onto) = (self.dispatch(&instance.placed_node).await?, self.dispatch(&request.onto).await?);
        let why = recover::unfit(&instance, &from, &onto);
        if !why.is_empty() {
            return Err(does_not_fit(&request.onto, &why));
        }
        let recovery =
            Recovery { from: instance.placed_node.clone(), onto: request.onto, force: request.force };
        let deploy = Deploy { recovery: Some(recovery), ..self.deployed(&instance).await? };
        let work = TaskSpec { machine: None, work: Some(Work::Deploy(deploy)) };
        let mut row =
            new_operation(caller, OperationType::Recover, &instance.name, &instance.placed_node, work);
        row.owner.clone_from(&instance.owner);
        let stored =
            self.store.create(NewOperation { row, request: key, create: None }).await.map_err(store_error)?;
        self.engine.nudge();
        Ok(stored)
    }

    /// How the instance was deployed: its image is what it was then, whatever has its name now.
    async fn deployed(&self, instance: &Instance) -> Result<Deploy, Status> {
        let row = self.store.operation(&instance.operation).await.map_err(store_error)?;
        match row.work.work {
            Some(Work::Deploy(deploy)) => Ok(deploy),
            _ => Err(not_now(instance, "it was being taken back: delete it")),
        }
    }

    async fn dispatch(&self, node: &str) -> Result<Dispatch, Status> {
        let request = GetDispatchRequest { node: node.to_owned(), flavor: String::new() };
        let answer = self.clients.dispatch.clone().get_dispatch(request).await;
        Ok(answer.map_err(|s| asked("inventory", s))?.into_inner())
    }
}

fn does_not_fit(node: &str, why: &[String]) -> Status {
    refuse_each(
        Code::FailedPrecondition,
        Reason::NoNodeFits,
        format!("{node} cannot take the instance: {}", why.join("; ")),
        [],
        why.iter().map(|why| PreconditionViolation::new("NODE", node, why.clone())).collect(),
    )
}
