//! Power: in its turn, with a token of its own, and recorded.

use crate::fixture::{Clients, Fixture, inner, within};
use farrier_proto::inventory::{HoldNodeRequest, ReleaseNodeRequest};
use farrier_proto::rack::{PowerAction, TaskResult, TaskState};
use farrier_proto::scheduler::*;
use farrier_proto::types::{PowerState, ProvisionState};

async fn power_off(operator: &mut Clients) -> Operation {
    let request = SetNodePowerRequest {
        name: "nodes/n1".into(),
        action: PowerAction::Off.into(),
        ..Default::default()
    };
    inner(operator.actions.set_node_power(request).await).unwrap()
}

fn off() -> TaskResult {
    TaskResult { power_state: PowerState::Off.into(), ..TaskResult::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_and_a_deployment_never_work_on_a_node_at_once() {
    let f = Fixture::start().await;
    f.available("n1").await;
    let mut operator = f.operator();
    let power = power_off(&mut operator).await.name;
    operator.until(&power, |op| op.waiting.contains("closed")).await;
    // The rack is away, and power has the node: the deployment waits and says why.
    let deploy = operator.create("web").await.unwrap().name;
    let waiting = operator.until(&deploy, |op| !op.waiting.is_empty()).await;
    assert!(waiting.waiting.contains("taken by others"), "{}", waiting.waiting);
    assert_eq!(operator.node("n1").await.operation, power);

    f.rack.open();
    let first = within(f.rack.taken(&power)).await;
    assert_eq!(f.rack.tasks().len(), 1);
    f.rack.end(&first.id, TaskState::Done, "", off());
    assert_eq!(operator.done(&power).await.error, None);
    let second = within(f.rack.taken(&deploy)).await;
    assert!(second.fence > first.fence, "{} then {}", first.fence, second.fence);
    assert_eq!(operator.node("n1").await.operation, deploy);

    // And the other way round: it queues behind the deployment.
    let later = power_off(&mut operator).await.name;
    let waiting = operator.until(&later, |op| !op.waiting.is_empty()).await;
    assert!(waiting.waiting.contains(&deploy), "{}", waiting.waiting);
    f.rack.end(&second.id, TaskState::Done, "", TaskResult::default());
    let third = within(f.rack.taken(&later)).await;
    assert!(third.fence > second.fence);
    assert_eq!(operator.node("n1").await.state(), ProvisionState::Active);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_power_came_to_is_in_the_node_and_in_the_audit_log() {
    let f = Fixture::start().await;
    f.available("n1").await;
    f.rack.open();
    let mut operator = f.operator();
    assert_eq!(operator.node("n1").await.power_state(), PowerState::Unspecified);
    let good = power_off(&mut operator).await.name;
    let task = within(f.rack.taken(&good)).await;
    f.rack.end(&task.id, TaskState::Done, "", off());
    operator.done(&good).await;
    let node = operator.node("n1").await;
    assert_eq!((node.power_state(), node.operation.as_str()), (PowerState::Off, ""));
    assert_eq!(node.state(), ProvisionState::Available);
    let olga = "spiffe://farrier/user/olga";
    assert_eq!(operator.told(&good).await, [format!("{olga} power off >"), format!("{olga} done >off")]);

    let bad = power_off(&mut operator).await.name;
    let task = within(f.rack.taken(&bad)).await;
    f.rack.end(&task.id, TaskState::Failed, "power_off: the BMC is silent", TaskResult::default());
    assert_eq!(operator.done(&bad).await.error.unwrap().reason, "TASK_FAILED");
    assert_eq!(operator.node("n1").await.operation, "");
    let told = operator.told(&bad).await;
    assert_eq!(told.last().unwrap(), &format!("{olga} fail off>off power_off: the BMC is silent"));

    // Such a rack would give the node's own account another password, and call it done.
    let to_account = RotateNodeBmcCredentialsRequest {
        name: "nodes/n1".into(),
        new_user: "farrier".into(),
        ..Default::default()
    };
    let refused = inner(operator.actions.rotate_node_bmc_credentials(to_account).await).unwrap_err();
    assert!(refused.message().contains("knows no new_user: update it"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_whose_node_was_taken_from_it_queues_again_and_never_uses_the_others_token() {
    let f = Fixture::start().await;
    f.available("n1").await;
    let (mut operator, mut scheduler) = (f.operator(), f.as_scheduler());
    let power = power_off(&mut operator).await.name;
    operator.until(&power, |op| op.waiting.contains("closed")).await;
    let release = |operation: &str| ReleaseNodeRequest {
        node: "nodes/n1".into(),
        operation: operation.into(),
        ..Default::default()
    };
    scheduler.dispatch.release_node(release(&power)).await.unwrap();
    let other = HoldNodeRequest {
        node: "nodes/n1".into(),
        operation: "operations/other".into(),
        action: "test".into(),
        ..Default::default()
    };
    let other = inner(scheduler.dispatch.hold_node(other).await).unwrap();
    f.rack.open();
    let waiting = operator.until(&power, |op| op.waiting.contains("operations/other")).await;
    assert_eq!(waiting.phase(), OperationPhase::Placing);
    assert!(f.rack.tasks().is_empty());
    scheduler.dispatch.release_node(release("operations/other")).await.unwrap();
    let task = within(f.rack.taken(&power)).await;
    assert!(task.fence > other.fence);
}
