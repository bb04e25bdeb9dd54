//! What racks look at and see.

use crate::fixture::{Clients, Fixture, PASSWORD, inner, node, refused};
use farrier_identity::Role;
use farrier_proto::inventory::*;
use farrier_proto::types::PowerState;
use tonic::Code;

fn power(node: &str, power: PowerState) -> ReportedObservation {
    ReportedObservation {
        node: node.into(),
        bmc_health: BmcHealth::Ok.into(),
        power_state: power.into(),
        driver: "ipmi".into(),
        ..ReportedObservation::default()
    }
}

fn report(observations: Vec<ReportedObservation>) -> ReportObservationsRequest {
    ReportObservationsRequest { observations }
}

/// What events of power and BMCs say, as action and power before and after.
async fn told(who: &mut Clients, node: &str) -> Vec<String> {
    let events = who.all_events().await.into_iter().filter(|event| event.resource == node);
    let seen = events.filter(|e| e.action.starts_with("power ") || e.action.starts_with("bmc "));
    seen.map(|e| format!("{} {} {}", e.action, e.before, e.after).trim().to_owned()).collect()
}

/// The power of a held node, as an operation leaves it.
async fn leave(scheduler: &mut Clients, node: &str, operation: &str, power: PowerState) {
    let (node, operation) = (node.to_owned(), format!("operations/{operation}"));
    let hold = HoldNodeRequest {
        node: node.clone(),
        operation: operation.clone(),
        action: "work".into(),
        actor: String::new(),
        rotates_bmc_credentials: false,
        ..HoldNodeRequest::default()
    };
    inner(scheduler.dispatch.hold_node(hold).await).unwrap();
    let power_state = power.into();
    let release = ReleaseNodeRequest { node, operation, power_state, ..ReleaseNodeRequest::default() };
    inner(scheduler.dispatch.release_node(release).await).unwrap();
}

#[tokio::test]
async fn a_rack_is_told_of_its_verified_nodes_with_their_passwords() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1", "n2", "n3", "n4"]).await;
    op.create_rack("r2").await.unwrap();
    let mut scheduler = f.scheduler();
    for id in ["n1", "n3", "n4"] {
        scheduler.provide(id).await;
    }
    op.update_node(Node { maintenance: true, ..node("n3") }, &["maintenance"]).await.unwrap();
    let list = |mut who: Clients, page_size, page_token: String| async move {
        inner(who.watch.list_watched_nodes(ListWatchedNodesRequest { page_size, page_token }).await)
    };
    let page = list(f.rack("r1"), 1, String::new()).await.unwrap();
    let rest = list(f.rack("r1"), 10, page.next_page_token).await.unwrap();
    let all: Vec<_> = page.nodes.into_iter().chain(rest.nodes).collect();
    assert_eq!(rest.next_page_token, "");
    assert_eq!(all.iter().map(|n| n.node.as_str()).collect::<Vec<_>>(), ["nodes/n1", "nodes/n4"]);
    assert!(all.iter().all(|n| n.bmc_password == PASSWORD && n.bmc.as_ref().unwrap().user == "admin"));
    assert!(!format!("{all:?}").contains(PASSWORD), "{all:?}");
    assert_eq!(list(f.rack("r2"), 0, String::new()).await.unwrap().nodes, []);
    for who in [f.operator(), f.user(Role::Admin, ""), f.scheduler()] {
        refused(list(who, 0, String::new()).await, Code::PermissionDenied, "NOT_ALLOWED");
    }
}

#[tokio::test]
async fn what_a_rack_sees_is_on_the_node_and_what_differs_is_in_the_history() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1"]).await;
    let (mut scheduler, mut r1) = (f.scheduler(), f.rack("r1"));
    leave(&mut scheduler, "nodes/n1", "o1", PowerState::On).await;
    let left = op.node("n1").await.unwrap();
    assert_eq!(left.observation, None);
    for seen in [PowerState::On, PowerState::Off, PowerState::Off] {
        inner(r1.watch.report_observations(report(vec![power("nodes/n1", seen)])).await).unwrap();
    }
    let node = op.node("n1").await.unwrap();
    let seen = node.observation.clone().unwrap();
    assert_eq!(
        (seen.power_state(), seen.power_differs, seen.driver.as_str()),
        (PowerState::Off, true, "ipmi")
    );
    assert!(seen.power_time.is_some());
    assert_eq!(node.power_state(), PowerState::On, "as Farrier left it");
    assert_eq!(node.etag, left.etag, "no change of the node");
    assert_eq!(told(&mut op, "nodes/n1").await, ["power differs on off"]);
    let explained =
        inner(op.nodes.explain_node(ExplainNodeRequest { name: "nodes/n1".into() }).await).unwrap();
    assert!(explained.observed.contains("racks/r1 saw it off"), "{}", explained.observed);
    let listed = inner(op.nodes.list_nodes(ListNodesRequest::default()).await).unwrap().nodes;
    assert_eq!(listed.first().and_then(|n| n.observation.clone()), Some(seen));

    // Its BMC falls silent and comes back; Farrier switches the machine off, and they agree.
    let silent = ReportedObservation {
        node: "nodes/n1".into(),
        bmc_health: BmcHealth::Unreachable.into(),
        bmc_problem: "no answer".into(),
        ..ReportedObservation::default()
    };
    inner(r1.watch.report_observations(report(vec![silent])).await).unwrap();
    let seen = op.node("n1").await.unwrap().observation.unwrap();
    assert_eq!((seen.bmc_health(), seen.bmc_problem.as_str()), (BmcHealth::Unreachable, "no answer"));
    assert_eq!(seen.power_state(), PowerState::Off, "as it was last read");
    leave(&mut scheduler, "nodes/n1", "o2", PowerState::Off).await;
    inner(r1.watch.report_observations(report(vec![power("nodes/n1", PowerState::Off)])).await).unwrap();
    let history = told(&mut op, "nodes/n1").await;
    assert_eq!(history, ["power differs on off", "bmc lost", "bmc back", "power agrees off off"]);
}

#[tokio::test]
async fn a_rack_sees_for_its_own_nodes_only_and_says_something_or_nothing() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1"]).await;
    op.create_rack("r2").await.unwrap();
    let mut r2 = f.rack("r2");
    let foreign = report(vec![power("nodes/n1", PowerState::On), power("nodes/gone", PowerState::On)]);
    inner(r2.watch.report_observations(foreign).await).unwrap();
    assert_eq!(op.node("n1").await.unwrap().observation, None);
    let mut r1 = f.rack("r1");
    let good = power("nodes/n1", PowerState::On);
    for bad in [
        ReportedObservation { bmc_health: 0, ..good.clone() },
        ReportedObservation { bmc_problem: "a\u{7}".into(), ..good.clone() },
        ReportedObservation { node: "../n1".into(), ..good.clone() },
        ReportedObservation { driver: "a b".into(), ..good.clone() },
    ] {
        let answer = inner(r1.watch.report_observations(report(vec![good.clone(), bad])).await);
        assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument);
    }
    let many = inner(r1.watch.report_observations(report(vec![good; 101])).await);
    refused(many, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(op.node("n1").await.unwrap().observation, None);
}

/// A task that waits says how it left the power, by its token.
#[tokio::test]
async fn what_somebody_does_while_a_task_waits_is_in_the_history_and_what_an_older_task_saw_is_not() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1"]).await;
    let (mut scheduler, mut r1) = (f.scheduler(), f.rack("r1"));
    leave(&mut scheduler, "nodes/n1", "o1", PowerState::Off).await;
    let hold = HoldNodeRequest {
        node: "nodes/n1".into(),
        operation: "operations/o2".into(),
        action: "work".into(),
        ..HoldNodeRequest::default()
    };
    let fence = inner(scheduler.dispatch.hold_node(hold).await).unwrap().fence;
    let waiting = |seen, fence, step: &str| {
        let waiting = WaitingTask { fence, step: step.into(), power_state: PowerState::On.into() };
        report(vec![ReportedObservation { waiting: Some(waiting), ..power("nodes/n1", seen) }])
    };
    for (seen, fence) in [
        (PowerState::Off, fence - 1),
        (PowerState::On, fence),
        (PowerState::Off, fence),
        (PowerState::Off, fence),
    ] {
        inner(r1.watch.report_observations(waiting(seen, fence, "wait_agent")).await).unwrap();
    }
    let observation = op.node("n1").await.unwrap().observation.unwrap();
    assert_eq!(
        (observation.power_differs, observation.power_left(), observation.power_differs_operation.as_str()),
        (true, PowerState::On, "operations/o2")
    );
    assert_eq!(told(&mut op, "nodes/n1").await, ["power differs on off"]);
    let explain = ExplainNodeRequest { name: "nodes/n1".into() };
    let explained = inner(op.nodes.explain_node(explain).await).unwrap();
    assert!(explained.observed.contains("its work left it on, and Farrier did not do that"), "{explained:?}");
    assert!(
        !explained.actions.iter().any(|a| a.contains("node power")),
        "the work has the node: {explained:?}"
    );
    let bad = waiting(PowerState::On, fence, "wait agent");
    refused(r1.watch.report_observations(bad).await, Code::InvalidArgument, "INVALID_FIELD");
}

#[tokio::test]
async fn a_rotation_that_is_not_settled_says_since_when_and_what_ends_it() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1"]).await;
    let mut scheduler = f.scheduler();
    let mut since = None;
    for operation in ["operations/o1", "operations/o2"] {
        let hold = HoldNodeRequest {
            node: "nodes/n1".into(),
            operation: operation.into(),
            action: "rotate".into(),
            rotates_bmc_credentials: true,
            ..HoldNodeRequest::default()
        };
        inner(scheduler.dispatch.hold_node(hold).await).unwrap();
        let explain = ExplainNodeRequest { name: "nodes/n1".into() };
        let explained = inner(op.nodes.explain_node(explain).await).unwrap();
        assert!(!explained.observed.contains("rotation"), "it is under way: {}", explained.observed);
        let (node, operation) = ("nodes/n1".to_owned(), operation.to_owned());
        let failed = ReleaseNodeRequest { node, operation, error: "x".into(), ..Default::default() };
        inner(scheduler.dispatch.release_node(failed).await).unwrap();
        // The second one tries the same password again.
        let now = op.node("n1").await.unwrap().bmc.unwrap().rotation_time;
        assert!(now.is_some() && since.is_none_or(|since| since == now), "{now:?}");
        since = Some(now);
    }
    let labelled = Node { labels: [("a".to_owned(), "b".to_owned())].into(), ..node("n1") };
    op.update_node(labelled, &["labels"]).await.unwrap();
    assert_eq!(Some(op.node("n1").await.unwrap().bmc.unwrap().rotation_time), since);
    let explain = async |op: &mut Clients| {
        let explain = ExplainNodeRequest { name: "nodes/n1".into() };
        inner(op.nodes.explain_node(explain).await).unwrap()
    };
    let explained = explain(&mut op).await;
    assert!(explained.observed.contains("a rotation of its BMC's password began"), "{explained:?}");
    for command in
        ["farrier node rotate-bmc-credentials n1", "farrier node update n1 --bmc-password-file FILE"]
    {
        assert!(explained.actions.contains(&command.to_owned()), "{explained:?}");
    }
    // Whoever says the password ends it.
    op.update_node(node("n1"), &["bmc"]).await.unwrap();
    assert_eq!(op.node("n1").await.unwrap().bmc.unwrap().rotation_time, None);
    assert!(!explain(&mut op).await.observed.contains("rotation"));
}
