//! Snapshots and recoveries: whose they are, what is held meanwhile, and what their ends mean.

use crate::fixture::{Clients, Fixture, create, delete, inner, refused, within};
use farrier_identity::{Identity, Role};
use farrier_proto::images::upload_image_request::{Header, Part};
use farrier_proto::images::{
    Compression, GetImageRequest, Image, ImageFormat, ReserveImageRequest, UploadImageRequest,
};
use farrier_proto::inventory::{ExplainNodeRequest, Rack, UpdateNodeRequest};
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Task, TaskResult, TaskState};
use farrier_proto::scheduler::*;
use farrier_proto::types::{BootMode, DeployMethod, PowerState, ProvisionState};
use farrier_runtime::error::reason_of;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

/// `instances/web` of project blue, active on `n1`.
async fn active(f: &Fixture, method: DeployMethod) -> Clients {
    f.available("n1").await;
    f.rack.open();
    let mut member = f.member("blue");
    let mut request = create("web");
    request.instance.as_mut().unwrap().set_method(method);
    let deploy = member.create_with(request).await.unwrap().name;
    let task = within(f.rack.taken(&deploy)).await;
    f.rack.end(&task.id, TaskState::Done, "", TaskResult::default());
    assert_eq!(member.done(&deploy).await.error, None);
    member
}

async fn snapshot(clients: &mut Clients, image: &str) -> Result<Operation, Status> {
    let request = SnapshotInstanceRequest {
        name: "instances/web".into(),
        image: format!("images/{image}"),
        description: "after setup".into(),
        ..Default::default()
    };
    inner(clients.instances.snapshot_instance(request).await)
}

async fn recover(clients: &mut Clients, onto: &str, force: bool) -> Result<Operation, Status> {
    let request = RecoverInstanceRequest {
        name: "instances/web".into(),
        onto: format!("nodes/{onto}"),
        force,
        ..Default::default()
    };
    inner(clients.instances.recover_instance(request).await)
}

async fn reserve(f: &Fixture, image: &str, operation: &str) -> Result<(), Status> {
    let image = Some(Image { name: format!("images/{image}"), ..Image::default() });
    let request = ReserveImageRequest { image, rack: "racks/r1".into(), operation: operation.into() };
    f.images(Identity::Service("scheduler".into())).reserve_image(request).await.map(drop)
}

/// What the rack sends for an operation.
async fn upload(f: &Fixture, image: &str, operation: &str) -> Result<Image, Status> {
    let bytes = vec![5; 4096];
    let image = Image {
        name: format!("images/{image}"),
        sha256: Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect(),
        format: ImageFormat::Raw.into(),
        compression: Compression::None.into(),
        ..Image::default()
    };
    let header =
        Header { image: Some(image), file_bytes: 4096, request_id: operation.into(), ..Header::default() };
    let parts = [Part::Header(header), Part::Data(bytes)].map(|p| UploadImageRequest { part: Some(p) });
    let mut rack = f.images(Identity::Rack("r1".into()));
    inner(rack.upload_image(tokio_stream::iter(parts)).await)
}

fn off() -> TaskResult {
    TaskResult { power_state: PowerState::Off.into(), ..TaskResult::default() }
}

/// Waits for the second task of a recovery.
async fn attached(f: &Fixture, operation: &str) -> Task {
    within(f.rack.taken(&format!("{operation}-attach"))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_refused_before_any_work_where_it_cannot_be() {
    let f = Fixture::start().await;
    let mut member = active(&f, DeployMethod::Direct).await;
    let message = refused(snapshot(&mut member, "golden").await, Code::FailedPrecondition, "NOT_DISKLESS");
    assert!(message.contains("method direct"), "{message}");
    let message =
        refused(recover(&mut f.operator(), "n1", false).await, Code::FailedPrecondition, "NOT_DISKLESS");
    assert!(message.contains("method direct"), "{message}");

    let f = Fixture::start().await;
    let mut member = active(&f, DeployMethod::Diskless).await;
    refused(snapshot(&mut member, "os").await, Code::AlreadyExists, "NAME_TAKEN");
    refused(snapshot(&mut member, "../x").await, Code::InvalidArgument, "INVALID_FIELD");
    refused(snapshot(&mut f.member("red"), "golden").await, Code::NotFound, "NOT_FOUND");
    let mut reader = f.user("rita", Role::Reader, "blue");
    refused(snapshot(&mut reader, "golden").await, Code::PermissionDenied, "NOT_ALLOWED");
    refused(recover(&mut member, "n1", false).await, Code::PermissionDenied, "NOT_ALLOWED");
    assert_eq!(f.rack.tasks().len(), 1, "the deployment and nothing else");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_holds_its_node_and_keeps_the_name_for_its_rack() {
    let f = Fixture::start().await;
    let mut member = active(&f, DeployMethod::Diskless).await;
    let operation = snapshot(&mut member, "golden").await.unwrap().name;
    let task = within(f.rack.taken(&operation)).await;
    let Some(Work::Snapshot(work)) = task.spec.unwrap().work else { panic!("{operation}") };
    assert_eq!((work.instance.as_str(), work.image.as_str()), ("instances/web", "images/golden"));
    assert_eq!(work.max_bytes, 1 << 30);
    let node = f.operator().node("n1").await;
    assert_eq!((node.operation.as_str(), node.state()), (operation.as_str(), ProvisionState::Active));
    assert_eq!(member.instance("web").await.unwrap().state(), InstanceState::Active);
    assert_eq!(reason_of(&reserve(&f, "golden", "operations/x").await.unwrap_err()).unwrap(), "NAME_TAKEN");
    // A second one of the same name is refused in its turn, and lets go of the node.
    let second = snapshot(&mut member, "golden").await.unwrap().name;

    upload(&f, "golden", &operation).await.unwrap();
    f.rack.end(&task.id, TaskState::Done, "", TaskResult::default());
    assert_eq!(member.done(&operation).await.error, None);
    let error = member.done(&second).await.error.unwrap();
    assert_eq!(error.reason, "NAME_TAKEN", "{error:?}");
    assert_eq!(f.operator().node("n1").await.operation, "");
    let mut images =
        f.images(Identity::User { name: "max".into(), role: Role::Member, project: "blue".into() });
    let image = inner(images.get_image(GetImageRequest { name: "images/golden".into() }).await).unwrap();
    assert_eq!((image.owner.as_str(), image.description.as_str()), ("blue", "after setup"));
    assert_eq!(upload(&f, "golden", &operation).await.unwrap_err().code(), Code::PermissionDenied);
    let told = f.operator().told(&operation).await;
    assert_eq!(told[0], "spiffe://farrier/user/max snapshot of instances/web >");
    assert_eq!(f.rack.tasks().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_snapshot_frees_name_and_node_and_one_stopped_too_late_is_done() {
    let f = Fixture::start().await;
    let mut member = active(&f, DeployMethod::Diskless).await;
    for (image, late) in [("golden", false), ("silver", true)] {
        let operation = snapshot(&mut member, image).await.unwrap().name;
        within(f.rack.taken(&operation)).await;
        if late {
            upload(&f, image, &operation).await.unwrap();
        }
        let request = CancelOperationRequest { name: operation.clone(), reason: "enough".into() };
        member.operations.cancel_operation(request).await.unwrap();
        let ended = member.done(&operation).await;
        assert_eq!(ended.error.map(|e| e.reason), (!late).then(|| "CANCELLED".to_owned()));
        assert_eq!(f.operator().node("n1").await.operation, "");
        assert_eq!(reserve(&f, image, "operations/x").await.is_ok(), !late, "{image}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_moves_the_instance_and_leaves_the_first_node_dirty() {
    let f = Fixture::start().await;
    let mut member = active(&f, DeployMethod::Diskless).await;
    f.available_with("n2", 2).await;
    let mut operator = f.operator();
    let operation = recover(&mut operator, "n2", true).await.unwrap().name;
    let first = within(f.rack.taken(&operation)).await;
    let Some(Work::Fence(fence)) = first.spec.unwrap().work else { panic!("{operation}") };
    assert_eq!((first.node.as_str(), fence.onto.as_str(), fence.force), ("nodes/n1", "nodes/n2", true));
    // Both are held, neither has moved.
    for (id, state) in [("n1", ProvisionState::Active), ("n2", ProvisionState::Available)] {
        let node = operator.node(id).await;
        assert_eq!((node.operation.as_str(), node.state()), (operation.as_str(), state), "{id}");
    }
    let elsewhere = operator.create("other").await.unwrap().name;
    operator.until(&elsewhere, |op| op.waiting.contains("taken by others")).await;

    f.rack.end(&first.id, TaskState::Done, "", off());
    let second = attached(&f, &operation).await;
    let Some(Work::Deploy(deploy)) = second.spec.clone().unwrap().work else { panic!("{operation}") };
    assert_eq!((second.node.as_str(), deploy.instance.as_str()), ("nodes/n2", "instances/web"));
    assert!(deploy.recovery.is_some() && deploy.method() == DeployMethod::Diskless);
    let (old, new) = (operator.node("n1").await, operator.node("n2").await);
    assert_eq!(
        (old.state(), old.instance.as_str(), old.operation.as_str()),
        (ProvisionState::CleanFailed, "", "")
    );
    assert_eq!(old.power_state(), PowerState::Off);
    assert!(old.last_error.contains("lives on nodes/n2"), "{}", old.last_error);
    assert_eq!((new.state(), new.instance.as_str()), (ProvisionState::Deploying, "instances/web"));
    let told =
        inner(operator.nodes.explain_node(ExplainNodeRequest { name: "nodes/n1".into() }).await).unwrap();
    assert!(told.actions.contains(&"farrier node provide n1".to_owned()), "{:?}", told.actions);

    let addresses = vec!["10.0.0.9".to_owned()];
    f.rack.end(&second.id, TaskState::Done, "", TaskResult { addresses, ..TaskResult::default() });
    let ended = member.done(&operation).await;
    assert_eq!((ended.error, ended.node.as_str()), (None, "nodes/n2"));
    assert_eq!(ended.steps.len(), 2, "those of both tasks");
    let web = member.instance("web").await.unwrap();
    assert_eq!((web.state(), web.placed_node.as_str()), (InstanceState::Active, "nodes/n2"));
    assert_eq!(web.addresses, ["10.0.0.9"]);
    let node = operator.node("n2").await;
    assert_eq!((node.state(), node.operation.as_str()), (ProvisionState::Active, ""));
    // Taken back from where it is now.
    let deleting = member.delete(delete("web")).await.unwrap().name;
    assert_eq!(within(f.rack.taken(&deleting)).await.node, "nodes/n2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_that_fails_on_the_first_node_leaves_everything_as_it_was() {
    let f = Fixture::start().await;
    let mut member = active(&f, DeployMethod::Diskless).await;
    f.available_with("n2", 2).await;
    let mut operator = f.operator();
    let silent = "fence_node: the BMC is silent";
    for cancel in [false, true] {
        let operation = recover(&mut operator, "n2", false).await.unwrap().name;
        let first = within(f.rack.taken(&operation)).await;
        if cancel {
            let request = CancelOperationRequest { name: operation.clone(), reason: String::new() };
            operator.operations.cancel_operation(request).await.unwrap();
        } else {
            f.rack.end(&first.id, TaskState::Failed, silent, TaskResult::default());
        }
        let error = operator.done(&operation).await.error.unwrap();
        assert_eq!(error.reason, if cancel { "CANCELLED" } else { "TASK_FAILED" });
        for (id, state) in [("n1", ProvisionState::Active), ("n2", ProvisionState::Available)] {
            let node = operator.node(id).await;
            assert_eq!((node.operation.as_str(), node.state()), ("", state), "{id}");
        }
        let web = member.instance("web").await.unwrap();
        assert_eq!((web.state(), web.placed_node.as_str()), (InstanceState::Active, "nodes/n1"));
        assert!(!web.last_error.is_empty());
    }
    assert_eq!(operator.node("n1").await.instance, "instances/web");
    // Asked again, it goes on; stopped behind the point of no return, the instance is where its disk is.
    let operation = recover(&mut operator, "n2", true).await.unwrap().name;
    let first = within(f.rack.taken(&operation)).await;
    f.rack.end(&first.id, TaskState::Done, "", off());
    let second = attached(&f, &operation).await;
    f.rack.end(&second.id, TaskState::Failed, "power_off: the BMC is silent", TaskResult::default());
    assert!(operator.done(&operation).await.error.is_some());
    let (old, new) = (operator.node("n1").await, operator.node("n2").await);
    assert_eq!((old.state(), old.instance.as_str()), (ProvisionState::CleanFailed, ""));
    assert_eq!((new.state(), new.instance.as_str()), (ProvisionState::DeployFailed, "instances/web"));
    let web = member.instance("web").await.unwrap();
    assert_eq!((web.state(), web.placed_node.as_str()), (InstanceState::Failed, "nodes/n2"));
    // Onto the same node again.
    let operation = recover(&mut operator, "n2", false).await.unwrap().name;
    let first = within(f.rack.taken(&operation)).await;
    assert_eq!(first.node, "nodes/n2");
    f.rack.end(&first.id, TaskState::Done, "", off());
    let second = attached(&f, &operation).await;
    f.rack.end(&second.id, TaskState::Done, "", TaskResult::default());
    assert_eq!(operator.done(&operation).await.error, None);
    assert_eq!(operator.node("n2").await.state(), ProvisionState::Active);
    assert_eq!(member.instance("web").await.unwrap().state(), InstanceState::Active);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_that_is_stopped_when_the_disk_is_given_away_ends_on_the_other_node() {
    let f = Fixture::start().await;
    let mut member = active(&f, DeployMethod::Diskless).await;
    f.available_with("n2", 2).await;
    let mut operator = f.operator();
    let operation = recover(&mut operator, "n2", false).await.unwrap().name;
    let first = within(f.rack.taken(&operation)).await;
    // The rack answers the stop with a task that was done before.
    f.rack.too_late_to_stop();
    let request = CancelOperationRequest { name: operation.clone(), reason: String::new() };
    operator.operations.cancel_operation(request).await.unwrap();
    assert_eq!(operator.done(&operation).await.error.unwrap().reason, "CANCELLED");
    assert_eq!(first.node, "nodes/n1");
    let (old, new) = (operator.node("n1").await, operator.node("n2").await);
    assert_eq!((old.state(), old.instance.as_str()), (ProvisionState::CleanFailed, ""));
    assert_eq!((new.state(), new.instance.as_str()), (ProvisionState::DeployFailed, "instances/web"));
    assert_eq!(member.instance("web").await.unwrap().placed_node, "nodes/n2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_is_refused_where_the_disk_cannot_go() {
    let f = Fixture::start().await;
    active(&f, DeployMethod::Diskless).await;
    f.available_with("n2", 2).await;
    let mut operator = f.operator();
    operator.create_node("n3").await;
    let rack = Some(Rack { name: "racks/r2".into(), site: "sites/s1".into(), ..Rack::default() });
    let request = farrier_proto::inventory::CreateRackRequest { rack, ..Default::default() };
    operator.racks.create_rack(request).await.unwrap();
    operator.create_node_in("n4", "racks/r2").await;
    for (onto, expected) in [
        ("n1", "is where it lives"),
        ("n3", "state: must be available, is enroll"),
        ("n3", "ports: none"),
        ("n4", "rack: the disk is at racks/r1"),
    ] {
        let answer = recover(&mut operator, onto, false).await;
        let message = refused(answer, Code::FailedPrecondition, "NO_NODE_FITS");
        assert!(message.contains(expected), "{message}");
    }
    refused(recover(&mut operator, "n9", false).await, Code::NotFound, "NOT_FOUND");
    let node = farrier_proto::inventory::Node {
        name: "nodes/n2".into(),
        boot_mode: BootMode::Bios.into(),
        ..Default::default()
    };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["boot_mode".into()] });
    operator.nodes.update_node(UpdateNodeRequest { node: Some(node), update_mask }).await.unwrap();
    let message = refused(recover(&mut operator, "n2", true).await, Code::FailedPrecondition, "NO_NODE_FITS");
    assert!(message.contains("boot mode: the disk boots with uefi"), "{message}");
    assert_eq!(f.rack.tasks().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_stays_until_its_instances_need_it_no_more() {
    let f = Fixture::start().await;
    let mut images =
        f.images(Identity::User { name: "olga".into(), role: Role::Operator, project: "".into() });
    let mut used_by = async || {
        let request = GetImageRequest { name: "images/os".into() };
        inner(images.get_image(request).await).unwrap().used_by
    };
    f.available("n1").await;
    f.rack.open();
    let mut member = f.member("blue");
    // Of the method direct while it is made, however that ends.
    for (name, state) in [("a", TaskState::Done), ("b", TaskState::Failed)] {
        f.available_with(&format!("n-{name}"), name.as_bytes()[0]).await;
        let deploy = member.create(name).await.unwrap().name;
        let task = within(f.rack.taken(&deploy)).await;
        assert_eq!(used_by().await, [format!("instances/{name}")]);
        f.rack.end(&task.id, state, "broke", TaskResult::default());
        member.done(&deploy).await;
        assert!(used_by().await.is_empty(), "{name}");
    }
    // Diskless as long as it lives.
    let mut request = create("web");
    request.instance.as_mut().unwrap().set_method(DeployMethod::Diskless);
    let deploy = member.create_with(request).await.unwrap().name;
    let task = within(f.rack.taken(&deploy)).await;
    f.rack.end(&task.id, TaskState::Done, "", TaskResult::default());
    member.done(&deploy).await;
    assert_eq!(used_by().await, ["instances/web"]);
    let undeploy = member.delete(delete("web")).await.unwrap().name;
    let task = within(f.rack.taken(&undeploy)).await;
    assert_eq!(used_by().await, ["instances/web"]);
    f.rack.end(&task.id, TaskState::Done, "", TaskResult::default());
    assert_eq!(member.done(&undeploy).await.error, None);
    assert!(used_by().await.is_empty());
}
