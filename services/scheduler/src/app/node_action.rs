use super::operation::stopped;
use super::{App, RequestKey, new_operation, request_key, store_error};
use farrier_model::lifecycle::{Event, State, next};
use farrier_model::{Collection, bmc_user, parse_name};
use farrier_proto::inventory::{GetDispatchRequest, GetNodeRequest, Node};
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{
    Clean, GetRackStatusRequest, Inspect, Power, PowerAction, RotateBmcCredentials, TaskSpec, Verify,
};
use farrier_proto::scheduler::{
    ActOnNodeRequest, Operation, OperationError, OperationPhase, OperationType,
    RotateNodeBmcCredentialsRequest, SetNodePowerRequest,
};
use farrier_proto::types::{NodeVerb, ProvisionState};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{Reason, asked, invalid, refuse, refuse_with};
use farrier_scheduler_store::{NewOperation, StoreError};
use tonic::{Code, Status};

impl App {
    pub(crate) async fn act(&self, caller: &Caller, request: ActOnNodeRequest) -> Result<Operation, Status> {
        let key = request_key(caller, &request.request_id, &request);
        if let Some(before) = self.answered(&key).await? {
            return Ok(before);
        }
        parse_name(Collection::Nodes, &request.name).map_err(|e| invalid("name", e))?;
        let (event, kind, work) = plan(request.verb(), request.full_erase)?;
        let node = self.node(&request.name).await?;
        if event == Event::Abort {
            return self.abort(caller, &node, key).await;
        }
        // A busy node's next state is not known yet: the request waits its turn and is judged then. A free
        // node's answer is known now.
        if node.operation.is_empty() {
            let state = state_of(node.state());
            next(state, event).map_err(|r| refused(&node.name, state, event, r.to_string()))?;
            if matches!(event, Event::Inspect | Event::Clean | Event::Provide) {
                self.boots(&node.name, state, event).await?;
            }
        }
        let row =
            new_operation(caller, kind, &node.name, &node.name, TaskSpec { machine: None, work: Some(work) });
        self.store_and_nudge(NewOperation { row, request: key, create: None }).await
    }

    pub(crate) async fn set_power(
        &self,
        caller: &Caller,
        request: SetNodePowerRequest,
    ) -> Result<Operation, Status> {
        let key = request_key(caller, &request.request_id, &request);
        if let Some(before) = self.answered(&key).await? {
            return Ok(before);
        }
        parse_name(Collection::Nodes, &request.name).map_err(|e| invalid("name", e))?;
        if request.action() == PowerAction::Unspecified {
            return Err(invalid("action", "expected on, off, soft off, cycle or reset"));
        }
        let node = self.node(&request.name).await?;
        // Asked for because of what the machine does now: after a deployment it would hit another system.
        if request.action() == PowerAction::Reset && !node.operation.is_empty() {
            return Err(refuse(
                Code::FailedPrecondition,
                Reason::NodeBusy,
                format!(
                    "{} works on {}: wait for it, or stop it; a reset is not queued",
                    node.operation, node.name
                ),
            ));
        }
        let work = TaskSpec { machine: None, work: Some(Work::Power(Power { action: request.action })) };
        let mut row = new_operation(caller, OperationType::Power, &request.name, &request.name, work);
        if request.action() == PowerAction::Reset {
            row.operation.seen_fence = node.fence;
        }
        self.store_and_nudge(NewOperation { row, request: key, create: None }).await
    }

    pub(crate) async fn rotate_bmc_credentials(
        &self,
        caller: &Caller,
        request: RotateNodeBmcCredentialsRequest,
    ) -> Result<Operation, Status> {
        let key = request_key(caller, &request.request_id, &request);
        if let Some(before) = self.answered(&key).await? {
            return Ok(before);
        }
        parse_name(Collection::Nodes, &request.name).map_err(|e| invalid("name", e))?;
        let new_user = request.new_user.clone();
        if !bmc_user::is_account(&new_user) && !new_user.is_empty() {
            return Err(invalid("new_user", bmc_user::EXPECTED));
        }
        self.node(&request.name).await?;
        if !new_user.is_empty() {
            self.makes_accounts(&request.name).await?;
        }
        let work = TaskSpec {
            machine: None,
            work: Some(Work::RotateBmcCredentials(RotateBmcCredentials { new_user })),
        };
        let row =
            new_operation(caller, OperationType::RotateBmcCredentials, &request.name, &request.name, work);
        self.store_and_nudge(NewOperation { row, request: key, create: None }).await
    }

    /// The ramdisk is booted by a port, and the machine is known by it also where a boot CD has the ramdisk.
    async fn boots(&self, node: &str, state: State, event: Event) -> Result<(), Status> {
        let request = GetDispatchRequest { node: node.to_owned(), flavor: String::new() };
        let answer = self.clients.dispatch.clone().get_dispatch(request).await;
        let dispatch = answer.map_err(|status| asked("inventory", status))?.into_inner();
        if dispatch.ports.iter().any(|port| port.pxe_enabled) {
            return Ok(());
        }
        let id = node.trim_start_matches("nodes/");
        let why = if dispatch.ports.is_empty() {
            format!("saw none: `farrier port create MAC --node {id}` makes one")
        } else {
            format!("saw {} without: `farrier port update MAC --pxe true` enables one", dispatch.ports.len())
        };
        let why = format!("expected a port with network boot enabled, {why}");
        Err(refused(node, state, event, why))
    }

    /// Whether the node's rack gives a BMC another account: an older one would give the node's own another password, and say that
    /// all is done.
    async fn makes_accounts(&self, node: &str) -> Result<(), Status> {
        let found = self.rack_of(node).await?;
        let mut rack =
            self.clients.rack(&found.rack, found.address()).map_err(super::node_bmc::unreachable)?;
        let status = rack.get_rack_status(GetRackStatusRequest {}).await;
        let status = status.map_err(|status| asked("the rack", status))?.into_inner();
        if status.abilities.iter().any(|ability| ability == bmc_user::ROTATE_TO_ACCOUNT) {
            return Ok(());
        }
        let why = format!(
            "the rackd of {} (version {}) knows no new_user: update it, or rotate without",
            found.rack, status.version
        );
        Err(refuse(Code::FailedPrecondition, Reason::BmcFailed, why))
    }

    /// Stops what is being done to the node. An operation that is over and still has the node is made to let
    /// go of it: whatever kept it from doing so, the way on must not end there.
    async fn abort(
        &self,
        caller: &Caller,
        node: &Node,
        key: Option<RequestKey>,
    ) -> Result<Operation, Status> {
        if node.operation.is_empty() {
            let state = state_of(node.state());
            return Err(refused(&node.name, state, Event::Abort, "nothing is being done to it".to_owned()));
        }
        let stopped = stopped(caller, "");
        let row = match self.store.operation(&node.operation).await {
            Ok(row) => Some(row),
            Err(StoreError::NotFound { .. }) => None,
            Err(other) => return Err(store_error(other)),
        };
        match &row {
            Some(row) if !row.operation.done => {
                self.engine.cancel(&node.operation, &stopped).await.map_err(store_error)?;
            }
            _ => self.engine.free(node, &caller.actor(), &format!("{stopped}; its work was over")).await?,
        }
        if row.is_some() {
            self.remember(key, &node.operation).await?;
            return self.operation(caller, &node.operation).await;
        }
        // A database that was restored does not know what it did later: all that is known is in inventory.
        let mut gone = Operation {
            name: node.operation.clone(),
            target: node.name.clone(),
            node: node.name.clone(),
            rack: node.rack.clone(),
            done: true,
            error: Some(OperationError {
                reason: "CANCELLED".to_owned(),
                message: format!("{stopped}; this scheduler does not know the operation"),
                rejections: Vec::new(),
            }),
            ..Operation::default()
        };
        gone.set_phase(OperationPhase::Failed);
        Ok(gone)
    }

    pub(super) async fn node(&self, name: &str) -> Result<Node, Status> {
        let request = GetNodeRequest { name: name.to_owned() };
        let answer = self.clients.nodes.clone().get_node(request).await;
        Ok(answer.map_err(|s| asked("inventory", s))?.into_inner())
    }

    pub(super) async fn store_and_nudge(&self, new: NewOperation) -> Result<Operation, Status> {
        let stored = self.store.create(new).await.map_err(store_error)?;
        self.engine.nudge();
        Ok(stored)
    }
}

/// What a verb means: its life cycle event, its operation, its work.
fn plan(verb: NodeVerb, full: bool) -> Result<(Event, OperationType, Work), Status> {
    let clean = Work::Clean(Clean { full });
    Ok(match verb {
        NodeVerb::Manage => (Event::Manage, OperationType::Manage, Work::Verify(Verify::default())),
        NodeVerb::Inspect => (Event::Inspect, OperationType::Inspect, Work::Inspect(Inspect {})),
        NodeVerb::Clean => (Event::Clean, OperationType::Clean, clean),
        NodeVerb::Provide => (Event::Provide, OperationType::Provide, clean),
        NodeVerb::Abort => (Event::Abort, OperationType::Unspecified, Work::Verify(Verify::default())),
        NodeVerb::Deploy => return Err(elsewhere("deploy", "create an instance: `farrier instance create`")),
        NodeVerb::Undeploy => {
            return Err(elsewhere("undeploy", "delete the instance: `farrier instance delete`"));
        }
        NodeVerb::Rebuild => return Err(not_driven(Event::Rebuild)),
        NodeVerb::Rescue => return Err(not_driven(Event::RescueNode)),
        NodeVerb::Unrescue => return Err(not_driven(Event::Unrescue)),
        NodeVerb::Adopt => return Err(not_driven(Event::Adopt)),
        NodeVerb::Service => return Err(not_driven(Event::Service)),
        NodeVerb::Unspecified => return Err(invalid("verb", "expected what to do with the node")),
    })
}

fn not_driven(event: Event) -> Status {
    refuse(
        Code::Unimplemented,
        Reason::NotDriven,
        format!("the life cycle knows `{event}`, but this version of Farrier does not do it yet"),
    )
}

fn elsewhere(verb: &str, how: &str) -> Status {
    refuse(
        Code::InvalidArgument,
        Reason::InvalidField,
        format!("verb: `{verb}` is not asked of a node; {how}"),
    )
}

fn refused(node: &str, state: State, event: Event, why: String) -> Status {
    refuse_with(
        Code::FailedPrecondition,
        Reason::LifecycleRefused,
        format!("{node}: {why}"),
        [("node", node.to_owned()), ("state", state.to_string()), ("event", event.to_string())],
    )
}

/// The model's word for a state of the API.
pub(crate) fn state_of(state: ProvisionState) -> State {
    let text =
        state.as_str_name().trim_start_matches("PROVISION_STATE_").to_ascii_lowercase().replace('_', " ");
    text.parse().unwrap_or(State::Enroll)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_the_api_is_one_of_the_model() {
        for number in 1..=23 {
            let state = ProvisionState::try_from(number).unwrap();
            let word = state
                .as_str_name()
                .trim_start_matches("PROVISION_STATE_")
                .to_ascii_lowercase()
                .replace('_', " ");
            assert_eq!(state_of(state).as_str(), word);
        }
        assert_eq!(State::ALL.len(), 23);
    }

    #[test]
    fn a_verb_that_is_not_driven_says_so() {
        let status = plan(NodeVerb::Rescue, false).unwrap_err();
        assert_eq!(farrier_runtime::error::reason_of(&status).as_deref(), Some("NOT_DRIVEN"));
    }
}
