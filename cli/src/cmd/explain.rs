//! `farrier node explain` and `farrier instance explain`: where it is, what its operation does at this moment, and what
//! a person can do.

use super::Session;
use crate::call;
use crate::failure::Failure;
use crate::names::{full, short};
use crate::output::value::{between, duration, system_time};
use farrier_model::Collection::{Instances, Nodes};
use farrier_model::size::human;
use farrier_proto::inventory::node_service_client::NodeServiceClient;
use farrier_proto::inventory::{ExplainNodeRequest, Explanation, Node};
use farrier_proto::rack::{StepState, Volume};
use farrier_proto::scheduler::instance_service_client::InstanceServiceClient;
use farrier_proto::scheduler::operation_service_client::OperationServiceClient;
use farrier_proto::scheduler::{GetInstanceRequest, GetOperationRequest, Instance, InstanceState, Operation};
use std::time::SystemTime;

pub(super) async fn run(session: &Session, name: &str) -> Result<(), Failure> {
    let link = session.services.inventory()?;
    let request = ExplainNodeRequest { name: full(Nodes, name)? };
    let mut told = call!(link, NodeServiceClient, explain_node, request)?;
    if let Some(node) = told.node.clone().filter(|node| !node.instance.is_empty()) {
        told.observed = joined(&told.observed, &disks(session, &node).await);
    }
    let operation = told.node.as_ref().map(|node| node.operation.clone()).filter(|name| !name.is_empty());
    if let Some(name) = operation {
        let doing = match doing(session, &name).await {
            Ok(operation) => describe(&operation, SystemTime::now()),
            // What inventory knows is worth having without the scheduler.
            Err(failure) => format!("the scheduler cannot be asked what {name} does ({})", failure.message),
        };
        told.observed = joined(&told.observed, &doing);
    }
    session.printer.one(&told)
}

/// Works for a tenant too, who sees no node: all of it is the scheduler's.
pub(super) async fn instance(session: &Session, name: &str) -> Result<(), Failure> {
    let link = session.services.scheduler()?;
    let request = GetInstanceRequest { name: full(Instances, name)? };
    let instance = call!(link, InstanceServiceClient, get_instance, request)?;
    let operation = match instance.operation.as_str() {
        "" => None,
        name => Some(doing(session, name).await?),
    };
    session.printer.one(&of_instance(&instance, operation.as_ref(), SystemTime::now()))
}

fn of_instance(instance: &Instance, operation: Option<&Operation>, now: SystemTime) -> Explanation {
    let id = short(&instance.name);
    let place = match instance.placed_node.as_str() {
        "" => "on no node".to_owned(),
        node => format!("on {node}"),
    };
    let running = operation.filter(|operation| !operation.done);
    let state = state_word(instance.state().as_str_name());
    let mut actions = Vec::new();
    if let Some(operation) = running {
        actions.push(format!("farrier operation watch {}", short(&operation.name)));
        actions.push(format!("farrier operation cancel {}", short(&operation.name)));
    } else {
        if instance.state() == InstanceState::Failed {
            actions.extend(
                operation.map(|operation| format!("farrier operation get {}", short(&operation.name))),
            );
        }
        actions.push(format!("farrier instance delete {id}"));
    }
    if !instance.placed_node.is_empty() {
        actions.push(format!("farrier node explain {}", short(&instance.placed_node)));
    }
    Explanation {
        summary: format!("{} is {state}, {place}", instance.name),
        expected: running.map(|operation| format!("{} ends", operation.name)).unwrap_or_default(),
        observed: running.map_or_else(|| instance.last_error.clone(), |operation| describe(operation, now)),
        actions,
        ..Explanation::default()
    }
}

fn state_word(name: &str) -> String {
    name.trim_start_matches("INSTANCE_STATE_").to_ascii_lowercase()
}

fn joined(before: &str, more: &str) -> String {
    [before, more].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ")
}

/// What its rack says of the disks that the node lives on, where there is something to say.
async fn disks(session: &Session, node: &Node) -> String {
    let asked = match super::rack::daemon(session, &node.rack, None).await {
        Ok(link) => super::rack::volumes(&link, node.name.clone()).await,
        Err(failure) => Err(failure),
    };
    match asked {
        Ok(volumes) => volumes
            .iter()
            .filter_map(|volume| describe_disk(volume, &node.rack))
            .collect::<Vec<_>>()
            .join("; "),
        // Inventory's word is worth having without the rack; who may not ask it does not learn of it here.
        Err(failure) if failure.reason.as_deref() == Some("NOT_ALLOWED") => String::new(),
        Err(failure) => format!("{} cannot be asked about its disks ({})", node.rack, failure.message),
    }
}

/// A disk whose image is not whole lives on the link to the centre.
fn describe_disk(volume: &Volume, rack: &str) -> Option<String> {
    if volume.image_here_bytes >= volume.image_bytes {
        return None;
    }
    let (here, all) = (human(volume.image_here_bytes), human(volume.image_bytes));
    let trouble = match volume.image_trouble.as_str() {
        "" => String::new(),
        why => format!("; the rest does not come: {why}"),
    };
    Some(format!(
        "the image below its disk is not whole at {rack} yet, {here} of {all}: while the centre is away, reads of the rest wait, and after three minutes its system sees I/O errors{trouble}"
    ))
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
    use clap::Parser as _;
    use farrier_proto::rack::Step;
    use prost_types::Timestamp;
    use std::time::Duration;

    #[test]
    fn an_instance_tells_its_wait_and_its_end() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let mut operation = Operation {
            name: "operations/7".into(),
            waiting: "racks/r1 does not answer".into(),
            ..Operation::default()
        };
        let mut instance = Instance {
            name: "instances/web".into(),
            state: InstanceState::Pending.into(),
            operation: operation.name.clone(),
            ..Instance::default()
        };
        let told = of_instance(&instance, Some(&operation), now);
        assert_eq!(told.summary, "instances/web is pending, on no node");
        assert!(told.observed.contains("racks/r1 does not answer"), "{}", told.observed);
        assert_eq!(told.actions, ["farrier operation watch 7", "farrier operation cancel 7"]);
        operation.done = true;
        instance.set_state(InstanceState::Failed);
        instance.placed_node = "nodes/n1".into();
        instance.last_error = "the disk is too small".into();
        let told = of_instance(&instance, Some(&operation), now);
        assert_eq!(told.observed, "the disk is too small");
        let actions = ["farrier operation get 7", "farrier instance delete web", "farrier node explain n1"];
        assert_eq!(told.actions, actions);
        for action in actions.iter().chain(&["farrier operation watch 7", "farrier operation cancel 7"]) {
            crate::args::Cli::try_parse_from(action.split(' ')).unwrap();
        }
    }

    #[test]
    fn a_disk_is_told_of_as_long_as_its_image_is_not_whole() {
        let mut volume = Volume { image_bytes: 2 << 30, image_here_bytes: 512 << 20, ..Volume::default() };
        let told = describe_disk(&volume, "racks/r1").unwrap();
        assert!(
            told.starts_with("the image below its disk is not whole at racks/r1 yet, 512 MiB of 2 GiB: "),
            "{told}"
        );
        assert!(told.ends_with("sees I/O errors"), "{told}");
        volume.image_trouble = "the images service did not answer".into();
        let told = describe_disk(&volume, "racks/r1").unwrap();
        assert!(told.ends_with("; the rest does not come: the images service did not answer"), "{told}");
        volume.image_here_bytes = 2 << 30;
        assert_eq!(describe_disk(&volume, "racks/r1"), None);
        // Of one that is not known nothing is said.
        assert_eq!(describe_disk(&Volume::default(), "racks/r1"), None);
        assert_eq!(
            (joined("", "b"), joined("a", ""), joined("a", "b")),
            ("b".into(), "a".into(), "a; b".into())
        );
    }

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
