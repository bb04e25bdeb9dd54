//! How the scheduler moves nodes.

use crate::fixture::{Fixture, inner, node, refused, transition};
use farrier_proto::inventory::*;
use farrier_proto::types::{BootMode, Cpu, Hardware, Nic, PowerState, ProvisionState};
use tonic::Code;

fn deploy(id: &str, operation: &str, instance: &str) -> TransitionNodeRequest {
    TransitionNodeRequest { instance: format!("instances/{instance}"), ..transition(id, "deploy", operation) }
}

#[tokio::test]
async fn a_node_lives_from_enroll_to_active_and_back() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1"]).await;
    let mut scheduler = f.scheduler();
    let begun = farrier_runtime::time::now().seconds;
    let verifying = scheduler.transition("n1", "manage", "m").await.unwrap();
    assert_eq!(verifying.state(), ProvisionState::Verifying);
    assert_eq!(verifying.operation, "operations/m");
    // Behind all tokens of a node that had its name before.
    assert!(verifying.fence >= begun, "{} at {begun}", verifying.fence);
    let done = TransitionNodeRequest { power_state: PowerState::Off.into(), ..transition("n1", "done", "m") };
    let manageable = inner(scheduler.dispatch.transition_node(done).await).unwrap().node.unwrap();
    assert_eq!(manageable.state(), ProvisionState::Manageable);
    assert_eq!((manageable.operation.as_str(), manageable.power_state()), ("", PowerState::Off));
    assert_eq!(manageable.fence, verifying.fence, "an outcome takes no token");
    let cleaning = scheduler.transition("n1", "provide", "p").await.unwrap();
    assert!(cleaning.fence > verifying.fence);
    scheduler.transition("n1", "done", "p").await.unwrap();
    let answer = inner(scheduler.dispatch.transition_node(deploy("n1", "d", "i1")).await).unwrap();
    let node = answer.node.unwrap();
    assert!(answer.fence > cleaning.fence);
    assert_eq!((node.fence, node.instance.as_str()), (answer.fence, "instances/i1"));
    assert_eq!(op.list_nodes("instance=i1 AND state=deploying").await.unwrap(), ["nodes/n1"]);
    let failed = TransitionNodeRequest { error: "no route".into(), ..transition("n1", "fail", "d") };
    let node = inner(scheduler.dispatch.transition_node(failed).await).unwrap().node.unwrap();
    assert_eq!(node.state(), ProvisionState::DeployFailed);
    assert_eq!((node.last_error.as_str(), node.instance.as_str()), ("no route", "instances/i1"));
    let delete = DeleteNodeRequest { name: "nodes/n1".into(), etag: String::new() };
    refused(op.nodes.delete_node(delete).await, Code::FailedPrecondition, "IN_USE");
    let explained = op.nodes.explain_node(ExplainNodeRequest { name: "nodes/n1".into() }).await;
    let explained = inner(explained).unwrap();
    assert!(explained.observed.contains("no route"), "{explained:?}");
    assert!(explained.actions.contains(&"farrier instance delete i1".to_owned()), "{explained:?}");
    let deleting = scheduler.transition("n1", "undeploy", "u").await.unwrap();
    assert!(deleting.fence > answer.fence);
    assert_eq!(deleting.last_error, "");
    let free = scheduler.transition("n1", "done", "u").await.unwrap();
    assert_eq!((free.state(), free.instance.as_str()), (ProvisionState::Available, ""));

    let request = ListEventsRequest { filter: "operation=operations/d".into(), ..Default::default() };
    let told: Vec<_> = inner(op.events.list_events(request).await)
        .unwrap()
        .events
        .into_iter()
        .map(|e| format!("{} {} -> {}: {}", e.action, e.before, e.after, e.detail))
        .collect();
    assert_eq!(
        told,
        ["deploy available -> deploying: for instances/i1", "fail deploying -> deploy failed: no route"]
    );
}

#[tokio::test]
async fn the_same_transition_again_gets_the_same_answer() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1"]).await;
    let mut scheduler = f.scheduler();
    for event in ["manage", "done"] {
        let first = inner(scheduler.dispatch.transition_node(transition("n1", event, "m")).await).unwrap();
        let before = op.all_events().await.len();
        let again = inner(scheduler.dispatch.transition_node(transition("n1", event, "m")).await).unwrap();
        assert_eq!(again, first);
        assert_eq!(op.all_events().await.len(), before);
    }
}

#[tokio::test]
async fn sixteen_deploys_race_and_one_wins() {
    let f = Fixture::start().await;
    f.with_nodes(&["n1"]).await;
    let mut scheduler = f.scheduler();
    scheduler.provide("n1").await;
    let racers: Vec<_> = (0..16)
        .map(|i| {
            let mut scheduler = scheduler.clone();
            let request = deploy("n1", &format!("d{i}"), &format!("i{i}"));
            tokio::spawn(async move { scheduler.dispatch.transition_node(request).await })
        })
        .collect();
    let mut winners = Vec::new();
    for racer in racers {
        match racer.await.unwrap() {
            Ok(answer) => winners.push(answer.into_inner().node.unwrap()),
            Err(lost) => drop(refused::<()>(Err(lost), Code::Aborted, "NODE_BUSY")),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(scheduler.node("n1").await.unwrap(), winners[0]);
}

#[tokio::test]
async fn what_may_not_happen_is_refused_with_its_reason() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1", "n2"]).await;
    let mut scheduler = f.scheduler();
    let early = scheduler.dispatch.transition_node(deploy("n1", "d", "i1")).await;
    let message = refused(early, Code::FailedPrecondition, "LIFECYCLE_REFUSED");
    assert!(message.contains("takes `manage`"), "{message}");
    scheduler.transition("n1", "manage", "m").await.unwrap();
    let message = refused(scheduler.transition("n1", "manage", "other").await, Code::Aborted, "NODE_BUSY");
    assert!(message.contains("operations/m"), "{message}");
    for event in ["done", "fail", "abort"] {
        let foreign = scheduler.transition("n1", event, "other").await;
        refused(foreign, Code::FailedPrecondition, "LIFECYCLE_REFUSED");
    }
    let stale = TransitionNodeRequest { etag: "1".into(), ..transition("n1", "done", "m") };
    refused(scheduler.dispatch.transition_node(stale).await, Code::Aborted, "STALE_ETAG");
    refused(scheduler.transition("n1", "explode", "m").await, Code::InvalidArgument, "INVALID_FIELD");
    refused(scheduler.transition("n9", "manage", "m").await, Code::NotFound, "NOT_FOUND");
    let aborted = scheduler.transition("n1", "abort", "m").await.unwrap();
    assert_eq!(aborted.state(), ProvisionState::VerifyFailed);
    assert_eq!((aborted.operation.as_str(), aborted.last_error.as_str()), ("", "stopped by a person"));

    scheduler.provide("n2").await;
    let kept = Node { name: "nodes/n2".into(), maintenance: true, ..Node::default() };
    op.update_node(kept.clone(), &[]).await.unwrap();
    let maintained = scheduler.dispatch.transition_node(deploy("n2", "d", "i1")).await;
    let message = refused(maintained, Code::FailedPrecondition, "LIFECYCLE_REFUSED");
    assert!(message.contains("maintenance"), "{message}");
    op.update_node(Node { maintenance: false, ..kept }, &["maintenance"]).await.unwrap();
    let nobody = scheduler.transition("n2", "deploy", "d").await;
    refused(nobody, Code::InvalidArgument, "INVALID_FIELD");
    scheduler.dispatch.transition_node(deploy("n2", "d", "i1")).await.unwrap();
    scheduler.transition("n2", "done", "d").await.unwrap();
    refused(scheduler.transition("n2", "rebuild", "r").await, Code::FailedPrecondition, "NOT_DRIVEN");
}

#[tokio::test]
async fn a_verb_without_work_leaves_the_node_free() {
    let f = Fixture::start().await;
    f.with_nodes(&["n1"]).await;
    let mut scheduler = f.scheduler();
    scheduler.provide("n1").await;
    let back = scheduler.transition("n1", "manage", "back").await.unwrap();
    assert_eq!((back.state(), back.operation.as_str()), (ProvisionState::Manageable, ""));
}

#[tokio::test]
async fn an_inspection_describes_the_node_and_its_ports() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1", "n2"]).await;
    let mut scheduler = f.scheduler();
    let nic = |mac: &str, link_up| Nic { mac_address: mac.into(), link_up, ..Nic::default() };
    let inspected = |id: &str, nics: Vec<Nic>| TransitionNodeRequest {
        hardware: Some(Hardware {
            cpu: Some(Cpu { architecture: "x86_64".into(), ..Cpu::default() }),
            boot_mode: BootMode::Uefi.into(),
            secure_boot: true,
            nics,
            ..Hardware::default()
        }),
        ..transition(id, "done", "i")
    };
    for id in ["n1", "n2"] {
        for (event, operation) in [("manage", "m"), ("done", "m"), ("inspect", "i")] {
            scheduler.transition(id, event, operation).await.unwrap();
        }
    }
    let found = vec![nic("52:54:00:00:00:01", true), nic("52:54:00:00:00:02", false), nic("", true)];
    let node = inner(scheduler.dispatch.transition_node(inspected("n1", found)).await).unwrap().node.unwrap();
    assert_eq!((node.architecture.as_str(), node.boot_mode()), ("x86_64", BootMode::Uefi));
    assert!(node.secure_boot, "what the inspection saw on is booted so from then on");
    assert!(node.hardware.is_some() && node.inspect_time.is_some());
    let ports = |pages: ListPortsResponse| {
        pages.ports.into_iter().map(|p| (p.mac_address, p.pxe_enabled)).collect::<Vec<_>>()
    };
    let of = |id: &str| ListPortsRequest { filter: format!("node={id}"), ..Default::default() };
    assert_eq!(
        ports(inner(op.ports.list_ports(of("n1")).await).unwrap()),
        [("52:54:00:00:00:01".to_owned(), true), ("52:54:00:00:00:02".to_owned(), false)]
    );
    // Where somebody described a port, the others stay out of the way; another node's port stays its own.
    let port =
        Some(Port { node: "nodes/n2".into(), mac_address: "52:54:00:00:00:03".into(), ..Port::default() });
    op.ports.create_port(CreatePortRequest { port, ..Default::default() }).await.unwrap();
    let found = ["52:54:00:00:00:01", "52:54:00:00:00:03", "52:54:00:00:00:04"].map(|mac| nic(mac, true));
    scheduler.dispatch.transition_node(inspected("n2", found.to_vec())).await.unwrap();
    assert_eq!(
        ports(inner(op.ports.list_ports(of("n2")).await).unwrap()),
        [("52:54:00:00:00:03".to_owned(), false), ("52:54:00:00:00:04".to_owned(), false)]
    );
    let dispatch =
        scheduler.dispatch.get_dispatch(GetDispatchRequest { node: "nodes/n1".into(), ..Default::default() });
    assert_eq!(inner(dispatch.await).unwrap().ports.len(), 2);
    let candidates = inner(scheduler.dispatch.list_candidates(ListCandidatesRequest {}).await).unwrap();
    assert!(candidates.nodes.iter().all(|n| n.hardware.is_some()) && candidates.nodes.len() == 2);
    assert_eq!(candidates.rack_sites.get("racks/r1").map(String::as_str), Some("sites/s1"));
}

fn hold(operation: &str) -> HoldNodeRequest {
    HoldNodeRequest {
        node: "nodes/n1".into(),
        operation: format!("operations/{operation}"),
        action: "power off".into(),
        actor: "spiffe://farrier/user/olga".into(),
        rotates_bmc_credentials: false,
        ..HoldNodeRequest::default()
    }
}

fn release(operation: &str) -> ReleaseNodeRequest {
    ReleaseNodeRequest {
        node: "nodes/n1".into(),
        operation: format!("operations/{operation}"),
        power_state: PowerState::Off.into(),
        actor: "spiffe://farrier/user/olga".into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_held_node_is_its_operations_alone_and_moves_no_state() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1"]).await;
    let mut scheduler = f.scheduler();
    scheduler.provide("n1").await;
    let before = op.node("n1").await.unwrap();
    let held = inner(scheduler.dispatch.hold_node(hold("p1")).await).unwrap();
    assert!(held.fence > before.fence);
    assert_eq!(held.node.as_ref().map(|n| n.fence), Some(held.fence));
    // Again, as after a lost answer: the same.
    assert_eq!(inner(scheduler.dispatch.hold_node(hold("p1")).await).unwrap(), held);
    refused(scheduler.dispatch.hold_node(hold("p2")).await, Code::Aborted, "NODE_BUSY");
    let taken = scheduler.dispatch.transition_node(deploy("n1", "d", "i1")).await;
    assert!(refused(taken, Code::Aborted, "NODE_BUSY").contains("operations/p1"));
    let foreign = scheduler.dispatch.release_node(release("p2")).await;
    refused(foreign, Code::FailedPrecondition, "LIFECYCLE_REFUSED");
    let free = inner(scheduler.dispatch.release_node(release("p1")).await).unwrap();
    assert_eq!(inner(scheduler.dispatch.release_node(release("p1")).await).unwrap(), free);
    let node = free.node.unwrap();
    assert_eq!((node.state(), node.operation.as_str()), (before.state(), ""));
    assert_eq!((node.power_state(), node.fence), (PowerState::Off, held.fence));
    let request = ListEventsRequest { filter: "operation=operations/p1".into(), ..Default::default() };
    let told: Vec<_> = inner(op.events.list_events(request).await)
        .unwrap()
        .events
        .into_iter()
        .map(|e| format!("{} {} {}>{}", e.actor, e.action, e.before, e.after))
        .collect();
    let olga = "spiffe://farrier/user/olga";
    assert_eq!(told, [format!("{olga} power off >"), format!("{olga} done >off")]);
    inner(scheduler.dispatch.transition_node(deploy("n1", "d", "i1")).await).unwrap();
}

#[tokio::test]
async fn what_was_asked_of_a_node_as_it_was_is_refused_once_other_work_had_it() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1"]).await;
    let mut scheduler = f.scheduler();
    scheduler.provide("n1").await;
    let seen = op.node("n1").await.unwrap().fence;
    let as_seen = |operation: &str| HoldNodeRequest { expected_fence: seen, ..hold(operation) };
    inner(scheduler.dispatch.hold_node(as_seen("p1")).await).unwrap();
    // It waits behind what works on the node, and then it is too late.
    refused(scheduler.dispatch.hold_node(as_seen("p2")).await, Code::Aborted, "NODE_BUSY");
    inner(scheduler.dispatch.release_node(release("p1")).await).unwrap();
    let late = scheduler.dispatch.hold_node(as_seen("p2")).await;
    assert!(refused(late, Code::FailedPrecondition, "LIFECYCLE_REFUSED").contains("other work"));
    inner(scheduler.dispatch.hold_node(hold("p3")).await).unwrap();
    inner(scheduler.dispatch.release_node(release("p3")).await).unwrap();
    // Power is kept where somebody wants it kept, and nobody works on the machine by hand.
    let keep = |operation: &str| HoldNodeRequest { keeps_power: true, ..hold(operation) };
    refused(scheduler.dispatch.hold_node(keep("k1")).await, Code::FailedPrecondition, "LIFECYCLE_REFUSED");
    let mut wanted = Node { power_policy: PowerPolicy::Keep.into(), maintenance: true, ..node("n1") };
    op.update_node(wanted.clone(), &["power_policy", "maintenance"]).await.unwrap();
    refused(scheduler.dispatch.hold_node(keep("k1")).await, Code::FailedPrecondition, "LIFECYCLE_REFUSED");
    wanted.maintenance = false;
    op.update_node(wanted, &["maintenance"]).await.unwrap();
    inner(scheduler.dispatch.hold_node(keep("k1")).await).unwrap();
}

#[tokio::test]
async fn candidates_that_may_boot_from_the_network_are_named() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1", "n2", "n3"]).await;
    for (node, last, pxe_enabled) in [("n1", 1, true), ("n1", 2, true), ("n2", 3, false)] {
        let port = Some(Port {
            name: format!("ports/52-54-00-00-00-0{last}"),
            node: format!("nodes/{node}"),
            mac_address: format!("52:54:00:00:00:0{last}"),
            pxe_enabled,
            ..Port::default()
        });
        op.ports.create_port(CreatePortRequest { port, ..Default::default() }).await.unwrap();
    }
    let candidates = inner(f.scheduler().dispatch.list_candidates(ListCandidatesRequest {}).await).unwrap();
    assert_eq!(candidates.bootable_nodes, ["nodes/n1"]);
    assert_eq!(candidates.nodes.len(), 3);
}

/// A BMC was given another address: its node follows, keeps what opens it, and nobody else loses a BMC.
#[tokio::test]
async fn a_node_follows_its_bmc_unless_that_is_somebody_elses_place() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1", "n2"]).await;
    let mut scheduler = f.scheduler();
    let request = |address: &str, from: &str, validate_only| MoveBmcRequest {
        node: "nodes/n1".into(),
        address: address.into(),
        expected_address: from.into(),
        actor: "olga".into(),
        validate_only,
    };
    let taken = inner(scheduler.dispatch.move_bmc(request("n2:6230", "n1:6230", true)).await);
    assert!(refused(taken, Code::AlreadyExists, "BMC_TAKEN").contains("nodes/n2"));
    let stale = inner(scheduler.dispatch.move_bmc(request("192.0.2.7", "n1", false)).await);
    refused(stale, Code::Aborted, "STALE_ETAG");
    inner(scheduler.dispatch.move_bmc(request("192.0.2.7:6230", "n1:6230", true)).await).unwrap();
    assert_eq!(op.node("n1").await.unwrap().bmc.unwrap().address, "n1:6230");
    for _ in 0..2 {
        let moved = inner(scheduler.dispatch.move_bmc(request("192.0.2.7:6230", "n1:6230", false)).await);
        let bmc = moved.unwrap().node.unwrap().bmc.unwrap();
        assert_eq!((bmc.address.as_str(), bmc.password_set), ("192.0.2.7:6230", true));
    }
    let get = GetDispatchRequest { node: "nodes/n1".into(), flavor: String::new() };
    let dispatch = inner(scheduler.dispatch.get_dispatch(get).await).unwrap();
    assert_eq!(dispatch.bmc_password, node("n1").bmc.unwrap().password);
    let moves = op.all_events().await.into_iter().filter(|event| event.action == "move bmc");
    let told: Vec<_> = moves.map(|event| (event.actor, event.before, event.after)).collect();
    assert_eq!(told, [("olga".to_owned(), "n1:6230".to_owned(), "192.0.2.7:6230".to_owned())]);
    // Another system of the same BMC would be left behind.
    let mut blade = node("n3");
    let bmc = blade.bmc.as_mut().unwrap();
    (bmc.address, bmc.system) = ("192.0.2.7:6230".into(), "2".into());
    op.create_node(blade).await.unwrap();
    let shared = inner(scheduler.dispatch.move_bmc(request("192.0.2.8:6230", "192.0.2.7:6230", true)).await);
    assert!(refused(shared, Code::FailedPrecondition, "IN_USE").contains("nodes/n3"));
}
