//! Machines that racks find.

use crate::fixture::{Clients, Fixture, inner, refused};
use farrier_identity::Role;
use farrier_proto::inventory::*;
use farrier_proto::types::{Disk, Hardware, Nic, System};
use tonic::{Code, Response, Status};

fn ok<T>(answer: Result<Response<T>, Status>) -> T {
    inner(answer).unwrap()
}

fn machine(serial: &str, macs: &[u8]) -> ReportMachineRequest {
    let mac = |n: &u8| format!("52:54:00:00:01:{n:02x}");
    let nics = macs.iter().map(|n| Nic { mac_address: mac(n), ..Nic::default() }).collect();
    let system = System { manufacturer: "Farrier".into(), serial_number: serial.into(), ..System::default() };
    let hardware = Hardware { system: Some(system), nics, ..Hardware::default() };
    ReportMachineRequest { boot_mac_address: mac(&macs[0]), hardware: Some(hardware) }
}

async fn listed(of: &mut Clients) -> Vec<(String, i64)> {
    let list = ok(of.discovered.list_discovered_machines(ListDiscoveredMachinesRequest::default()).await);
    list.machines.into_iter().map(|m| (m.name, m.boot_count)).collect()
}

fn name(n: u8) -> String {
    format!("discovered/52-54-00-00-01-{n:02x}")
}

#[tokio::test]
async fn one_machine_is_one_row_by_whatever_it_was_seen() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let mut r1 = f.rack("r1");
    let told = ok(r1.discovered.report_machine(machine("S-1001", &[1])).await);
    assert_eq!((told.machine, told.node), (name(1), String::new()));
    // Another interface, the same serial number; then another machine; then both interfaces of a third one that was
    // seen as two.
    ok(r1.discovered.report_machine(machine("S-1001", &[2, 3])).await);
    ok(r1.discovered.report_machine(machine("S-1002", &[4])).await);
    ok(r1.discovered.report_machine(machine("", &[5])).await);
    ok(r1.discovered.report_machine(machine("", &[6])).await);
    assert_eq!(listed(&mut op).await, [(name(1), 2), (name(4), 1), (name(5), 1), (name(6), 1)]);
    let whole = ok(r1.discovered.report_machine(machine("S-1003", &[6, 5])).await);
    assert_eq!(whole.machine, name(5));
    assert_eq!(listed(&mut op).await, [(name(1), 2), (name(4), 1), (name(5), 2)]);
    let first = ok(op.discovered.get_discovered_machine(GetDiscoveredMachineRequest { name: name(1) }).await);
    assert_eq!(first.boot_mac_address, "52:54:00:00:01:02");
    // It was carried to another rack.
    op.create_rack("r2").await.unwrap();
    ok(f.rack("r2").discovered.report_machine(machine("S-1001", &[2, 3])).await);
    let filter = "rack=\"r2\"".to_owned();
    let list = ListDiscoveredMachinesRequest { filter, ..ListDiscoveredMachinesRequest::default() };
    let moved = ok(op.discovered.list_discovered_machines(list).await).machines;
    assert_eq!((moved.len(), moved[0].name.as_str(), moved[0].boot_count), (1, name(1).as_str(), 3));
}

#[tokio::test]
async fn an_accepted_machine_is_a_node_with_all_its_ports_or_nothing_happened() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["taken"]).await;
    let mut r1 = f.rack("r1");
    ok(r1.discovered.report_machine(machine("S-1001", &[1, 2])).await);
    let accept = |as_node: Node| AcceptDiscoveredMachineRequest {
        name: name(1),
        node: Some(as_node),
        etag: String::new(),
    };
    let named = |name: &str| Node { name: format!("nodes/{name}"), ..Node::default() };
    let exists = op.discovered.accept_discovered_machine(accept(named("taken"))).await;
    refused(exists, Code::AlreadyExists, "NAME_TAKEN");
    let elsewhere = Node { rack: "racks/r2".into(), ..named("web") };
    let elsewhere = op.discovered.accept_discovered_machine(accept(elsewhere)).await;
    assert_eq!(elsewhere.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(listed(&mut op).await.len(), 1);
    // It is not what was shown any more.
    let shown = GetDiscoveredMachineRequest { name: name(1) };
    let etag = ok(op.discovered.get_discovered_machine(shown.clone()).await).etag;
    ok(r1.discovered.report_machine(machine("S-1001", &[1, 2])).await);
    let stale = AcceptDiscoveredMachineRequest { etag, ..accept(named("web")) };
    refused(op.discovered.accept_discovered_machine(stale).await, Code::Aborted, "STALE_ETAG");

    let web = ok(op.discovered.accept_discovered_machine(accept(named("web"))).await);
    assert_eq!((web.rack.as_str(), web.state()), ("racks/r1", farrier_proto::types::ProvisionState::Enroll));
    let list = ListPortsRequest { filter: "node=\"web\"".into(), ..ListPortsRequest::default() };
    let ports = ok(op.ports.list_ports(list).await).ports;
    let ports: Vec<_> = ports.iter().map(|p| (p.mac_address.as_str(), p.pxe_enabled)).collect();
    assert_eq!(ports, [("52:54:00:00:01:01", true), ("52:54:00:00:01:02", false)]);
    assert_eq!(listed(&mut op).await, []);
    // From now on it is known, by each of its interfaces.
    let sight = |mac: &str| SightMachineRequest { mac_address: mac.to_owned() };
    assert_eq!(ok(r1.discovered.sight_machine(sight("52:54:00:00:01:02")).await).node, "nodes/web");
    assert_eq!(ok(r1.discovered.sight_machine(sight("52:54:00:00:01:09")).await).node, "");
    let again = ok(r1.discovered.report_machine(machine("S-1001", &[9, 2])).await);
    assert_eq!((again.machine.as_str(), again.node.as_str()), ("", "nodes/web"));
    assert_eq!(listed(&mut op).await, []);
    let actions: Vec<_> = op.all_events().await.into_iter().filter(|e| e.resource == name(1)).collect();
    let actions: Vec<_> = actions.iter().map(|e| e.action.as_str()).collect();
    assert_eq!(actions, ["create", "update", "accept"]);
}

#[tokio::test]
async fn what_a_stranger_says_is_bounded_and_racks_read_nothing() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let mut r1 = f.rack("r1");
    let mut long = machine("S-1001", &[1]);
    long.hardware.as_mut().unwrap().kernel_release = "x".repeat(4096);
    let mut many = machine("S-1001", &[1]);
    many.hardware.as_mut().unwrap().nics = vec![Nic::default(); 300];
    let mut no_mac = machine("S-1001", &[1]);
    no_mac.boot_mac_address = "../1".into();
    let control = machine("S\u{1b}[2J", &[1]);
    let mut fat = machine("S-1001", &[1]);
    let disk = Disk { model: "x".repeat(1000), ..Disk::default() };
    fat.hardware.as_mut().unwrap().disks = vec![disk; 100];
    for bad in [long, many, fat, no_mac, control, ReportMachineRequest::default()] {
        let error = r1.discovered.report_machine(bad).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
    }
    assert_eq!(listed(&mut op).await, []);
    let list = r1.discovered.list_discovered_machines(ListDiscoveredMachinesRequest::default()).await;
    assert_eq!(list.unwrap_err().code(), Code::PermissionDenied);
    let mut reader = f.user(Role::Reader, "");
    let list = reader.discovered.list_discovered_machines(ListDiscoveredMachinesRequest::default()).await;
    assert_eq!(list.unwrap_err().code(), Code::PermissionDenied);
    // Forgotten until it asks again.
    ok(r1.discovered.report_machine(machine("S-1001", &[1])).await);
    let forget =
        DeleteDiscoveredMachineRequest { name: name(1), ..DeleteDiscoveredMachineRequest::default() };
    ok(op.discovered.delete_discovered_machine(forget).await);
    assert_eq!(listed(&mut op).await, []);
}

#[tokio::test]
async fn who_names_foreign_interfaces_or_moves_a_card_takes_nothing_away() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    op.create_rack("r2").await.unwrap();
    let (mut r1, mut r2) = (f.rack("r1"), f.rack("r2"));
    for n in 1..=3 {
        ok(r1.discovered.report_machine(machine("", &[n])).await);
    }
    let loud = ok(r2.discovered.report_machine(machine("", &[9, 1, 2, 3])).await);
    assert_eq!(loud.machine, name(9), "another rack's rows stay");
    let loud = ok(r1.discovered.report_machine(machine("", &[8, 2, 3])).await);
    assert_eq!(loud.machine, name(2), "one row is taken for it, none goes");
    assert_eq!(listed(&mut op).await, [(name(1), 1), (name(2), 2), (name(3), 1), (name(9), 1)]);
    // The card that a machine was seen by is in another one now.
    ok(r1.discovered.report_machine(machine("S-1004", &[4])).await);
    let moved = ok(r1.discovered.report_machine(machine("S-1005", &[4, 5])).await);
    assert_eq!(moved.machine, name(4));
    let four = ok(op.discovered.get_discovered_machine(GetDiscoveredMachineRequest { name: name(4) }).await);
    assert_eq!(four.hardware.unwrap().system.unwrap().serial_number, "S-1005");
    assert_eq!(four.boot_count, 1);
}
