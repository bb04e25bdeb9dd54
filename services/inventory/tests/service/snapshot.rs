//! What racks keep for the time when inventory is away.

use crate::fixture::{Clients, Fixture, inner, refused};
use farrier_identity::Role;
use farrier_proto::inventory::{CreatePortRequest, ListBootPortsRequest, Port};
use tonic::Code;

async fn port(op: &mut Clients, node: &str, mac: &str, pxe_enabled: bool) {
    let (node, mac_address) = (format!("nodes/{node}"), mac.to_owned());
    let port = Port { node, mac_address, pxe_enabled, ..Port::default() };
    inner(op.ports.create_port(CreatePortRequest { port: Some(port), ..Default::default() }).await).unwrap();
}

#[tokio::test]
async fn a_rack_is_told_of_the_ports_that_its_nodes_boot_from_and_nobody_else_is() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1", "n2"]).await;
    op.create_rack("r2").await.unwrap();
    for (node, mac, pxe) in [
        ("n1", "02:00:00:00:00:01", true),
        ("n1", "02:00:00:00:00:02", false),
        ("n2", "02:00:00:00:00:03", true),
        ("n2", "02:00:00:00:00:04", true),
    ] {
        port(&mut op, node, mac, pxe).await;
    }
    let list = |mut who: Clients, page_size, page_token: String| async move {
        inner(who.snapshot.list_boot_ports(ListBootPortsRequest { page_size, page_token }).await)
    };
    // A page may have fewer than it could: ports that do not boot from the network count as well.
    let page = list(f.rack("r1"), 2, String::new()).await.unwrap();
    let rest = list(f.rack("r1"), 10, page.next_page_token).await.unwrap();
    assert_eq!(rest.next_page_token, "");
    let all: Vec<(String, String)> =
        page.ports.into_iter().chain(rest.ports).map(|port| (port.node, port.mac_address)).collect();
    let expected = [("nodes/n1", 1), ("nodes/n2", 3), ("nodes/n2", 4)]
        .map(|(node, last)| (node.to_owned(), format!("02:00:00:00:00:0{last}")));
    assert_eq!(all, expected);
    assert_eq!(list(f.rack("r2"), 0, String::new()).await.unwrap().ports, []);
    for who in [f.operator(), f.user(Role::Admin, ""), f.scheduler()] {
        refused(list(who, 0, String::new()).await, Code::PermissionDenied, "NOT_ALLOWED");
    }
}
