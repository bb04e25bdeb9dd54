//! The same request again: the same answer, whatever has become of the world.

use crate::fixture::{Fixture, create, delete, refused};
use farrier_proto::inventory::DeleteFlavorRequest;
use farrier_proto::scheduler::*;
use farrier_proto::types::{NodeVerb, ProvisionState};
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verb_is_answered_from_the_record_after_the_node_has_moved_on() {
    let f = Fixture::start().await;
    let (mut operator, mut scheduler) = (f.operator(), f.as_scheduler());
    operator.create_node("n1").await;
    let first = operator.act("n1", NodeVerb::Manage, "r1").await.unwrap();
    operator.until(&first.name, |op| op.phase() == OperationPhase::Starting).await;
    scheduler.transition("n1", "done", &first.name).await.unwrap();
    assert_eq!(operator.node("n1").await.state(), ProvisionState::Manageable);
    // A node at rest in `manageable` takes no `manage`; the lost answer is still the answer.
    refused(operator.act("n1", NodeVerb::Manage, "r2").await, Code::FailedPrecondition, "LIFECYCLE_REFUSED");
    assert_eq!(operator.act("n1", NodeVerb::Manage, "r1").await.unwrap().name, first.name);
    let other = operator.act("n1", NodeVerb::Inspect, "r1").await;
    refused(other, Code::InvalidArgument, "REQUEST_ID_REUSED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verbs_that_this_version_does_not_do_say_so_and_leave_the_node_alone() {
    let f = Fixture::start().await;
    let mut operator = f.operator();
    operator.create_node("n1").await;
    for verb in [NodeVerb::Rebuild, NodeVerb::Rescue, NodeVerb::Unrescue, NodeVerb::Adopt, NodeVerb::Service]
    {
        refused(operator.act("n1", verb, "").await, Code::Unimplemented, "NOT_DRIVEN");
    }
    let node = operator.node("n1").await;
    assert_eq!((node.state(), node.operation.as_str()), (ProvisionState::Enroll, ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_is_answered_from_the_record_after_nothing_is_left_to_stop() {
    let f = Fixture::start().await;
    let mut operator = f.operator();
    operator.create_node("n1").await;
    let work = operator.act("n1", NodeVerb::Manage, "").await.unwrap();
    operator.until(&work.name, |op| op.phase() == OperationPhase::Starting).await;
    assert_eq!(operator.act("n1", NodeVerb::Abort, "r1").await.unwrap().name, work.name);
    operator.done(&work.name).await;
    refused(operator.act("n1", NodeVerb::Abort, "r2").await, Code::FailedPrecondition, "LIFECYCLE_REFUSED");
    assert_eq!(operator.act("n1", NodeVerb::Abort, "r1").await.unwrap().name, work.name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_is_answered_from_the_record_after_its_flavor_is_gone() {
    let f = Fixture::start().await;
    let (mut member, mut operator) = (f.member("blue"), f.operator());
    let request = CreateInstanceRequest { request_id: "r1".into(), ..create("web") };
    let first = member.create_with(request.clone()).await.unwrap();
    member.done(&first.name).await;
    let name = "flavors/any".to_owned();
    operator.flavors.delete_flavor(DeleteFlavorRequest { name, ..Default::default() }).await.unwrap();
    assert_eq!(member.create_with(request.clone()).await.unwrap().name, first.name);
    refused(member.create("other").await, Code::InvalidArgument, "INVALID_FIELD");
    // Another person's same id is another request.
    refused(operator.create_with(request).await, Code::InvalidArgument, "REQUEST_ID_REUSED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_is_answered_from_the_record_after_the_instance_is_gone() {
    let f = Fixture::start().await;
    let mut member = f.member("blue");
    let made = member.create("web").await.unwrap();
    member.done(&made.name).await;
    let request = DeleteInstanceRequest { request_id: "r1".into(), ..delete("web") };
    let first = member.delete(request.clone()).await.unwrap();
    member.done(&first.name).await;
    refused(member.instance("web").await, Code::NotFound, "NOT_FOUND");
    assert_eq!(member.delete(request).await.unwrap().name, first.name);
    refused(member.delete(delete("web")).await, Code::NotFound, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_deletions_at_once_are_one_and_both_are_remembered() {
    let f = Fixture::start().await;
    f.available("n1").await;
    let mut member = f.member("blue");
    let made = member.create("web").await.unwrap();
    member.until(&made.name, |op| op.phase() == OperationPhase::Starting).await;
    let one =
        member.delete(DeleteInstanceRequest { request_id: "r1".into(), ..delete("web") }).await.unwrap();
    member.until(&one.name, |op| op.phase() == OperationPhase::Starting).await;
    let request = DeleteInstanceRequest { request_id: "r2".into(), ..delete("web") };
    assert_eq!(member.delete(request.clone()).await.unwrap().name, one.name);
    assert_eq!(member.delete(request).await.unwrap().name, one.name);
}
