use super::{App, new_operation, request_key, store_error};
use farrier_model::lifecycle::{Event, State, next};
use farrier_model::{Collection, parse_name};
use farrier_proto::inventory::GetNodeRequest;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Clean, Inspect, Power, PowerAction, TaskSpec, Verify};
use farrier_proto::scheduler::{ActOnNodeRequest, Operation, OperationType, SetNodePowerRequest};
use farrier_proto::types::{NodeVerb, ProvisionState};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{Reason, invalid, refuse, refuse_with};
use farrier_scheduler_store::NewOperation;
use tonic::{Code, Status};

impl App {
    pub(crate) async fn act(&self, caller: &Caller, request: ActOnNodeRequest) -> Result<Operation, Status> {
        let key = request_key(caller, &request.request_id, &request);
        parse_name(Collection::Nodes, &request.name).map_err(|e| invalid("name", e))?;
        let (event, kind, work) = plan(request.verb(), request.full_erase)?;
        let node = self
            .clients
            .nodes
            .clone()
            .get_node(GetNodeRequest { name: request.name.clone() })
            .await?
            .into_inner();
        if event == Event::Abort {
            if node.operation.is_empty() {
                let state = state_of(node.state());
                return Err(refused(&node.name, state, event, "nothing is being done to it".to_owned()));
            }
            self.engine
                .cancel(&node.operation, &format!("stopped by {}", caller.actor()))
                .await
                .map_err(store_error)?;
            return self.operation(caller, &node.operation).await;
        }
        // A busy node's next state is not known yet: the request waits its turn and is judged then. A free
        // node's answer is known now.
        if node.operation.is_empty() {
            let state = state_of(node.state());
            next(state, event).map_err(|r| refused(&node.name, state, event, r.to_string()))?;
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
        parse_name(Collection::Nodes, &request.name).map_err(|e| invalid("name", e))?;
        if request.action() == PowerAction::Unspecified {
            return Err(invalid("action", "expected on, off, soft off or cycle"));
        }
        self.clients.nodes.clone().get_node(GetNodeRequest { name: request.name.clone() }).await?;
        let work = TaskSpec { machine: None, work: Some(Work::Power(Power { action: request.action })) };
        let row = new_operation(caller, OperationType::Power, &request.name, &request.name, work);
        self.store_and_nudge(NewOperation { row, request: key, create: None }).await
    }

    async fn store_and_nudge(&self, new: NewOperation) -> Result<Operation, Status> {
        let stored = self.store.create(new).await.map_err(store_error)?;
        self.engine.nudge();
        Ok(stored)
    }
}

/// What a verb means: its life cycle event, its operation, its work.
fn plan(verb: NodeVerb, full: bool) -> Result<(Event, OperationType, Work), Status> {
    let clean = Work::Clean(Clean { full });
    Ok(match verb {
        NodeVerb::Manage => (Event::Manage, OperationType::Manage, Work::Verify(Verify {})),
        NodeVerb::Inspect => (Event::Inspect, OperationType::Inspect, Work::Inspect(Inspect {})),
        NodeVerb::Clean => (Event::Clean, OperationType::Clean, clean),
        NodeVerb::Provide => (Event::Provide, OperationType::Provide, clean),
        NodeVerb::Abort => (Event::Abort, OperationType::Unspecified, Work::Verify(Verify {})),
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
        [("state", state.to_string()), ("event", event.to_string())],
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
