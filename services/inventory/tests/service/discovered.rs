//! Machines that racks find.

mod bmcs;

use crate::fixture::{Clients, Fixture, inner, refused, transition};
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
    ReportMachineRequest {
        boot_mac_address: mac(&macs[0]),
        hardware: Some(hardware),
        ..ReportMachineRequest::default()
    }
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

#[tokio::test]
async fn a_node_with_another_network_card_is_no_second_machine() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1"]).await;
    let mut r1 = f.rack("r1");
    // By UUID and serial number both: either alone is a whole batch's now and then.
    let whole = |serial: &str, uuid: u8, card: u8| {
        let mut report = machine(serial, &[card]);
        let system = report.hardware.as_mut().unwrap().system.as_mut().unwrap();
        system.uuid = format!("4c4c4544-0042-3510-8052-b4c04f4e31{uuid:02x}");
        report
    };
    // One that was accepted, and one that was inspected.
    ok(r1.discovered.report_machine(whole("S-1001", 1, 1)).await);
    let web = Node { name: "nodes/web".into(), ..Node::default() };
    let accept = AcceptDiscoveredMachineRequest { name: name(1), node: Some(web), etag: String::new() };
    ok(op.discovered.accept_discovered_machine(accept).await);
    let mut scheduler = f.scheduler();
    for (event, operation) in [("manage", "m"), ("done", "m"), ("inspect", "i")] {
        scheduler.transition("n1", event, operation).await.unwrap();
    }
    let hardware = whole("S-2001", 2, 21).hardware;
    let inspected = TransitionNodeRequest { hardware, ..transition("n1", "done", "i") };
    ok(scheduler.dispatch.transition_node(inspected).await);

    op.create_rack("r2").await.unwrap();
    let mut r2 = f.rack("r2");
    for (rack, serial, uuid, card, node) in
        [(&mut r1, "s-1001 ", 1, 7, "nodes/web"), (&mut r2, "S-2001", 2, 27, "nodes/n1")]
    {
        let told = ok(rack.discovered.report_machine(whole(serial, uuid, card)).await);
        assert_eq!((told.machine.as_str(), told.node.as_str()), ("", node), "{serial}");
    }
    assert_eq!(listed(&mut op).await, []);
    let events: Vec<_> =
        op.all_events().await.into_iter().filter(|event| event.action == "new interface").collect();
    let details: Vec<_> =
        events.iter().map(|event| (event.resource.as_str(), event.detail.as_str())).collect();
    assert_eq!(details.len(), 2, "{details:?}");
    assert!(
        details[0].0 == "nodes/web"
            && details[0].1.contains("`farrier port create 52:54:00:00:01:07 --node web`")
    );
    assert!(details[1].0 == "nodes/n1" && details[1].1.contains("racks/r2"), "{details:?}");

    // It boots again, and again: no news. Then the port was there, and is gone: news.
    let mut told = async |op: &mut Clients| {
        ok(r1.discovered.report_machine(whole("S-1001", 1, 7)).await);
        op.all_events().await.into_iter().filter(|event| event.action == "new interface").count()
    };
    assert_eq!((told(&mut op).await, told(&mut op).await), (2, 2));
    let port = Port { node: "nodes/web".into(), mac_address: "52:54:00:00:01:07".into(), ..Port::default() };
    let made = ok(op.ports.create_port(CreatePortRequest { port: Some(port), ..Default::default() }).await);
    assert_eq!(told(&mut op).await, 2, "it is a port of it");
    let gone = DeletePortRequest { name: made.name, ..Default::default() };
    ok(op.ports.delete_port(gone).await);
    assert_eq!((told(&mut op).await, told(&mut op).await), (3, 3));
}

#[tokio::test]
async fn identifiers_of_two_machines_are_told_and_never_merged() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let mut r1 = f.rack("r1");
    for (serial, card, node) in [("S-1001", 1, "a"), ("S-1002", 2, "b")] {
        ok(r1.discovered.report_machine(machine(serial, &[card])).await);
        let node = Node { name: format!("nodes/{node}"), ..Node::default() };
        let accept =
            AcceptDiscoveredMachineRequest { name: name(card), node: Some(node), etag: String::new() };
        ok(op.discovered.accept_discovered_machine(accept).await);
    }
    // It would be accepted by itself.
    let mut plan = plan();
    let rule = plan.rules.first_mut().unwrap();
    *rule = DiscoveryRule {
        node_name: "x-{serial}".into(),
        bmc: Some(Bmc { driver: "manual".into(), ..Bmc::default() }),
        automatic: true,
        ..DiscoveryRule { name: "all".into(), ..DiscoveryRule::default() }
    };
    plan.machines.clear();
    ok(op.discovered.replace_discovery_plan(ReplaceDiscoveryPlanRequest { plan: Some(plan) }).await);
    // A card of the one in a third machine; then a card of the one in the other.
    for (serial, cards, nodes) in
        [("S-1003", &[1_u8][..], &["nodes/a"][..]), ("S-1002", &[1, 2], &["nodes/a", "nodes/b"])]
    {
        for _ in 0..2 {
            let told = ok(r1.discovered.report_machine(machine(serial, cards)).await);
            assert_eq!((told.machine, told.node), (name(1), String::new()), "{serial}");
        }
        let shown = GetDiscoveredMachineRequest { name: name(1) };
        let refused = ok(op.discovered.get_discovered_machine(shown).await).refused;
        assert!(nodes.iter().all(|node| refused.contains(node)), "{refused}");
        let conflicts =
            op.all_events().await.into_iter().filter(|event| event.action == "identifiers conflict");
        let conflicts: Vec<_> = conflicts.filter(|event| event.detail.contains(&refused)).collect();
        let of: Vec<_> = conflicts.iter().map(|event| event.resource.as_str()).collect();
        assert_eq!(of, nodes, "{conflicts:?}");
    }
}

/// What it runs is somebody's: it must not be switched off for having asked by the wrong interface.
#[tokio::test]
async fn a_machine_that_is_a_nodes_or_may_be_is_told_apart_from_nobodys_by_whatever_it_booted() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let mut r1 = f.rack("r1");
    let nobodys = ok(r1.discovered.report_machine(machine("S-1001", &[1, 2])).await);
    assert!(!nobodys.has_owner);
    let node = Node { name: "nodes/web".into(), ..Node::default() };
    let accept = AcceptDiscoveredMachineRequest { name: name(1), node: Some(node), etag: String::new() };
    ok(op.discovered.accept_discovered_machine(accept).await);
    let told = async |op: &mut Clients| {
        let events = op.all_events().await.into_iter().filter(|event| event.action == "new interface");
        events.map(|event| (event.resource, event.detail)).collect::<Vec<_>>()
    };
    let as_it_is = ok(r1.discovered.report_machine(machine("S-1001", &[1, 2])).await);
    assert_eq!((as_it_is.node.as_str(), as_it_is.has_owner), ("nodes/web", true));
    assert_eq!(told(&mut op).await, []);
    // A card of its own, which nobody described, comes first in its firmware's order.
    let other_card = ok(r1.discovered.report_machine(machine("S-1001", &[9, 1, 2])).await);
    assert_eq!((other_card.node.as_str(), other_card.has_owner), ("nodes/web", true));
    let events = told(&mut op).await;
    let [(resource, detail)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(resource, "nodes/web");
    assert!(detail.contains("`farrier port create 52:54:00:00:01:09 --node web`"), "{detail}");
    // Nobody can say whether it is that node.
    let mut unclear = machine("S-3003", &[1]);
    let system = unclear.hardware.as_mut().unwrap().system.as_mut().unwrap();
    system.uuid = "4c4c4544-0042-3510-8052-b4c04f4e3101".into();
    let unclear = ok(r1.discovered.report_machine(unclear).await);
    assert_eq!((unclear.machine, unclear.node.as_str(), unclear.has_owner), (name(1), "", true));
    // One that became a node just now was nobody's, and runs nothing.
    let mut expects = plan();
    expects.machines[0].bmc_address = "10.90.0.230".into();
    ok(op.discovered.replace_discovery_plan(ReplaceDiscoveryPlanRequest { plan: Some(expects) }).await);
    let made = ok(r1.discovered.report_machine(machine("S-2001", &[7])).await);
    assert_eq!((made.node.as_str(), made.has_owner), ("nodes/r1-s-2001", false));
}

/// As many as a rack's row of machines, made up: each takes the place of another, and none that somebody ordered.
#[tokio::test]
async fn a_noisy_rack_pushes_out_its_own_machines_and_none_that_is_expected_or_of_another_rack() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    op.create_rack("r2").await.unwrap();
    let (mut r1, mut r2) = (f.rack("r1"), f.rack("r2"));
    ok(op.discovered.replace_discovery_plan(ReplaceDiscoveryPlanRequest { plan: Some(plan()) }).await);
    ok(r2.discovered.report_machine(machine("S-9001", &[9])).await);
    ok(r1.discovered.report_machine(machine("S-2001", &[1])).await);
    let stranger = |n: u16| {
        let [a, b] = n.to_be_bytes();
        let boot_mac_address = format!("52:54:00:00:{:02x}:{b:02x}", a + 0x10);
        ReportMachineRequest {
            boot_mac_address,
            hardware: Some(Hardware::default()),
            ..ReportMachineRequest::default()
        }
    };
    let mut names = Vec::new();
    for n in 0..1023 {
        names.push(ok(r1.discovered.report_machine(stranger(n)).await).machine);
    }
    // Seen again, the oldest of them is not the one that was not seen for longest.
    ok(r1.discovered.report_machine(stranger(0)).await);
    let last = ok(r1.discovered.report_machine(stranger(1023)).await).machine;
    let bmc = ReportBmcRequest {
        mac_address: "52:54:00:00:02:09".into(),
        ip_address: "10.90.0.230".into(),
        driver: "ipmi".into(),
        ..ReportBmcRequest::default()
    };
    let bmc = ok(r1.discovered.report_bmc(bmc).await).machine;
    let mut is_there = async |name: &str| {
        let name = name.to_owned();
        op.discovered.get_discovered_machine(GetDiscoveredMachineRequest { name }).await.is_ok()
    };
    for (name, expected) in [
        (&name(9), true),
        (&name(1), true),
        (&names[0], true),
        (&names[1], false),
        (&names[2], false),
        (&names[3], true),
        (&last, true),
        (&bmc, true),
    ] {
        assert_eq!(is_there(name).await, expected, "{name}");
    }
    let request = ListEventsRequest { filter: "action=delete".into(), ..ListEventsRequest::default() };
    let events = ok(op.events.list_events(request).await).events.into_iter();
    let gone: Vec<_> = events.map(|event| (event.resource, event.detail)).collect();
    assert_eq!(gone.iter().map(|(name, _)| name).collect::<Vec<_>>(), [&names[1], &names[2]], "{gone:?}");
    assert!(gone[0].1.contains("racks/r1") && gone[0].1.contains("no plan expects it"), "{gone:?}");
}

fn plan() -> DiscoveryPlan {
    let bmc = Bmc {
        driver: "ipmi".into(),
        user: "root".into(),
        password: "of-the-rule".into(),
        kg: "key-of-the-rule".into(),
        ..Bmc::default()
    };
    let rule = DiscoveryRule {
        name: "ours".into(),
        vendor: "farr*".into(),
        node_name: "{rack}-{serial}".into(),
        resource_class: "small".into(),
        bmc: Some(bmc),
        automatic: true,
        ..DiscoveryRule::default()
    };
    let expected = ExpectedMachine {
        serial_number: "S-2001".into(),
        bmc_mac_address: "52:54:00:00:02:01".into(),
        bmc_password: "on-the-label".into(),
        rack: "racks/r1".into(),
        rack_unit: 12,
        ..ExpectedMachine::default()
    };
    DiscoveryPlan { rules: vec![rule], machines: vec![expected], ..DiscoveryPlan::default() }
}

#[tokio::test]
async fn what_is_expected_becomes_a_node_by_itself_and_what_lacks_something_waits() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let mut r1 = f.rack("r1");
    let replace = |plan: DiscoveryPlan| ReplaceDiscoveryPlanRequest { plan: Some(plan) };
    let shown = ok(op.discovered.replace_discovery_plan(replace(plan())).await);
    let bmc = shown.rules[0].bmc.as_ref().unwrap();
    assert_eq!((bmc.password.as_str(), bmc.password_set), ("", true));
    assert_eq!((bmc.kg.as_str(), bmc.kg_set), ("", true));
    assert_eq!((shown.machines[0].bmc_password.as_str(), shown.machines[0].bmc_password_set), ("", true));
    // A rack that is misspelt, or comes later, is said at once, and what is said is kept nowhere.
    assert_eq!(shown.unknown_racks, [""; 0]);
    let mut misspelt = shown.clone();
    misspelt.etag = String::new();
    misspelt.machines.push(ExpectedMachine {
        serial_number: "S-3001".into(),
        rack: "racks/r-1".into(),
        ..ExpectedMachine::default()
    });
    let position = |rack: &str| CabledPosition {
        switch_name: "leaf".into(),
        port: "e{unit}".into(),
        rack: rack.into(),
        ..CabledPosition::default()
    };
    misspelt.positions = vec![position("racks/r9"), position("racks/r1"), position("racks/r9"), position("")];
    let told = ok(op.discovered.replace_discovery_plan(replace(misspelt)).await);
    assert_eq!(told.unknown_racks, ["racks/r-1", "racks/r9"]);
    let looked = ok(op.discovered.get_discovery_plan(GetDiscoveryPlanRequest {}).await);
    assert_eq!(looked.unknown_racks, told.unknown_racks);
    let shown = ok(op
        .discovered
        .replace_discovery_plan(replace(DiscoveryPlan {
            etag: told.etag,
            unknown_racks: vec!["racks/said-by-a-caller".into()],
            ..shown
        }))
        .await);
    assert_eq!(shown.unknown_racks, [""; 0]);
    // What is shown can be written again: no password is lost.
    let again = ok(op.discovered.replace_discovery_plan(replace(shown.clone())).await);
    assert!(again.machines[0].bmc_password_set && again.etag != shown.etag);
    let stale = op.discovered.replace_discovery_plan(replace(shown)).await;
    refused(stale, Code::Aborted, "STALE_ETAG");

    // Nobody expects this one, and nobody knows its BMC's address.
    ok(r1.discovered.report_machine(machine("S-2002", &[2])).await);
    let waits = ok(op.discovered.get_discovered_machine(GetDiscoveredMachineRequest { name: name(2) }).await);
    let proposal = waits.proposal.unwrap();
    assert_eq!((proposal.node.as_str(), proposal.expected), ("nodes/r1-s-2002", false));
    assert_eq!((proposal.automatic, proposal.bmc.unwrap().password.as_str()), (false, ""));
    assert!(proposal.missing.contains("BMC"), "{}", proposal.missing);
    // This one's BMC asked the rack for an address.
    let mut expected = machine("s-2001", &[1]);
    expected.given =
        vec![GivenAddress { mac_address: "52:54:00:00:02:01".into(), ip_address: "10.90.0.230".into() }];
    let told = ok(r1.discovered.report_machine(expected).await);
    assert_eq!((told.machine.as_str(), told.node.as_str()), ("", "nodes/r1-s-2001"));
    let get = GetNodeRequest { name: "nodes/r1-s-2001".into() };
    let node = ok(op.nodes.get_node(get).await);
    let bmc = node.bmc.unwrap();
    assert_eq!((bmc.address.as_str(), bmc.user.as_str(), bmc.password_set), ("10.90.0.230", "root", true));
    assert!(bmc.kg_set, "the rule's, written again as it was shown");
    assert_eq!((node.rack_unit, node.resource_class.as_str()), (12, "small"));
    // The other is accepted by somebody who says what is missing.
    let bmc = Bmc { driver: "ipmi".into(), address: "10.90.0.231".into(), ..Bmc::default() };
    let accept = AcceptDiscoveredMachineRequest {
        name: name(2),
        node: Some(Node { bmc: Some(bmc), ..Node::default() }),
        etag: waits.etag,
    };
    let node = ok(op.discovered.accept_discovered_machine(accept).await);
    assert_eq!((node.name.as_str(), node.resource_class.as_str()), ("nodes/r1-s-2002", "small"));
    assert_eq!(listed(&mut op).await, []);
    // A machine in the wrong rack waits.
    op.create_rack("r2").await.unwrap();
    let mut lost = plan();
    lost.machines[0].serial_number = "S-2003".into();
    lost.machines[0].bmc_address = "10.90.0.232".into();
    ok(op.discovered.replace_discovery_plan(replace(lost)).await);
    ok(f.rack("r2").discovered.report_machine(machine("S-2003", &[3])).await);
    let waits = ok(op.discovered.get_discovered_machine(GetDiscoveredMachineRequest { name: name(3) }).await);
    assert!(waits.proposal.unwrap().missing.contains("racks/r1"));
    let actions = op.all_events().await.into_iter().filter(|e| e.resource == "discoveryPlan").count();
    assert_eq!(actions, 5);
}

#[tokio::test]
async fn why_a_machine_is_not_accepted_by_itself_is_in_its_row_until_it_is() {
    let f = Fixture::start().await;
    // Somebody else has the name that the plan gives it.
    let mut op = f.with_nodes(&["r1-s-2001"]).await;
    let mut r1 = f.rack("r1");
    let mut expects = plan();
    expects.machines[0].bmc_address = "10.90.0.230".into();
    let replace = ReplaceDiscoveryPlanRequest { plan: Some(expects) };
    ok(op.discovered.replace_discovery_plan(replace).await);
    let report = || {
        let mut report = machine("S-2001", &[1]);
        report.hardware.as_mut().unwrap().secure_boot = true;
        report
    };
    let told = ok(r1.discovered.report_machine(report()).await);
    assert_eq!((told.machine, told.node), (name(1), String::new()));
    let waits = ok(op.discovered.get_discovered_machine(GetDiscoveredMachineRequest { name: name(1) }).await);
    assert!(waits.refused.contains("nodes/r1-s-2001"), "{}", waits.refused);
    assert!(waits.proposal.unwrap().missing.is_empty(), "the plan lacks nothing");
    let refusals = |events: Vec<Event>| events.into_iter().filter(|e| e.action == "refuse").count();
    assert_eq!(refusals(op.all_events().await), 1);
    let delete = DeleteNodeRequest { name: "nodes/r1-s-2001".into(), ..DeleteNodeRequest::default() };
    ok(op.nodes.delete_node(delete).await);
    let told = ok(r1.discovered.report_machine(report()).await);
    assert_eq!((told.machine.as_str(), told.node.as_str()), ("", "nodes/r1-s-2001"));
    let node = ok(op.nodes.get_node(GetNodeRequest { name: told.node }).await);
    assert!(node.secure_boot, "it ran the ramdisk because that was signed");
}

#[tokio::test]
async fn a_plan_that_makes_no_sense_is_refused_and_racks_do_not_see_it() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    type Spoil = fn(&mut DiscoveryPlan);
    let spoils: [Spoil; 8] = [
        |p| p.rules[0].name = "A b".into(),
        |p| p.rules.push(p.rules[0].clone()),
        |p| p.rules[0].subnet = "10.0.0.0".into(),
        |p| p.rules[0].mac_prefix = "zz".into(),
        |p| p.rules[0].bmc.as_mut().unwrap().driver = "ssh".into(),
        |p| {
            p.machines[0].serial_number.clear();
            p.machines[0].bmc_mac_address.clear();
        },
        |p| p.machines.push(p.machines[0].clone()),
        |p| p.machines[0].rack = "r1".into(),
    ];
    for (index, spoil) in spoils.into_iter().enumerate() {
        let mut plan = plan();
        spoil(&mut plan);
        let refused =
            op.discovered.replace_discovery_plan(ReplaceDiscoveryPlanRequest { plan: Some(plan) }).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument, "{index}");
    }
    let seen = f.rack("r1").discovered.get_discovery_plan(GetDiscoveryPlanRequest {}).await;
    assert_eq!(seen.unwrap_err().code(), Code::PermissionDenied);
}

/// Its own rack alone has its address and its boot file.
#[tokio::test]
async fn a_node_that_asks_in_another_rack_is_told_where_it_belongs() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let mut r1 = f.rack("r1");
    ok(r1.discovered.report_machine(machine("S-1001", &[1])).await);
    let node = Node { name: "nodes/web".into(), ..Node::default() };
    let accept = AcceptDiscoveredMachineRequest { name: name(1), etag: String::new(), node: Some(node) };
    ok(op.discovered.accept_discovered_machine(accept).await);
    op.create_rack("r2").await.unwrap();
    let sight = || SightMachineRequest { mac_address: "52:54:00:00:01:01".to_owned() };
    let at_home = ok(r1.discovered.sight_machine(sight()).await);
    assert_eq!((at_home.node.as_str(), at_home.rack.as_str()), ("nodes/web", ""));
    for _ in 0..2 {
        let elsewhere = ok(f.rack("r2").discovered.sight_machine(sight()).await);
        assert_eq!((elsewhere.node.as_str(), elsewhere.rack.as_str()), ("nodes/web", "racks/r1"));
    }
    let told = op.all_events().await.into_iter().filter(|event| event.action == "asks in another rack");
    let told: Vec<_> = told.map(|event| (event.resource, event.detail)).collect();
    let [(resource, detail)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(resource, "nodes/web");
    assert!(detail.contains("racks/r1") && detail.contains("racks/r2"), "{detail}");
    // What says nothing else of itself when it asks there.
    let nobody = SightMachineRequest { mac_address: "52:54:00:00:01:09".to_owned() };
    let nobody = ok(f.rack("r2").discovered.sight_machine(nobody).await);
    assert_eq!((nobody.node, nobody.rack), (String::new(), String::new()));
}
