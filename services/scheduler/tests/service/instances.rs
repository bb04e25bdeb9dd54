//! Instances: placing, listing, whose they are, their end.

use crate::fixture::{Fixture, create, delete, inner, refused, within};
use farrier_identity::Role;
use farrier_proto::scheduler::*;
use farrier_proto::types::ProvisionState;
use tonic::Code;
use tonic_types::StatusExt as _;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_node_fits_is_told_node_by_node_and_never_too_long_for_a_client() {
    const NODES: usize = 120;
    let f = Fixture::start().await;
    let mut operator = f.operator();
    for i in 0..NODES {
        operator.create_node(&format!("{}-{i:03}", "n".repeat(58))).await;
    }
    let dry = CreateInstanceRequest { validate_only: true, ..create("web") };
    let status = f.member("blue").create_with(dry).await.unwrap_err();
    let message = refused::<()>(Err(status.clone()), Code::FailedPrecondition, "NO_NODE_FITS");
    assert!(message.contains("120 looked at") && message.contains("100 more"), "{message}");
    let violations = status.get_details_precondition_failure().unwrap().violations;
    assert_eq!(violations.len(), 20);
    assert!(violations[0].subject.starts_with("nodes/n") && violations[0].r#type == "NODE");
    assert_eq!(violations[0].description, "state: must be available, is enroll");
    let facts = status.get_details_error_info().unwrap().metadata;
    assert_eq!((facts["rejected"].as_str(), facts["not_listed"].as_str()), ("120", "100"));

    // What is stored has them all.
    let mut member = f.member("blue");
    let operation = member.create("web").await.unwrap();
    let error = member.done(&operation.name).await.error.unwrap();
    assert_eq!((error.reason.as_str(), error.rejections.len()), ("NO_NODE_FITS", NODES));
    assert_eq!(member.instance("web").await.unwrap().state(), InstanceState::Failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_port_that_boots_is_passed_over() {
    let f = Fixture::start().await;
    let mut operator = f.operator();
    operator.create_node("n1").await;
    f.provide("n1").await;
    let dry = || CreateInstanceRequest { validate_only: true, ..create("web") };
    let status = operator.create_with(dry()).await.unwrap_err();
    let violations = status.get_details_precondition_failure().unwrap().violations;
    assert_eq!(violations[0].description, "ports: none with network boot enabled");
    operator.create_port("n1", 1).await;
    assert_eq!(operator.create_with(dry()).await.unwrap().node, "nodes/n1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_the_rack_does_not_have_costs_no_node() {
    let f = Fixture::start().await;
    f.available("n1").await;
    let mut operator = f.operator();
    let on = |name: &str, network: &str, dry: bool| {
        let mut request = CreateInstanceRequest { validate_only: dry, ..create(name) };
        request.instance.as_mut().unwrap().network = network.to_owned();
        request
    };
    // A rack that is away says nothing against it.
    assert_eq!(operator.create_with(on("web", "dmz", true)).await.unwrap().node, "nodes/n1");
    f.rack.open();
    for network in ["dmz", "provisioning"] {
        let expected = format!("network: asked for {network}, racks/r1 has blue");
        let status = operator.create_with(on("web", network, true)).await.unwrap_err();
        assert_eq!(status.get_details_precondition_failure().unwrap().violations[0].description, expected);
        let operation = operator.create_with(on(network, network, false)).await.unwrap();
        let error = operator.done(&operation.name).await.error.unwrap();
        assert_eq!(
            (error.reason.as_str(), error.rejections[0].reason.as_str()),
            ("NO_NODE_FITS", &*expected)
        );
    }
    let node = operator.node("n1").await;
    assert_eq!((node.state(), node.operation.as_str()), (ProvisionState::Available, ""));
    assert_eq!(operator.create_with(on("web", "blue", true)).await.unwrap().node, "nodes/n1");
    let operation = operator.create_with(on("web", "blue", false)).await.unwrap().name;
    within(f.rack.taken(&operation)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_does_not_exist_is_refused_and_keeps_no_name() {
    let f = Fixture::start().await;
    f.available("n1").await;
    let mut operator = f.operator();
    let base = || create("web").instance.unwrap_or_default();
    for (field, instance) in [
        ("instance.site", Instance { site: "sites/nope".into(), ..base() }),
        ("instance.rack", Instance { rack: "racks/nope".into(), ..base() }),
        ("instance.node", Instance { node: "nodes/nope".into(), ..base() }),
    ] {
        let asked = CreateInstanceRequest { instance: Some(instance), ..create("web") };
        let status = operator.create_with(asked).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status:?}");
        assert!(status.message().contains(field), "{status:?}");
    }
    let there =
        Instance { site: "sites/s1".into(), rack: "racks/r1".into(), node: "nodes/n1".into(), ..base() };
    operator.create_with(CreateInstanceRequest { instance: Some(there), ..create("web") }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validating_only_names_a_node_and_stores_nothing() {
    let f = Fixture::start().await;
    f.available("n1").await;
    let mut member = f.member("blue");
    let asked = CreateInstanceRequest { validate_only: true, request_id: "r".into(), ..create("web") };
    let answer = member.create_with(asked.clone()).await.unwrap();
    assert_eq!((answer.node.as_str(), answer.name.as_str()), ("nodes/n1", ""));
    let instances = inner(member.instances.list_instances(ListInstancesRequest::default()).await).unwrap();
    let operations =
        inner(member.operations.list_operations(ListOperationsRequest::default()).await).unwrap();
    assert_eq!((instances.instances.len(), operations.operations.len()), (0, 0));
    assert_eq!(member.node("n1").await.state(), ProvisionState::Available);
    // The id is still good for the request itself.
    let real = CreateInstanceRequest { validate_only: false, ..asked };
    assert!(member.create_with(real).await.unwrap().name.starts_with("operations/"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_come_in_pages_and_by_filter() {
    let f = Fixture::start().await;
    let mut member = f.member("blue");
    for i in 0..5 {
        let operation = member.create(&format!("i{i}")).await.unwrap();
        member.done(&operation.name).await;
    }
    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListInstancesRequest { page_size: 2, page_token, filter: "state=failed".into() };
        let page = inner(member.instances.list_instances(request).await).unwrap();
        assert!(page.instances.len() <= 2);
        seen.extend(page.instances.into_iter().map(|i| i.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, (0..5).map(|i| format!("instances/i{i}")).collect::<Vec<_>>());
    let list = |filter: &str, token: &str| ListInstancesRequest {
        filter: filter.into(),
        page_token: token.into(),
        ..Default::default()
    };
    let active = inner(member.instances.list_instances(list("state=active", "")).await).unwrap();
    assert!(active.instances.is_empty());
    for (request, reason) in [
        (list("colour=red", ""), "INVALID_FILTER"),
        (list("state=fine", ""), "INVALID_FILTER"),
        (list("", "???"), "INVALID_PAGE_TOKEN"),
    ] {
        refused(member.instances.list_instances(request).await, Code::InvalidArgument, reason);
    }

    let request = ListOperationsRequest {
        page_size: 3,
        filter: "type=deploy AND done=true".into(),
        ..Default::default()
    };
    let first = inner(member.operations.list_operations(request.clone()).await).unwrap();
    let request = ListOperationsRequest { page_token: first.next_page_token, ..request };
    let second = inner(member.operations.list_operations(request).await).unwrap();
    assert_eq!((first.operations.len(), second.operations.len()), (3, 2));
    assert_eq!(second.next_page_token, "");
    let request = ListOperationsRequest { filter: "target=instances/i3".into(), ..Default::default() };
    let one = inner(member.operations.list_operations(request).await).unwrap().operations;
    assert_eq!((one.len(), one[0].target.as_str()), (1, "instances/i3"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_neither_sees_nor_touches_what_is_anothers() {
    let f = Fixture::start().await;
    let (mut blue, mut red, mut operator) = (f.member("blue"), f.member("red"), f.operator());
    let operation = blue.create("web").await.unwrap().name;
    blue.done(&operation).await;
    refused(red.instance("web").await, Code::NotFound, "NOT_FOUND");
    refused(red.delete(delete("web")).await, Code::NotFound, "NOT_FOUND");
    let get = || GetOperationRequest { name: operation.clone() };
    let cancel = || CancelOperationRequest { name: operation.clone(), reason: String::new() };
    let watch = || WatchOperationRequest { name: operation.clone() };
    refused(red.operations.get_operation(get()).await, Code::NotFound, "NOT_FOUND");
    refused(red.operations.cancel_operation(cancel()).await, Code::NotFound, "NOT_FOUND");
    refused(red.operations.watch_operation(watch()).await.map(drop), Code::NotFound, "NOT_FOUND");
    let instances = inner(red.instances.list_instances(ListInstancesRequest::default()).await).unwrap();
    let operations = inner(red.operations.list_operations(ListOperationsRequest::default()).await).unwrap();
    assert_eq!((instances.instances, operations.operations), (vec![], vec![]));
    refused(red.create("web").await, Code::AlreadyExists, "NAME_TAKEN");
    let mut for_blue = create("other");
    for_blue.instance.as_mut().unwrap().owner = "blue".into();
    refused(red.create_with(for_blue.clone()).await, Code::InvalidArgument, "INVALID_FIELD");
    let mut reader = f.user("rita", Role::Reader, "blue");
    refused(reader.create("mine").await, Code::PermissionDenied, "NOT_ALLOWED");
    assert_eq!(reader.instance("web").await.unwrap().owner, "blue");

    // An operator sees all and may ask in a project's name.
    assert_eq!(operator.instance("web").await.unwrap().owner, "blue");
    operator.create_with(for_blue).await.unwrap();
    assert_eq!(blue.instance("other").await.unwrap().owner, "blue");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_asks_for_the_revision_that_was_read() {
    let f = Fixture::start().await;
    let mut member = f.member("blue");
    let operation = member.create("web").await.unwrap();
    let before = member.instance("web").await.unwrap().etag;
    member.done(&operation.name).await;
    let stale = DeleteInstanceRequest { etag: before, ..delete("web") };
    refused(member.delete(stale).await, Code::Aborted, "STALE_ETAG");
    let etag = member.instance("web").await.unwrap().etag;
    let gone = member.delete(DeleteInstanceRequest { etag, ..delete("web") }).await.unwrap();
    assert_eq!(member.done(&gone.name).await.error, None);
    refused(member.instance("web").await, Code::NotFound, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_is_cancelled_says_by_whom_and_lets_its_node_go() {
    let f = Fixture::start().await;
    f.available("n1").await;
    let mut member = f.member("blue");
    let operation = member.create("web").await.unwrap().name;
    // The rack takes nothing: the operation says so and goes on trying.
    let waiting = member.until(&operation, |op| op.waiting.contains("closed")).await;
    assert_eq!((waiting.phase(), waiting.node.as_str()), (OperationPhase::Starting, "nodes/n1"));
    assert!(waiting.next_try_time.is_some() && waiting.waiting.contains("racks/r1"), "{}", waiting.waiting);
    let request = CancelOperationRequest { name: operation.clone(), reason: "wrong flavor".into() };
    member.operations.cancel_operation(request).await.unwrap();
    let error = member.done(&operation).await.error.unwrap();
    assert_eq!(error.reason, "CANCELLED");
    assert!(error.message.contains("spiffe://farrier/user/max: wrong flavor"), "{}", error.message);
    let node = member.node("n1").await;
    assert_eq!((node.state(), node.operation.as_str()), (ProvisionState::DeployFailed, ""));
    assert_eq!(member.instance("web").await.unwrap().state(), InstanceState::Failed);
    // Once more: nothing changes.
    let request = CancelOperationRequest { name: operation.clone(), reason: "again".into() };
    let again = inner(member.operations.cancel_operation(request).await).unwrap();
    assert_eq!(again.error.unwrap(), error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_what_is_being_deployed_stops_that_and_takes_the_node_back() {
    let f = Fixture::start().await;
    f.available("n1").await;
    f.rack.open();
    let mut member = f.member("blue");
    let deploy = member.create("web").await.unwrap().name;
    let task = within(f.rack.taken(&deploy)).await;
    let undeploy = member.delete(delete("web")).await.unwrap().name;
    let error = member.done(&deploy).await.error.unwrap();
    assert_eq!(error.reason, "CANCELLED");
    assert!(error.message.contains(&undeploy), "{}", error.message);
    let back = within(f.rack.taken(&undeploy)).await;
    assert!(back.fence > task.fence);
    assert_eq!(member.instance("web").await.unwrap().state(), InstanceState::Deleting);
    assert_eq!(member.node("n1").await.state(), ProvisionState::Deleting);
    f.rack.end(&back.id, farrier_proto::rack::TaskState::Done, "", Default::default());
    assert_eq!(member.done(&undeploy).await.error, None);
    refused(member.instance("web").await, Code::NotFound, "NOT_FOUND");
    let node = member.node("n1").await;
    assert_eq!((node.state(), node.instance.as_str()), (ProvisionState::Available, ""));
}
