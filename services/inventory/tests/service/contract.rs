//! Etags, request ids, masks, pages, filters, checks and references.

use crate::fixture::{Fixture, PASSWORD, inner, node, refused};
use farrier_proto::inventory::*;
use farrier_proto::types::{BootMode, ProvisionState};
use prost::Message as _;
use tonic::Code;

#[tokio::test]
async fn an_update_with_a_stale_etag_is_aborted() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1"]).await;
    let read = op.node("n1").await.unwrap();
    let described = Node { description: "a".into(), ..read.clone() };
    let newer = op.update_node(described.clone(), &["description"]).await.unwrap();
    assert_ne!(newer.etag, read.etag);
    refused(op.update_node(described, &["description"]).await, Code::Aborted, "STALE_ETAG");
    let stale = DeleteNodeRequest { name: "nodes/n1".into(), etag: read.etag };
    refused(op.nodes.delete_node(stale).await, Code::Aborted, "STALE_ETAG");
    let fresh = DeleteNodeRequest { name: "nodes/n1".into(), etag: newer.etag };
    op.nodes.delete_node(fresh).await.unwrap();
    refused(op.node("n1").await, Code::NotFound, "NOT_FOUND");
}

#[tokio::test]
async fn writers_without_an_etag_all_succeed() {
    let f = Fixture::start().await;
    let op = f.with_nodes(&["n1"]).await;
    let writers: Vec<_> = (0..8)
        .map(|i| {
            let mut op = op.clone();
            let wanted = Node { name: "nodes/n1".into(), rack_unit: i + 1, ..Node::default() };
            tokio::spawn(async move { op.update_node(wanted, &["rack_unit"]).await })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    assert_eq!(op.clone().node("n1").await.unwrap().etag, "9");
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer_and_another_one_is_refused() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let mut wanted = node("n1");
    for i in 0..20 {
        wanted.labels.insert(format!("k{i}"), format!("{i}"));
    }
    let request = CreateNodeRequest {
        node: Some(wanted.clone()),
        request_id: "0189f7ea-ae2c-7809-8aeb-b819cf5e9e7f".into(),
        validate_only: false,
    };
    let first = inner(op.nodes.create_node(request.clone()).await).unwrap();
    // A map of another insertion order is the same request.
    let mut same = request.clone();
    let labels = &mut same.node.as_mut().unwrap().labels;
    *labels = wanted
        .labels
        .iter()
        .collect::<std::collections::BTreeMap<_, _>>()
        .into_iter()
        .rev()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    assert_eq!(inner(op.nodes.create_node(same).await).unwrap(), first);
    for change in [
        |n: &mut Node| n.description = "other".into(),
        |n: &mut Node| n.bmc.as_mut().unwrap().password = "other".into(),
        |n: &mut Node| drop(n.labels.insert("k0".into(), "x".into())),
    ] {
        let mut other = request.clone();
        change(other.node.as_mut().unwrap());
        refused(op.nodes.create_node(other).await, Code::InvalidArgument, "REQUEST_ID_REUSED");
    }
    let site = CreateSiteRequest {
        site: Some(Site { name: "sites/s9".into(), ..Site::default() }),
        request_id: request.request_id.clone(),
        validate_only: false,
    };
    let answer = op.sites.create_site(site).await;
    refused(answer, Code::InvalidArgument, "REQUEST_ID_REUSED");
    let malformed = CreateNodeRequest { request_id: "one".into(), ..request };
    refused(op.nodes.create_node(malformed).await, Code::InvalidArgument, "INVALID_FIELD");
}

#[tokio::test]
async fn a_mask_chooses_what_an_update_writes() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1"]).await;
    let wanted = Node {
        name: "nodes/n1".into(),
        description: "d".into(),
        resource_class: "big".into(),
        boot_mode: BootMode::Uefi.into(),
        maintenance: true,
        maintenance_reason: "fan".into(),
        traits: vec!["CUSTOM_GPU".into()],
        ..Node::default()
    };
    let only = op.update_node(wanted.clone(), &["description"]).await.unwrap();
    assert_eq!((only.description.as_str(), only.resource_class.as_str(), only.maintenance), ("d", "", false));
    assert!(only.bmc.is_some());
    let all = op.update_node(wanted.clone(), &[]).await.unwrap();
    assert_eq!(
        (all.resource_class.as_str(), all.boot_mode(), all.maintenance),
        ("big", BootMode::Uefi, true)
    );
    assert!(all.bmc.is_some(), "a field that is not set is not written");
    let cleared = Node { name: "nodes/n1".into(), ..Node::default() };
    let cleared = op.update_node(cleared, &["maintenance", "traits"]).await.unwrap();
    assert_eq!(
        (cleared.maintenance, cleared.traits.len(), cleared.resource_class.as_str()),
        (false, 0, "big")
    );
    for field in ["state", "name", "instance", "rack", "bmc.password"] {
        let message =
            refused(op.update_node(wanted.clone(), &[field]).await, Code::InvalidArgument, "INVALID_MASK");
        assert!(message.contains(field), "{message}");
    }
}

#[tokio::test]
async fn output_fields_of_a_new_node_are_ours() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let forged = Node {
        uid: "x".into(),
        etag: "9".into(),
        fence: 9,
        instance: "instances/i".into(),
        operation: "operations/o".into(),
        last_error: "x".into(),
        state: ProvisionState::Active.into(),
        ..node("n1")
    };
    let made = op.create_node(forged).await.unwrap();
    assert_eq!(made.state(), ProvisionState::Enroll);
    assert_eq!((made.etag.as_str(), made.fence, made.instance.as_str()), ("1", 0, ""));
    assert_eq!((made.operation.as_str(), made.last_error.as_str()), ("", ""));
    assert_ne!(made.uid, "x");
    assert!(made.create_time.is_some() && made.state_time.is_some());
}

#[tokio::test]
async fn a_password_and_a_key_go_in_and_never_come_out() {
    const KEY: &str = "kg-8Wm3Xz6p";
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1"]).await;
    let mut seen = Vec::new();
    let read = op.node("n1").await.unwrap();
    let bmc = read.bmc.clone().unwrap();
    assert!(bmc.password.is_empty() && bmc.password_set && !bmc.kg_set);
    seen.push(read.encode_to_vec());
    let with_key = Bmc { kg: KEY.into(), ..bmc };
    let read = op.update_node(Node { bmc: Some(with_key), ..read }, &["bmc"]).await.unwrap();
    let bmc = read.bmc.clone().unwrap();
    assert!(bmc.kg.is_empty() && bmc.kg_set && bmc.password_set);
    seen.push(read.encode_to_vec());
    // The description of the BMC is written back as it was read: the password stays, and the key.
    let moved = Bmc { address: "10.0.0.2".into(), ..bmc };
    let updated = op.update_node(Node { bmc: Some(moved), ..read }, &["bmc"]).await.unwrap();
    assert!(updated.bmc.as_ref().unwrap().password_set);
    seen.push(updated.encode_to_vec());
    let mut scheduler = f.scheduler();
    let get = |flavor: &str| GetDispatchRequest { node: "nodes/n1".into(), flavor: flavor.into() };
    let dispatch = inner(scheduler.dispatch.get_dispatch(get("")).await).unwrap();
    assert_eq!((dispatch.bmc_password.as_str(), dispatch.bmc_kg.as_str()), (PASSWORD, KEY));
    assert!(!format!("{dispatch:?}").contains(KEY));
    assert_eq!(dispatch.rack_address, "https://127.0.0.1:7100");
    assert_eq!(dispatch.node.as_ref().unwrap().bmc.as_ref().unwrap().address, "10.0.0.2");
    seen.push(dispatch.node.unwrap().encode_to_vec());
    refused(scheduler.dispatch.get_dispatch(get("flavors/none")).await, Code::NotFound, "NOT_FOUND");
    let list = inner(op.nodes.list_nodes(ListNodesRequest::default()).await).unwrap();
    seen.push(list.encode_to_vec());
    let explained = op.nodes.explain_node(ExplainNodeRequest { name: "nodes/n1".into() }).await;
    seen.push(inner(explained).unwrap().encode_to_vec());
    let candidates = scheduler.dispatch.list_candidates(ListCandidatesRequest {}).await;
    seen.push(inner(candidates).unwrap().encode_to_vec());
    for event in op.all_events().await {
        seen.push(event.encode_to_vec());
    }
    for file in ["db", "db-wal"] {
        seen.push(std::fs::read(f.dir.path().join(file)).unwrap_or_default());
    }
    for bytes in seen {
        for secret in [PASSWORD, KEY] {
            assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{secret}");
        }
    }
    // A key of no bytes takes it away.
    let read = op.node("n1").await.unwrap();
    let without = Bmc { kg: "0x".into(), ..read.bmc.clone().unwrap() };
    let updated = op.update_node(Node { bmc: Some(without), ..read }, &["bmc"]).await.unwrap();
    assert!(!updated.bmc.unwrap().kg_set);
    let dispatch = inner(scheduler.dispatch.get_dispatch(get("")).await).unwrap();
    assert_eq!((dispatch.bmc_password.as_str(), dispatch.bmc_kg.as_str()), (PASSWORD, ""));
    // Without a BMC there is no password either.
    let none = Node { name: "nodes/n1".into(), ..Node::default() };
    op.update_node(none, &["bmc"]).await.unwrap();
    let dispatch = inner(scheduler.dispatch.get_dispatch(get("")).await).unwrap();
    assert_eq!(dispatch.bmc_password, "");
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_the_field() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let with_bmc = |change: fn(&mut Bmc)| {
        let mut node = node("n1");
        change(node.bmc.as_mut().unwrap());
        node
    };
    for (bad, field) in [
        (Node { name: "nodes/N1".into(), ..node("n1") }, "node.name"),
        (Node { name: "n1".into(), ..node("n1") }, "node.name"),
        (Node { rack: "r1".into(), ..node("n1") }, "node.rack"),
        (Node { architecture: "vax".into(), ..node("n1") }, "node.architecture"),
        (Node { rack_unit: -1, ..node("n1") }, "node.rack_unit"),
        (Node { boot_mode: 9, ..node("n1") }, "node.boot_mode"),
        (Node { boot_mode: BootMode::Bios.into(), secure_boot: true, ..node("n1") }, "node.secure_boot"),
        (Node { traits: vec![String::new()], ..node("n1") }, "node.traits"),
        (with_bmc(|b| b.driver = "telepathy".into()), "node.bmc.driver"),
        (with_bmc(|b| b.address = "a:b:c:d".into()), "node.bmc.address"),
        (with_bmc(|b| b.address = String::new()), "node.bmc.address"),
        (with_bmc(|b| b.cipher_suite = 1), "node.bmc.cipher_suite"),
        (with_bmc(|b| b.password = "x".repeat(21)), "node.bmc.password"),
        (with_bmc(|b| (b.driver, b.password) = ("auto".into(), "x".repeat(21))), "node.bmc.password"),
        (with_bmc(|b| (b.driver, b.password) = ("redfish".into(), "x".repeat(129))), "node.bmc.password"),
        (with_bmc(|b| b.scheme = "ftp".into()), "node.bmc.scheme"),
        (with_bmc(|b| (b.scheme, b.certificate_sha256) = ("http".into(), "a".repeat(64))), "node.bmc.scheme"),
        (with_bmc(|b| b.certificate_sha256 = "a".repeat(63)), "node.bmc.certificate_sha256"),
        (with_bmc(|b| b.ssh_host_key_sha256 = "a".repeat(43)), "node.bmc.ssh_host_key_sha256"),
        (with_bmc(|b| b.ssh_host_key_sha256 = "SHA256:abc".into()), "node.bmc.ssh_host_key_sha256"),
        (with_bmc(|b| b.certificate_sha256 = "g".repeat(64)), "node.bmc.certificate_sha256"),
        (with_bmc(|b| b.ca_pem = "no certificate".into()), "node.bmc.ca_pem"),
        (with_bmc(|b| b.system = "a b".into()), "node.bmc.system"),
    ] {
        let message = refused(op.create_node(bad).await, Code::InvalidArgument, "INVALID_FIELD");
        assert!(message.starts_with(field), "{field}: {message}");
    }
    let message = refused(
        op.create_node(with_bmc(|b| b.driver = "x".into())).await,
        Code::InvalidArgument,
        "INVALID_FIELD",
    );
    assert!(message.contains("ipmi"), "{message}");
    let nowhere = Node { rack: "racks/nowhere".into(), ..node("n1") };
    let message = refused(op.create_node(nowhere).await, Code::NotFound, "NOT_FOUND");
    assert!(message.contains("racks/nowhere"), "{message}");
    refused(op.nodes.create_node(CreateNodeRequest::default()).await, Code::InvalidArgument, "INVALID_FIELD");
}

#[tokio::test]
async fn validating_only_stores_nothing_and_checks_everything() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1"]).await;
    let before = op.all_events().await.len();
    let request =
        |id: &str| CreateNodeRequest { node: Some(node(id)), validate_only: true, ..Default::default() };
    inner(op.nodes.create_node(request("n2")).await).unwrap();
    refused(op.node("n2").await, Code::NotFound, "NOT_FOUND");
    refused(op.nodes.create_node(request("n1")).await, Code::AlreadyExists, "NAME_TAKEN");
    assert_eq!(op.all_events().await.len(), before);
}

#[tokio::test]
async fn a_key_that_opens_no_password_is_told_at_the_start_and_no_new_one_is_made() {
    let f = Fixture::start().await;
    f.with_nodes(&["n1"]).await;
    let absent = f.refuses_to_start_with_key("lost.key").await;
    assert!(absent.contains("lost.key, saw no file"), "{absent}");
    assert!(!f.dir.path().join("lost.key").exists());
    std::fs::write(f.dir.path().join("other.key"), [7; 32]).unwrap();
    let other = f.refuses_to_start_with_key("other.key").await;
    assert!(other.contains("sealed nodes/n1/bmc in") && other.contains("other.key"), "{other}");
}

#[tokio::test]
async fn no_two_nodes_have_one_bmc() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1", "n2"]).await;
    let with = |id: &str, address: &str| {
        let mut node = node(id);
        node.bmc.as_mut().unwrap().address = address.to_owned();
        node
    };
    let message = refused(op.create_node(with("n3", "N1:6230")).await, Code::AlreadyExists, "BMC_TAKEN");
    assert!(message.contains("nodes/n3") && message.contains("that of nodes/n1"), "{message}");
    let taken = op.update_node(with("n2", "n1:6230"), &["bmc"]).await;
    refused(taken, Code::AlreadyExists, "BMC_TAKEN");
    assert_eq!(op.node("n2").await.unwrap().bmc.unwrap().address, "n2:6230");
    // Its own address is no other's, and a blade is told from its neighbours.
    op.update_node(with("n2", "n2:6230"), &["bmc"]).await.unwrap();
    let mut blade = with("n3", "n1:6230");
    blade.bmc.as_mut().unwrap().system = "2".into();
    op.create_node(blade).await.unwrap();
    // What one gives up another may have.
    op.update_node(with("n1", "elsewhere"), &["bmc"]).await.unwrap();
    op.update_node(with("n2", "n1:6230"), &["bmc"]).await.unwrap();
}

#[tokio::test]
async fn pages_and_filters() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1", "n2", "n3", "n4", "n5"]).await;
    let (mut page_token, mut seen) = (String::new(), Vec::new());
    loop {
        let request = ListNodesRequest { page_size: 2, page_token, filter: "rack=r1".into() };
        let page = inner(op.nodes.list_nodes(request).await).unwrap();
        assert!(page.nodes.len() <= 2);
        seen.extend(page.nodes.into_iter().map(|n| n.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["nodes/n1", "nodes/n2", "nodes/n3", "nodes/n4", "nodes/n5"]);
    let mut labelled = Node { name: "nodes/n3".into(), resource_class: "big".into(), ..Node::default() };
    labelled.labels.insert("row".into(), "7".into());
    op.update_node(labelled, &[]).await.unwrap();
    for (filter, found) in [
        ("labels.row=7 AND state=enroll", 1),
        ("resource_class=big", 1),
        ("state=ENROLL", 5),
        ("state=\"deploy failed\"", 0),
        ("rack=racks/r1 AND maintenance=false", 5),
        ("maintenance=true", 0),
        ("instance=i1", 0),
    ] {
        assert_eq!(op.list_nodes(filter).await.unwrap().len(), found, "{filter}");
    }
    for bad in ["colour=red", "state=lost", "maintenance=perhaps", "state"] {
        refused(op.list_nodes(bad).await, Code::InvalidArgument, "INVALID_FILTER");
    }
    let foreign = ListNodesRequest { page_token: "!".into(), ..Default::default() };
    refused(op.nodes.list_nodes(foreign).await, Code::InvalidArgument, "INVALID_PAGE_TOKEN");
    let foreign = ListEventsRequest { page_token: "bm9kZXM".into(), ..Default::default() };
    refused(op.events.list_events(foreign).await, Code::InvalidArgument, "INVALID_PAGE_TOKEN");
}

#[tokio::test]
async fn what_is_in_use_stays() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1"]).await;
    let site = DeleteSiteRequest { name: "sites/s1".into(), etag: String::new() };
    let rack = DeleteRackRequest { name: "racks/r1".into(), etag: String::new() };
    let node = DeleteNodeRequest { name: "nodes/n1".into(), etag: String::new() };
    refused(op.sites.delete_site(site.clone()).await, Code::FailedPrecondition, "IN_USE");
    refused(op.racks.delete_rack(rack.clone()).await, Code::FailedPrecondition, "IN_USE");
    let mut scheduler = f.scheduler();
    scheduler.transition("n1", "manage", "o1").await.unwrap();
    let message = refused(op.nodes.delete_node(node.clone()).await, Code::FailedPrecondition, "IN_USE");
    assert!(message.contains("operations/o1"), "{message}");
    scheduler.transition("n1", "done", "o1").await.unwrap();
    op.nodes.delete_node(node.clone()).await.unwrap();
    refused(op.nodes.delete_node(node).await, Code::NotFound, "NOT_FOUND");
    op.racks.delete_rack(rack).await.unwrap();
    op.sites.delete_site(site).await.unwrap();
}

#[tokio::test]
async fn ports_are_named_by_their_address() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&["n1", "n2"]).await;
    let create = |node: &str, mac: &str| CreatePortRequest {
        port: Some(Port { node: node.into(), mac_address: mac.into(), pxe_enabled: true, ..Port::default() }),
        ..Default::default()
    };
    let made = inner(op.ports.create_port(create("nodes/n1", "52-54-00-AA-BB-CC")).await).unwrap();
    assert_eq!(
        (made.name.as_str(), made.mac_address.as_str()),
        ("ports/52-54-00-aa-bb-cc", "52:54:00:aa:bb:cc")
    );
    let taken = op.ports.create_port(create("nodes/n2", "52:54:00:aa:bb:cc")).await;
    refused(taken, Code::AlreadyExists, "MAC_TAKEN");
    refused(op.ports.create_port(create("nodes/n1", "mac")).await, Code::InvalidArgument, "INVALID_FIELD");
    refused(op.ports.create_port(create("nodes/n9", "52:54:00:aa:bb:01")).await, Code::NotFound, "NOT_FOUND");
    let wanted = Port { name: made.name.clone(), switch_name: "sw1".into(), ..Port::default() };
    let updated = op.ports.update_port(UpdatePortRequest { port: Some(wanted), update_mask: None }).await;
    let updated = inner(updated).unwrap();
    assert_eq!((updated.switch_name.as_str(), updated.pxe_enabled), ("sw1", true));
    for filter in ["node=n1", "node=nodes/n1 AND mac_address=52-54-00-AA-BB-CC"] {
        let request = ListPortsRequest { filter: filter.into(), ..Default::default() };
        assert_eq!(inner(op.ports.list_ports(request).await).unwrap().ports, std::slice::from_ref(&updated));
    }
    let delete = DeletePortRequest { name: made.name, etag: updated.etag };
    op.ports.delete_port(delete).await.unwrap();
}

#[tokio::test]
async fn sites_racks_and_flavors_live_and_leave_history() {
    let f = Fixture::start().await;
    let mut op = f.with_nodes(&[]).await;
    let site = Site { name: "sites/s1".into(), description: "north".into(), ..Site::default() };
    let updated = op.sites.update_site(UpdateSiteRequest { site: Some(site), update_mask: None }).await;
    assert_eq!(inner(updated).unwrap().description, "north");
    let rack = Rack { name: "racks/r1".into(), address: "https://rack1:7100".into(), ..Rack::default() };
    let updated =
        op.racks.update_rack(UpdateRackRequest { rack: Some(rack.clone()), update_mask: None }).await;
    assert_eq!(inner(updated).unwrap().address, "https://rack1:7100");
    let plain = Some(Rack { address: "http://rack1".into(), ..rack });
    let updated = op.racks.update_rack(UpdateRackRequest { rack: plain, update_mask: None }).await;
    refused(updated, Code::InvalidArgument, "INVALID_FIELD");
    let racks = ListRacksRequest { filter: "site=s1".into(), ..Default::default() };
    assert_eq!(inner(op.racks.list_racks(racks).await).unwrap().racks.len(), 1);

    let flavor =
        Flavor { name: "flavors/f1".into(), cpu_count: 4, resource_class: "big".into(), ..Flavor::default() };
    let create = |flavor: Flavor| CreateFlavorRequest { flavor: Some(flavor), ..Default::default() };
    let made = inner(op.flavors.create_flavor(create(flavor.clone())).await).unwrap();
    let get = GetFlavorRequest { name: made.name.clone() };
    assert_eq!(inner(op.flavors.get_flavor(get).await).unwrap(), made);
    let negative = Flavor { cpu_count: -1, name: "flavors/f2".into(), ..flavor };
    refused(op.flavors.create_flavor(create(negative)).await, Code::InvalidArgument, "INVALID_FIELD");
    let list = ListFlavorsRequest { filter: "resource_class=big".into(), ..Default::default() };
    assert_eq!(inner(op.flavors.list_flavors(list).await).unwrap().flavors.len(), 1);
    op.flavors.delete_flavor(DeleteFlavorRequest { name: made.name, etag: made.etag }).await.unwrap();

    let events = op.all_events().await;
    let told: Vec<_> = events.iter().map(|e| format!("{} {}", e.action, e.resource)).collect();
    assert_eq!(
        told,
        [
            "create sites/s1",
            "create racks/r1",
            "update sites/s1",
            "update racks/r1",
            "create flavors/f1",
            "delete flavors/f1"
        ]
    );
    assert!(events.iter().all(|e| e.actor == "spiffe://farrier/user/u" && e.time.is_some()));
    let newest = ListEventsRequest { page_size: 2, descending: true, ..Default::default() };
    let page = inner(op.events.list_events(newest.clone()).await).unwrap();
    assert_eq!(page.events.iter().map(|e| e.sequence).collect::<Vec<_>>(), [6, 5]);
    let next = ListEventsRequest { page_token: page.next_page_token, ..newest };
    assert_eq!(inner(op.events.list_events(next).await).unwrap().events.first().unwrap().sequence, 4);
    let one =
        ListEventsRequest { filter: "resource=sites/s1 AND action=update".into(), ..Default::default() };
    assert_eq!(inner(op.events.list_events(one).await).unwrap().events.len(), 1);
}
