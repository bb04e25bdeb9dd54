use super::*;
use farrier_proto::inventory::Port;
use farrier_proto::rack::Deploy;
use farrier_proto::types::ProvisionState;

fn at(node: &str, state: ProvisionState) -> Dispatch {
    let node = Node {
        name: format!("nodes/{node}"),
        rack: "racks/r1".into(),
        architecture: "x86_64".into(),
        boot_mode: BootMode::Uefi.into(),
        state: state.into(),
        ..Node::default()
    };
    let port = Port { pxe_enabled: true, ..Port::default() };
    Dispatch { node: Some(node), ports: vec![port], ..Dispatch::default() }
}

fn pair() -> (Instance, Dispatch, Dispatch) {
    let instance = Instance { name: "instances/web".into(), owner: "blue".into(), ..Instance::default() };
    let mut from = at("n1", ProvisionState::Active);
    from.node.as_mut().unwrap().instance = "instances/web".into();
    (instance, from, at("n2", ProvisionState::Available))
}

#[test]
fn each_thing_that_does_not_fit_is_named() {
    type Change = fn(&mut Node, &mut Node);
    let rows: &[(&str, Change)] = &[
        ("is not given to", |from, _| from.instance = "instances/db".into()),
        ("must be active", |from, _| from.set_state(ProvisionState::Deleting)),
        ("state: must be available, is active", |_, onto| onto.set_state(ProvisionState::Active)),
        ("maintenance", |_, onto| onto.maintenance = true),
        ("rack: the disk is at racks/r1", |_, onto| onto.rack = "racks/r2".into()),
        ("owner", |_, onto| onto.owner = "red".into()),
        ("boot mode: the disk boots with uefi, the node with bios", |_, onto| {
            onto.set_boot_mode(BootMode::Bios);
        }),
        ("architecture", |_, onto| onto.architecture = "aarch64".into()),
    ];
    for (expected, change) in rows {
        let (instance, mut from, mut onto) = pair();
        assert_eq!(unfit(&instance, &from, &onto), Vec::<String>::new());
        change(from.node.as_mut().unwrap(), onto.node.as_mut().unwrap());
        let why = unfit(&instance, &from, &onto);
        assert!(why.len() == 1 && why[0].contains(expected), "{expected}: {why:?}");
    }
    let (instance, from, mut onto) = pair();
    onto.ports.clear();
    assert!(unfit(&instance, &from, &onto)[0].starts_with("ports"));
    // Its own project's node does, and one whose boot mode nobody has said is UEFI, as racks have it.
    let (instance, from, mut onto) = pair();
    let node = onto.node.as_mut().unwrap();
    node.owner = "blue".into();
    node.set_boot_mode(BootMode::Unspecified);
    node.architecture.clear();
    assert_eq!(unfit(&instance, &from, &onto), Vec::<String>::new());
}

#[test]
fn where_it_lives_it_is_tried_again_after_a_failure_only() {
    let (instance, mut from, _) = pair();
    assert!(unfit(&instance, &from, &from.clone())[0].contains("is where it lives"));
    from.node.as_mut().unwrap().set_state(ProvisionState::DeployFailed);
    assert_eq!(unfit(&instance, &from, &from.clone()), Vec::<String>::new());
}

#[test]
fn the_disk_is_given_away_first_and_taken_over_then() {
    let recovery = Recovery { from: "nodes/n1".into(), onto: "nodes/n2".into(), force: true };
    let deploy = Deploy { instance: "instances/web".into(), recovery: Some(recovery), ..Deploy::default() };
    let stored = TaskSpec { machine: None, work: Some(Work::Deploy(deploy)) };
    let mut op = Operation { r#type: OperationType::Recover.into(), ..Operation::default() };
    let fence = Fence { instance: "instances/web".into(), onto: "nodes/n2".into(), force: true };
    assert_eq!(work(&op, stored.clone()).work, Some(Work::Fence(fence)));
    op.steps = vec![Default::default(); 3];
    assert!(is_fencing(&op));
    fenced(&mut op);
    assert!(!is_fencing(&op) && op.phase() == OperationPhase::Placing);
    assert_eq!(work(&op, stored.clone()), stored);
}
