//! An operation lets go of its node, whatever stands in the way, or a person can make it.

use crate::fixture::{Clients, Fixture, delete, within};
use farrier_identity::{Identity, Role};
use farrier_proto::images::GetImageRequest;
use farrier_proto::rack::{TaskResult, TaskState};
use farrier_proto::scheduler::*;
use farrier_proto::types::{NodeVerb, ProvisionState};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_that_inventory_refuses_is_kept_until_inventory_takes_it() {
    let mut f = Fixture::start().await;
    f.rack.open();
    let mut operator = f.operator();
    operator.create_node("n1").await;
    let work = operator.act("n1", NodeVerb::Manage, "").await.unwrap().name;
    let task = within(f.rack.taken(&work)).await;
    operator.until(&work, |op| op.phase() == OperationPhase::Running).await;
    // The scheduler comes with a certificate that may not move nodes: PERMISSION_DENIED.
    f.stop_inventory().await;
    f.scheduler_becomes("images");
    f.start_inventory().await;
    f.rack.end(&task.id, TaskState::Done, "", TaskResult::default());
    let refused = operator.until(&work, |op| op.waiting.contains("may not call")).await;
    assert_eq!((refused.phase(), refused.done), (OperationPhase::Closing, false));
    f.stop_inventory().await;
    f.scheduler_becomes("scheduler");
    f.start_inventory().await;
    assert_eq!(operator.done(&work).await.error, None);
    let node = f.operator().node("n1").await;
    assert_eq!((node.state(), node.operation.as_str()), (ProvisionState::Manageable, ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_that_runs_does_not_wait_for_the_images_service_and_its_taking_back_lets_go_of_the_image() {
    let mut f = Fixture::start().await;
    f.rack.open();
    f.available("n1").await;
    let mut operator = f.operator();
    let deploy = operator.create("web").await.unwrap().name;
    let task = within(f.rack.taken(&deploy)).await;
    f.stop_images().await;
    f.rack.end(&task.id, TaskState::Done, "", TaskResult::default());
    assert_eq!(operator.done(&deploy).await.error, None);
    assert_eq!(operator.instance("web").await.unwrap().state(), InstanceState::Active);
    // Its node is free at once; that the image is too waits.
    let undeploy = operator.delete(delete("web")).await.unwrap().name;
    let task = within(f.rack.taken(&undeploy)).await;
    f.rack.end(&task.id, TaskState::Done, "", TaskResult::default());
    operator.until(&undeploy, |op| op.waiting.contains("images does not answer")).await;
    assert_eq!(operator.node("n1").await.state(), ProvisionState::Available);
    f.start_images().await;
    assert_eq!(operator.done(&undeploy).await.error, None);
    let olga = Identity::User { name: "olga".into(), role: Role::Operator, project: String::new() };
    let request = GetImageRequest { name: "images/os".into() };
    assert!(f.images(olga).get_image(request).await.unwrap().into_inner().used_by.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_taken_out_meanwhile_ends_its_operation() {
    let f = Fixture::start().await;
    f.rack.open();
    let (mut operator, mut scheduler) = (f.operator(), f.as_scheduler());
    operator.create_node("n1").await;
    let work = operator.act("n1", NodeVerb::Manage, "").await.unwrap().name;
    let task = within(f.rack.taken(&work)).await;
    operator.until(&work, |op| op.phase() == OperationPhase::Running).await;
    scheduler.transition("n1", "fail", &work).await.unwrap();
    let name = "nodes/n1".to_owned();
    let request = farrier_proto::inventory::DeleteNodeRequest { name, ..Default::default() };
    operator.nodes.delete_node(request).await.unwrap();
    f.rack.end(&task.id, TaskState::Done, "", TaskResult::default());
    operator.done(&work).await;
}

/// `n1`, held by an operation that is over.
async fn left_behind(f: &Fixture, operation: &str) -> Clients {
    let mut operator = f.operator();
    operator.create_node("n1").await;
    let node = f.as_scheduler().transition("n1", "manage", operation).await.unwrap();
    assert_eq!(node.operation, operation);
    operator
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abort_frees_a_node_from_an_operation_that_is_over_and_what_waited_goes_on() {
    let f = Fixture::start().await;
    let mut operator = f.operator();
    let over = operator.create("web").await.unwrap().name;
    operator.done(&over).await;
    let mut operator = left_behind(&f, &over).await;
    let waits = operator.act("n1", NodeVerb::Manage, "").await.unwrap().name;
    operator.until(&waits, |op| op.waiting.contains(&over)).await;
    let answer = operator.act("n1", NodeVerb::Abort, "r").await.unwrap();
    assert_eq!((answer.name.as_str(), answer.done), (over.as_str(), true));
    operator.until(&waits, |op| op.phase() == OperationPhase::Starting).await;
    let node = operator.node("n1").await;
    assert_eq!((node.state(), node.operation), (ProvisionState::Verifying, waits));
    let told = operator.told(&over).await;
    assert!(told.iter().any(|t| t.contains("user/olga abort verifying>verify failed")), "{told:?}");
    // Again: the record answers.
    assert_eq!(operator.act("n1", NodeVerb::Abort, "r").await.unwrap().name, over);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abort_frees_a_node_from_an_operation_that_nobody_knows() {
    let f = Fixture::start().await;
    let mut operator = left_behind(&f, "operations/from-before-the-restore").await;
    let answer = operator.act("n1", NodeVerb::Abort, "").await.unwrap();
    assert!(answer.done && answer.error.unwrap().message.contains("does not know"));
    let node = operator.node("n1").await;
    assert_eq!((node.state(), node.operation.as_str()), (ProvisionState::VerifyFailed, ""));
}
