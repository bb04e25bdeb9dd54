//! `farrier node explain`: what inventory knows of the node, and what its operation does at this moment.

use super::Session;
use crate::call;
use crate::failure::Failure;
use crate::names::full;
use crate::output::value::{between, duration, system_time};
use farrier_model::Collection::Nodes;
use farrier_proto::inventory::ExplainNodeRequest;
use farrier_proto::inventory::node_service_client::NodeServiceClient;
use farrier_proto::rack::StepState;
use farrier_proto::scheduler::operation_service_client::OperationServiceClient;
use farrier_proto::scheduler::{GetOperationRequest, Operation};
use std::time::SystemTime;

pub(super) async fn run(session: &Session, name: &str) -> Result<(), Failure> {
    let link = session.services.inventory()?;
    let request = ExplainNodeRequest { name: full(Nodes, name)? };
    let mut told = call!(link, NodeServiceClient, explain_node, request)?;
    let operation = told.node.as_ref().map(|node| node.operation.clone()).filter(|name| !name.is_empty());
    if let Some(name) = operation {
        let doing = match doing(session, &name).await {
            Ok(operation) => describe(&operation, SystemTime::now()),
            // What inventory knows is worth having without the scheduler.
            Err(failure) => format!("the scheduler cannot be asked what {name} does ({})", failure.message),
        };
        told.observed =
            [told.observed.as_str(), doing.as_str()].join("; ").trim_start_matches("; ").to_owned();
    }
    session.printer.one(&told)
}

async fn doing(session: &Session, name: &str) -> Result<Operation, Failure> {
    let link = session.services.scheduler()?;
    call!(link, OperationServiceClient, get_operation, GetOperationRequest { name: name.to_owned() })
}

/// One line: the step that runs, since when, what it says, and what is waited for until when.
fn describe(operation: &Operation, now: SystemTime) -> String {
    let running = operation.steps.iter().rev().find(|step| step.state() == StepState::Running);
    let mut parts = vec![match running {
        Some(step) => {
            let since = between(step.start_time.as_ref(), now).map(duration).unwrap_or_default();
            format!("step {} for {since}, attempt {}", step.name, step.attempt)
        }
        None => format!("{} has no step under way", operation.name),
    }];
    parts.extend(running.map(|step| step.detail.clone()).filter(|detail| !detail.is_empty()));
    if !operation.waiting.is_empty() {
        parts.push(format!("it waits: {}", operation.waiting));
    }
    let next = operation.next_try_time.as_ref().and_then(system_time);
    if let Some(left) = next.and_then(|next| next.duration_since(now).ok()) {
        parts.push(format!("next try in {}", duration(left)));
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::rack::Step;
    use prost_types::Timestamp;
    use std::time::Duration;

    #[test]
    fn a_running_step_and_a_wait_are_told() {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let step = |name: &str, state: StepState, detail: &str| Step {
            name: name.into(),
            state: state.into(),
            start_time: at(58),
            attempt: 2,
            detail: detail.into(),
            ..Step::default()
        };
        let mut operation = Operation {
            name: "operations/7".into(),
            steps: vec![
                step("power_on", StepState::Done, ""),
                step("wait_agent", StepState::Running, "expecting the agent"),
            ],
            ..Operation::default()
        };
        assert_eq!(describe(&operation, now), "step wait_agent for 42s, attempt 2: expecting the agent");
        operation.steps.clear();
        operation.waiting = "racks/r1 does not answer".into();
        operation.next_try_time = at(110);
        assert_eq!(
            describe(&operation, now),
            "operations/7 has no step under way: it waits: racks/r1 does not answer: next try in 10s"
        );
    }
}
