//! What racks report.

use crate::fixture::{Fixture, inner, node, refused};
use farrier_identity::Role;
use farrier_proto::inventory::*;
use tonic::Code;

fn login(node: &str, detail: &str) -> RackEvent {
    RackEvent { kind: RackEventKind::RefuseLogin.into(), node: node.into(), detail: detail.into() }
}

fn report(events: Vec<RackEvent>) -> ReportEventsRequest {
    ReportEventsRequest { events }
}

#[tokio::test]
async fn a_rack_says_what_it_saw_of_itself_and_its_nodes_and_of_nobody_else() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1"]).await;
    op.create_rack("r2").await.unwrap();
    op.create_node(Node { rack: "racks/r2".into(), ..node("n2") }).await.unwrap();
    let mut r1 = f.rack("r1");
    let events = [("nodes/n1", "a"), ("", "b"), ("nodes/n2", "c"), ("nodes/gone", "d"), ("../x", "e")];
    let events = events.map(|(node, detail)| login(node, detail)).to_vec();
    inner(r1.events.report_events(report(events)).await).unwrap();
    let seen: Vec<(String, String)> = op
        .all_events()
        .await
        .into_iter()
        .filter(|event| event.action == "refuse login" && event.actor == "spiffe://farrier/rack/r1")
        .map(|event| (event.resource, event.detail))
        .collect();
    let own = |detail: &str| ("racks/r1".to_owned(), detail.to_owned());
    assert_eq!(seen, [("nodes/n1".to_owned(), "a".to_owned()), own("b"), own("c"), own("d"), own("e")]);
    let stranger = RackEvent { kind: RackEventKind::UnknownMachine.into(), ..login("", "52:54:00:00:00:01") };
    inner(r1.events.report_events(report(vec![stranger])).await).unwrap();
    let last = op.all_events().await.pop().unwrap();
    assert_eq!((last.action.as_str(), last.resource.as_str()), ("unknown machine", "racks/r1"));
    let conflict =
        RackEvent { kind: RackEventKind::AddressConflict.into(), ..login("nodes/n1", "10.90.0.9") };
    inner(r1.events.report_events(report(vec![conflict])).await).unwrap();
    let last = op.all_events().await.pop().unwrap();
    assert_eq!((last.action.as_str(), last.resource.as_str()), ("address conflict", "nodes/n1"));
    let failed = RackEvent { kind: RackEventKind::DiskFailed.into(), ..login("nodes/n1", "its disk hangs") };
    inner(r1.events.report_events(report(vec![failed])).await).unwrap();
    let last = op.all_events().await.pop().unwrap();
    assert_eq!((last.action.as_str(), last.resource.as_str()), ("disk failed", "nodes/n1"));
    let request = ExplainNodeRequest { name: "nodes/n1".into() };
    let told = inner(op.nodes.explain_node(request).await).unwrap().observed;
    assert!(told.ends_with("its rack told: its disk hangs"), "{told}");
}

#[tokio::test]
async fn a_report_is_of_a_rack_and_of_something_or_nothing_of_it_is_kept() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let before = op.all_events().await.len();
    for mut who in [f.operator(), f.user(Role::Admin, ""), f.scheduler()] {
        let answer = inner(who.events.report_events(report(vec![login("", "x")])).await);
        refused(answer, Code::PermissionDenied, "NOT_ALLOWED");
    }
    let mut rack = f.rack("r1");
    let good = login("", "x");
    let unknown = RackEvent { detail: "x".into(), ..RackEvent::default() };
    for bad in [unknown, login("", "a\u{7}"), login("", &"x".repeat(1025))] {
        let answer = inner(rack.events.report_events(report(vec![good.clone(), bad])).await);
        refused(answer, Code::InvalidArgument, "INVALID_FIELD");
    }
    let many = vec![good.clone(); 101];
    refused(inner(rack.events.report_events(report(many)).await), Code::InvalidArgument, "INVALID_FIELD");
    inner(rack.events.report_events(report(Vec::new())).await).unwrap();
    assert_eq!(op.all_events().await.len(), before);
}
