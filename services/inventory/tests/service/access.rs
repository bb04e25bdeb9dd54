//! Who sees and does what.

use crate::fixture::{Clients, Fixture, inner, node, refused};
use farrier_identity::agent::PinnedCa;
use farrier_identity::client::pinned_channel;
use farrier_identity::{Identity, Role};
use farrier_proto::inventory::*;
use tonic::Code;

#[tokio::test]
async fn a_project_sees_its_own_and_everybodys() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["everybodys"]).await;
    for (id, owner, mac) in [("mine", "p1", "52:54:00:00:00:01"), ("theirs", "p2", "52:54:00:00:00:02")] {
        op.create_node(Node { owner: owner.into(), ..node(id) }).await.unwrap();
        let port = Some(Port { node: format!("nodes/{id}"), mac_address: mac.into(), ..Port::default() });
        op.ports.create_port(CreatePortRequest { port, ..Default::default() }).await.unwrap();
    }
    let mut member = f.user(Role::Member, "p1");
    assert_eq!(member.list_nodes("").await.unwrap(), ["nodes/everybodys", "nodes/mine"]);
    assert!(member.node("mine").await.is_ok());
    refused(member.node("theirs").await, Code::NotFound, "NOT_FOUND");
    let explain = ExplainNodeRequest { name: "nodes/theirs".into() };
    refused(member.nodes.explain_node(explain).await, Code::NotFound, "NOT_FOUND");
    let ports = inner(member.ports.list_ports(ListPortsRequest::default()).await).unwrap().ports;
    assert_eq!(ports.iter().map(|p| p.node.as_str()).collect::<Vec<_>>(), ["nodes/mine"]);
    let foreign = GetPortRequest { name: "ports/52-54-00-00-00-02".into() };
    refused(member.ports.get_port(foreign).await, Code::NotFound, "NOT_FOUND");
    assert_eq!(op.list_nodes("").await.unwrap().len(), 3);
    assert_eq!(f.scheduler().list_nodes("owner=p2").await.unwrap(), ["nodes/theirs"]);
}

#[tokio::test]
async fn a_rack_sees_itself_and_its_nodes() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1"]).await;
    op.create_rack("r2").await.unwrap();
    op.create_node(Node { rack: "racks/r2".into(), owner: "p1".into(), ..node("n2") }).await.unwrap();
    let mut r2 = f.rack("r2");
    assert!(r2.node("n2").await.is_ok(), "whoever owns it");
    refused(r2.node("n1").await, Code::NotFound, "NOT_FOUND");
    let rack = |id: &str| GetRackRequest { name: format!("racks/{id}") };
    assert!(r2.racks.get_rack(rack("r2")).await.is_ok());
    refused(r2.racks.get_rack(rack("r1")).await, Code::NotFound, "NOT_FOUND");
    refused(r2.list_nodes("").await, Code::PermissionDenied, "NOT_ALLOWED");
    refused(r2.update_node(node("n2"), &["bmc"]).await, Code::PermissionDenied, "NOT_ALLOWED");
}

#[tokio::test]
async fn roles_end_where_they_should() {
    let f = Fixture::start().await;
    let op = f.with_nodes(&["n1"]).await;
    let mut member = f.user(Role::Member, "p1");
    refused(member.create_site("s2").await, Code::PermissionDenied, "NOT_ALLOWED");
    refused(member.update_node(node("n1"), &["bmc"]).await, Code::PermissionDenied, "NOT_ALLOWED");
    let events = member.events.list_events(ListEventsRequest::default()).await;
    refused(events, Code::PermissionDenied, "NOT_ALLOWED");
    let token = CreateJoinTokenRequest { rack: "racks/r1".into(), valid_seconds: 0 };
    refused(op.clone().joins.create_join_token(token).await, Code::PermissionDenied, "NOT_ALLOWED");
    let dispatch = |mut c: Clients| async move {
        c.dispatch.get_dispatch(GetDispatchRequest { node: "nodes/n1".into(), flavor: String::new() }).await
    };
    for client in [f.user(Role::Admin, ""), f.rack("r1"), f.clients(Identity::Service("images".into()))] {
        refused(dispatch(client).await, Code::PermissionDenied, "NOT_ALLOWED");
    }
    assert!(dispatch(f.scheduler()).await.is_ok());
    refused(f.scheduler().create_node(node("n2")).await, Code::PermissionDenied, "NOT_ALLOWED");
}

#[tokio::test]
async fn without_a_certificate_nothing_is_told() {
    let f = Fixture::start().await;
    f.with_nodes(&["n1"]).await;
    let pin = PinnedCa::of(f.authority.cert_der()).bytes();
    let mut nobody = Clients::new(pinned_channel(&f.uri, pin).unwrap());
    refused(nobody.node("n1").await, Code::Unauthenticated, "NOT_ALLOWED");
    refused(nobody.list_nodes("").await, Code::Unauthenticated, "NOT_ALLOWED");
    let candidates = nobody.dispatch.list_candidates(ListCandidatesRequest {}).await;
    refused(candidates, Code::Unauthenticated, "NOT_ALLOWED");
}

#[tokio::test]
async fn a_foreign_authority_gets_no_connection() {
    let f = Fixture::start().await;
    f.with_nodes(&["n1"]).await;
    let other = Fixture::start().await;
    // Its certificate says admin, in another installation.
    let admin = Identity::User { name: "u".into(), role: Role::Admin, project: String::new() };
    let foreign = crate::fixture::credentials(&other.authority, &admin);
    let answer = f.clients_with(&foreign).node("n1").await;
    assert_eq!(answer.unwrap_err().code(), Code::Unavailable);
}
