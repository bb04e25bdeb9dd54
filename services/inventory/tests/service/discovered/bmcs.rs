//! BMCs that racks find, alone and with their machines.

use super::*;

const BMC: &str = "52:54:00:00:02:01";

fn bmc(ip: &str) -> ReportBmcRequest {
    ReportBmcRequest {
        mac_address: BMC.into(),
        ip_address: ip.into(),
        driver: "redfish".into(),
        certificate_sha256: "ab".repeat(32),
        maker: "OpenBMC".into(),
        names: Vec::new(),
    }
}

fn with_own_bmc(mut machine: ReportMachineRequest) -> ReportMachineRequest {
    let own = farrier_proto::types::OwnBmc { mac_address: BMC.into(), ..Default::default() };
    machine.hardware.as_mut().unwrap().own_bmc = Some(own);
    machine
}

#[tokio::test]
async fn a_bmc_and_its_machine_are_one_row_whichever_was_seen_first() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let mut r1 = f.rack("r1");
    let alone = ok(r1.discovered.report_bmc(bmc("10.90.0.230")).await).machine;
    assert_eq!(alone, "discovered/52-54-00-00-02-01");
    let get = |name: &str| GetDiscoveredMachineRequest { name: name.into() };
    let row = ok(op.discovered.get_discovered_machine(get(&alone)).await);
    assert_eq!((row.boot_mac_address.as_str(), row.bmc_address.as_str()), ("", "10.90.0.230"));
    // Its machine boots, and says that it is its own.
    let told = ok(r1.discovered.report_machine(with_own_bmc(machine("S-1001", &[1]))).await);
    assert_eq!(told.machine, name(1));
    assert_eq!(listed(&mut op).await, [(name(1), 1)]);
    let row = ok(op.discovered.get_discovered_machine(get(&name(1))).await);
    assert_eq!((row.bmc_address.as_str(), row.bmc.unwrap().driver.as_str()), ("10.90.0.230", "redfish"));
    // The BMC has another address: the machine's row has it, and its boots are what they were.
    let again = ok(r1.discovered.report_bmc(bmc("10.90.0.231")).await);
    assert_eq!(again.machine, name(1));
    let row = ok(op.discovered.get_discovered_machine(get(&name(1))).await);
    assert_eq!((row.bmc_address.as_str(), row.boot_count), ("10.90.0.231", 1));
    // In another rack somebody says the same of itself.
    op.create_rack("r2").await.unwrap();
    let other = ok(f.rack("r2").discovered.report_bmc(bmc("10.91.0.9")).await).machine;
    assert_eq!(other, alone);
    assert_eq!(listed(&mut op).await, [(name(1), 1), (alone, 0)]);
}

/// The address that would be the node's is the one that is judged: a stranger who answers as the BMC elsewhere is sent no
/// password by itself, whatever its machine says.
#[tokio::test]
async fn what_is_judged_of_a_bmc_is_what_becomes_the_node() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let mut r1 = f.rack("r1");
    let mut plan = plan();
    plan.rules[0].bmc_subnet = "10.0.9.0/24".into();
    plan.machines[0].bmc_mac_address.clear();
    ok(op.discovered.replace_discovery_plan(ReplaceDiscoveryPlanRequest { plan: Some(plan) }).await);
    let says = |mut machine: ReportMachineRequest| {
        let ip_address = "10.0.9.23".into();
        let own = farrier_proto::types::OwnBmc { mac_address: BMC.into(), ip_address, ..Default::default() };
        machine.hardware.as_mut().unwrap().own_bmc = Some(own);
        machine
    };
    ok(r1.discovered.report_bmc(bmc("10.90.0.200")).await);
    let told = ok(r1.discovered.report_machine(says(machine("S-2001", &[1]))).await);
    assert_eq!((told.machine, told.node), (name(1), String::new()));
    let row = ok(op.discovered.get_discovered_machine(GetDiscoveredMachineRequest { name: name(1) }).await);
    let proposal = row.proposal.unwrap();
    assert_eq!((proposal.automatic, proposal.bmc.unwrap().address.as_str()), (false, "10.90.0.200"));
    // Where nobody answers elsewhere, its word within the rule's network is enough.
    let delete =
        DeleteDiscoveredMachineRequest { name: name(1), ..DeleteDiscoveredMachineRequest::default() };
    ok(op.discovered.delete_discovered_machine(delete).await);
    let told = ok(r1.discovered.report_machine(says(machine("S-2001", &[1]))).await);
    assert_eq!((told.machine.as_str(), told.node.as_str()), ("", "nodes/r1-s-2001"));
}

/// A rule waits for the address of its BMC, and the rack finds that after the machine: nothing else is to happen.
#[tokio::test]
async fn a_machine_that_lacked_its_bmc_alone_is_accepted_when_that_is_found() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let mut r1 = f.rack("r1");
    ok(op.discovered.replace_discovery_plan(ReplaceDiscoveryPlanRequest { plan: Some(plan()) }).await);
    let told = ok(r1.discovered.report_machine(with_own_bmc(machine("S-2001", &[1]))).await);
    assert_eq!((told.machine, told.node), (name(1), String::new()));
    let told = ok(r1.discovered.report_bmc(bmc("10.90.0.230")).await);
    assert_eq!((told.machine.as_str(), told.node.as_str()), ("", "nodes/r1-s-2001"));
    let node = ok(op.nodes.get_node(GetNodeRequest { name: told.node }).await);
    assert_eq!(node.bmc.unwrap().address, "10.90.0.230");
    assert_eq!(listed(&mut op).await, []);
    // One that may be a node's waits for a person, though its rule lacks nothing.
    let mut all = plan();
    all.machines.clear();
    all.rules[0] = DiscoveryRule {
        name: "all".into(),
        node_name: "x-{serial}".into(),
        bmc: Some(Bmc { driver: "manual".into(), ..Bmc::default() }),
        automatic: true,
        ..DiscoveryRule::default()
    };
    ok(op.discovered.replace_discovery_plan(ReplaceDiscoveryPlanRequest { plan: Some(all) }).await);
    let other = "52:54:00:00:02:07".to_owned();
    let mut unclear = with_own_bmc(machine("S-2001", &[5]));
    unclear.hardware.as_mut().unwrap().own_bmc.as_mut().unwrap().mac_address.clone_from(&other);
    let told = ok(r1.discovered.report_machine(unclear).await);
    assert_eq!((told.machine, told.has_owner), (name(5), true));
    let told =
        ok(r1.discovered.report_bmc(ReportBmcRequest { mac_address: other, ..bmc("10.90.0.231") }).await);
    assert_eq!((told.machine, told.node.as_str()), (name(5), ""));
}

/// A machine that cannot say which BMC is its own; the plan says it.
#[tokio::test]
async fn a_bmc_that_the_plan_gives_to_a_machine_is_its_own_also_where_it_comes_later() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let mut r1 = f.rack("r1");
    // Before anybody has planned anything both are there, each by itself.
    ok(r1.discovered.report_machine(machine("S-2001", &[1])).await);
    ok(r1.discovered.report_machine(machine("S-2002", &[2])).await);
    let alone = ok(r1.discovered.report_bmc(bmc("10.90.0.230")).await).machine;
    assert_eq!(listed(&mut op).await.len(), 3);
    ok(op.discovered.replace_discovery_plan(ReplaceDiscoveryPlanRequest { plan: Some(plan()) }).await);
    let told = ok(r1.discovered.report_bmc(bmc("10.90.0.230")).await);
    assert_eq!((told.machine.as_str(), told.node.as_str()), ("", "nodes/r1-s-2001"), "{alone}");
    let node = ok(op.nodes.get_node(GetNodeRequest { name: told.node }).await);
    assert_eq!(node.bmc.unwrap().address, "10.90.0.230");
    assert_eq!(listed(&mut op).await, [(name(2), 1)]);
}

/// One who asked for an address with a machine's MAC, as a BMC, keeps the machine from nothing.
#[tokio::test]
async fn a_machine_takes_the_place_of_a_bmc_with_its_interface() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let mut r1 = f.rack("r1");
    let mac = "52:54:00:00:01:01".to_owned();
    let spoofed = ReportBmcRequest { mac_address: mac.clone(), ..bmc("10.90.0.230") };
    assert_eq!(ok(r1.discovered.report_bmc(spoofed.clone()).await).machine, name(1));
    assert_eq!(ok(r1.discovered.report_machine(machine("S-1001", &[1])).await).machine, name(1));
    assert_eq!(listed(&mut op).await, [(name(1), 1)]);
    let row = ok(op.discovered.get_discovered_machine(GetDiscoveredMachineRequest { name: name(1) }).await);
    assert_eq!((row.boot_mac_address, row.bmc_address.as_str()), (mac, ""));
    // And the other way round it stays what it is.
    assert_eq!(ok(r1.discovered.report_bmc(spoofed).await).machine, name(1));
    assert_eq!(listed(&mut op).await, [(name(1), 1)]);
}

#[tokio::test]
async fn a_bmc_alone_is_accepted_by_hand_with_what_was_seen_and_never_by_itself() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let mut r1 = f.rack("r1");
    let mut expects = plan();
    expects.rules[0].vendor.clear();
    expects.rules[0].node_name = "n-{unit}".into();
    expects.rules[0].bmc.as_mut().unwrap().driver = "auto".into();
    ok(op.discovered.replace_discovery_plan(ReplaceDiscoveryPlanRequest { plan: Some(expects) }).await);
    let sight = SightMachineRequest { mac_address: BMC.into() };
    assert!(ok(r1.discovered.sight_machine(sight).await).expected_bmc);
    let sight = SightMachineRequest { mac_address: "52:54:00:00:02:02".into() };
    assert!(!ok(r1.discovered.sight_machine(sight).await).expected_bmc);
    let alone = ok(r1.discovered.report_bmc(bmc("10.90.0.230")).await).machine;
    let get = GetDiscoveredMachineRequest { name: alone.clone() };
    let row = ok(op.discovered.get_discovered_machine(get).await);
    let proposal = row.proposal.unwrap();
    assert!(proposal.expected && !proposal.automatic, "{proposal:?}");
    assert!(proposal.missing.contains("only its BMC was seen"), "{}", proposal.missing);
    let accept = AcceptDiscoveredMachineRequest { name: alone, etag: row.etag, node: None };
    let node = ok(op.discovered.accept_discovered_machine(accept).await);
    let seen = node.bmc.unwrap();
    assert_eq!((node.name.as_str(), node.rack_unit), ("nodes/n-12", 12));
    assert_eq!((seen.address.as_str(), seen.certificate_sha256), ("10.90.0.230", "ab".repeat(32)));
    assert!(seen.password_set);
    // It is the node's BMC now.
    let again = ok(r1.discovered.report_bmc(bmc("10.90.0.230")).await);
    assert_eq!((again.machine.as_str(), again.node.as_str()), ("", "nodes/n-12"));
    assert_eq!(listed(&mut op).await, []);
}

#[tokio::test]
async fn what_a_rack_says_of_a_bmc_is_checked_and_nobody_else_says_it() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let mut r1 = f.rack("r1");
    for bad in [
        ReportBmcRequest { mac_address: "x".into(), ..bmc("10.90.0.230") },
        bmc("bmc.example"),
        ReportBmcRequest { driver: "ssh".into(), ..bmc("10.90.0.230") },
        ReportBmcRequest { certificate_sha256: "zz".repeat(32), ..bmc("10.90.0.230") },
        ReportBmcRequest { maker: "\u{1b}[2J".into(), ..bmc("10.90.0.230") },
    ] {
        let error = r1.discovered.report_bmc(bad).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
    }
    let error = op.discovered.report_bmc(bmc("10.90.0.230")).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert_eq!(listed(&mut op).await, []);
}

/// A second node of it would have two tasks at one machine.
#[tokio::test]
async fn the_bmc_of_a_node_is_the_nodes_wherever_it_is_and_however_the_node_names_it() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let mut r1 = f.rack("r1");
    let alone = ok(r1.discovered.report_bmc(bmc("10.90.0.230")).await).machine;
    let node = Node { name: "nodes/n1".into(), ..Node::default() };
    let accept = AcceptDiscoveredMachineRequest { name: alone, etag: String::new(), node: Some(node) };
    let node = ok(op.discovered.accept_discovered_machine(accept).await);
    assert_eq!(node.bmc.as_ref().unwrap().address, "10.90.0.230");
    assert!(node.hardware.is_none(), "it was not inspected");
    let told = async |op: &mut Clients| {
        let events = op.all_events().await.into_iter().filter(|event| event.action == "bmc elsewhere");
        events.map(|event| (event.resource, event.detail)).collect::<Vec<_>>()
    };
    // Where the node says, by its lease of a day later.
    assert_eq!(ok(r1.discovered.report_bmc(bmc("10.90.0.230")).await).node, "nodes/n1");
    assert_eq!(told(&mut op).await, []);
    // It has another address. Whoever accepts nothing makes no second node of it; a person is told, once.
    for _ in 0..2 {
        let again = ok(r1.discovered.report_bmc(bmc("10.90.0.231")).await);
        assert_eq!((again.machine.as_str(), again.node.as_str()), ("", "nodes/n1"));
    }
    assert_eq!(listed(&mut op).await, []);
    let events = told(&mut op).await;
    let [(resource, detail)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(resource, "nodes/n1");
    for word in ["10.90.0.231", "10.90.0.230", "`farrier node update n1 --bmc-address 10.90.0.231`"] {
        assert!(detail.contains(word), "{detail}");
    }
    // By a name it may be anywhere.
    let named = |node: Node, address: &str| {
        let (address, user, password) = (address.into(), "admin".into(), crate::fixture::PASSWORD.into());
        let bmc = Bmc { address, user, password, ..node.bmc.clone().unwrap() };
        Node { bmc: Some(bmc), ..node }
    };
    let node = op.node("n1").await.unwrap();
    op.update_node(named(node, "bmc1.example"), &["bmc"]).await.unwrap();
    assert_eq!(ok(r1.discovered.report_bmc(bmc("10.90.0.232")).await).node, "nodes/n1");
    assert_eq!(told(&mut op).await.len(), 1);
    // One whose MAC address nobody knows yet, by the name that the rack resolved.
    op.create_node(named(crate::fixture::node("n2"), "BMC2.example:443")).await.unwrap();
    let other = |names: &[&str]| ReportBmcRequest {
        mac_address: "52:54:00:00:02:02".into(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..bmc("10.90.0.240")
    };
    assert_eq!(ok(r1.discovered.report_bmc(other(&["x", "bmc2.example"])).await).node, "nodes/n2");
    assert_eq!(ok(r1.discovered.report_bmc(other(&["x"])).await).node, "");
    // Another rack's word about the same address is about another BMC.
    op.create_rack("r2").await.unwrap();
    assert_eq!(ok(f.rack("r2").discovered.report_bmc(bmc("10.90.0.230")).await).node, "");
}

/// Each start of rackd looks at all BMCs of its rack, and knows nothing of what they once said.
#[tokio::test]
async fn a_bmc_that_is_as_it_was_is_no_news_and_keeps_its_maker() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let mut r1 = f.rack("r1");
    let alone = ok(r1.discovered.report_bmc(bmc("10.90.0.230")).await).machine;
    let get = GetDiscoveredMachineRequest { name: alone.clone() };
    let mut events = Vec::new();
    for report in [
        ReportBmcRequest { maker: String::new(), ..bmc("10.90.0.230") },
        bmc("10.90.0.230"),
        ReportBmcRequest { maker: String::new(), ..bmc("10.90.0.231") },
    ] {
        ok(r1.discovered.report_bmc(report).await);
        let row = ok(op.discovered.get_discovered_machine(get.clone()).await);
        assert_eq!(row.bmc.unwrap().maker, "OpenBMC");
        events.push(op.all_events().await.into_iter().filter(|event| event.resource == alone).count());
    }
    assert_eq!(events, [1, 1, 2], "found, and has another address");
}
