use farrier_inventory_store::*;
use farrier_proto::inventory::{Event, Node, Observation, Port, Rack, Site};
use farrier_proto::types::ProvisionState;
use prost::Message as _;
use prost_types::Timestamp;

fn event(resource: &str, action: &str) -> Event {
    Event {
        time: Some(now()),
        actor: "test".into(),
        resource: resource.into(),
        action: action.into(),
        ..Event::default()
    }
}

fn now() -> Timestamp {
    Timestamp { seconds: 1_700_000_000, nanos: 0 }
}

fn site(name: &str) -> Site {
    Site { name: format!("sites/{name}"), uid: format!("site-{name}"), ..Site::default() }
}

fn rack(name: &str, site: &str) -> Rack {
    Rack {
        name: format!("racks/{name}"),
        uid: format!("rack-{name}"),
        site: format!("sites/{site}"),
        ..Rack::default()
    }
}

fn node(name: &str) -> Node {
    Node {
        name: format!("nodes/{name}"),
        uid: format!("node-{name}"),
        rack: "racks/r1".into(),
        state: ProvisionState::VerifyFailed.into(),
        ..Node::default()
    }
}

fn port(mac: &str, node: &str) -> Port {
    Port {
        name: format!("ports/{}", mac.replace(':', "-")),
        uid: format!("port-{mac}-{node}"),
        node: format!("nodes/{node}"),
        mac_address: mac.into(),
        ..Port::default()
    }
}

fn new<R: Resource>(resource: R) -> New<R> {
    let event = event(resource.name(), "create");
    New { resource, extra: R::Extra::default(), event, request: None, dry: false }
}

async fn make<R: Resource>(store: &Store, resource: R) -> R {
    match store.create(new(resource)).await.unwrap() {
        Created::New(resource) => resource,
        Created::Repeated { .. } => panic!("not asked before"),
    }
}

/// A site, a rack and nodes.
async fn rack_with(store: &Store, nodes: &[&str]) {
    make(store, site("s1")).await;
    make(store, rack("r1", "s1")).await;
    for name in nodes {
        make(store, node(name)).await;
    }
}

fn by(terms: &[(&str, &str)]) -> Query {
    let terms = terms.iter().map(|(f, v)| ((*f).to_owned(), (*v).to_owned())).collect();
    Query { terms, limit: 100, ..Query::default() }
}

async fn names<R: Resource>(store: &Store, query: Query) -> Vec<String> {
    store.list::<R>(&query).await.unwrap().iter().map(|r| r.name().to_owned()).collect()
}

pub(crate) async fn what_is_created_is_read_back(store: Store) {
    let mut wanted = site("s1");
    wanted.labels.insert("k".into(), "v".into());
    let made = make(&store, wanted.clone()).await;
    assert_eq!(made.etag, "1");
    assert_eq!(made, Site { etag: "1".into(), ..wanted });
    assert_eq!(store.get::<Site>("sites/s1").await.unwrap(), made);
    assert!(matches!(store.get::<Site>("sites/s2").await, Err(StoreError::NotFound { .. })));
}

pub(crate) async fn names_are_taken_once(store: Store) {
    rack_with(&store, &["a", "b"]).await;
    assert!(matches!(store.create(new(site("s1"))).await, Err(StoreError::Taken { .. })));
    make(&store, port("52:54:00:00:00:01", "a")).await;
    let again = store.create(new(port("52:54:00:00:00:01", "b"))).await;
    assert!(matches!(again, Err(StoreError::Taken { .. })), "{again:?}");
}

pub(crate) async fn parents_must_exist_and_stay(store: Store) {
    let orphan = store.create(new(rack("r1", "nowhere"))).await;
    assert!(matches!(orphan, Err(StoreError::NoParent { .. })), "{orphan:?}");
    rack_with(&store, &["a"]).await;
    make(&store, port("52:54:00:00:00:01", "a")).await;
    for (name, deleted) in [
        ("sites/s1", store.delete::<Site>("sites/s1", None, event("sites/s1", "delete")).await),
        ("racks/r1", store.delete::<Rack>("racks/r1", None, event("racks/r1", "delete")).await),
    ] {
        assert!(matches!(deleted, Err(StoreError::InUse { .. })), "{name}: {deleted:?}");
    }
    store.delete::<Node>("nodes/a", Some(1), event("nodes/a", "delete")).await.unwrap();
    assert_eq!(names::<Port>(&store, by(&[])).await, Vec::<String>::new());
    store.delete::<Rack>("racks/r1", None, event("racks/r1", "delete")).await.unwrap();
    store.delete::<Site>("sites/s1", None, event("sites/s1", "delete")).await.unwrap();
}

pub(crate) async fn a_parent_cannot_vanish_under_a_new_child(store: Store) {
    for i in 0..10 {
        let name = format!("s{i}");
        make(&store, site(&name)).await;
        let (a, b) = (store.clone(), store.clone());
        let child = rack(&format!("r{i}"), &name);
        let full = format!("sites/{name}");
        let create = tokio::spawn(async move { a.create(new(child)).await.is_ok() });
        let delete =
            tokio::spawn(async move { b.delete::<Site>(&full, None, event(&full, "delete")).await.is_ok() });
        assert!(create.await.unwrap() != delete.await.unwrap(), "exactly one of the two");
    }
}

pub(crate) async fn pages_follow_each_other(store: Store) {
    for i in 0..10 {
        make(&store, site(&format!("s-{i}"))).await;
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = names::<Site>(&store, Query { after, limit: 3, ..Query::default() }).await;
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(page);
    }
    assert_eq!(seen, (0..10).map(|i| format!("sites/s-{i}")).collect::<Vec<_>>());
}

pub(crate) async fn lists_are_searched_by_column_and_label(store: Store) {
    rack_with(&store, &["a"]).await;
    let mut b = node("b");
    b.maintenance = true;
    b.owner = "p1".into();
    b.set_state(ProvisionState::Available);
    b.labels.insert("row".into(), "7".into());
    let mut b = make(&store, b).await;
    for (terms, found) in [
        (vec![("state", "verify failed")], vec!["nodes/a"]),
        (vec![("state", "available")], vec!["nodes/b"]),
        (vec![("maintenance", "true")], vec!["nodes/b"]),
        (vec![("maintenance", "false")], vec!["nodes/a"]),
        (vec![("labels.row", "7"), ("owner", "p1")], vec!["nodes/b"]),
        (vec![("labels.row", "8")], vec![]),
        (vec![("rack", "racks/r1")], vec!["nodes/a", "nodes/b"]),
        (vec![("owner", "' OR 1=1 --")], vec![]),
    ] {
        assert_eq!(names::<Node>(&store, by(&terms)).await, found, "{terms:?}");
    }
    // A label that was replaced is not found any more.
    b.labels.insert("row".into(), "8".into());
    store.replace(b, 1, &NodeExtra::default(), event("nodes/b", "update")).await.unwrap();
    assert_eq!(names::<Node>(&store, by(&[("labels.row", "7")])).await, Vec::<String>::new());
    let unknown = store.list::<Node>(&by(&[("colour", "red")])).await;
    assert!(matches!(unknown, Err(StoreError::UnknownField { .. })));
}

pub(crate) async fn projects_see_their_own(store: Store) {
    rack_with(&store, &["everybodys"]).await;
    for (name, owner, mac) in [("mine", "p1", "52:54:00:00:00:01"), ("theirs", "p2", "52:54:00:00:00:02")] {
        make(&store, Node { owner: owner.into(), ..node(name) }).await;
        make(&store, port(mac, name)).await;
    }
    let p1 = Query { project: Some("p1".into()), limit: 10, ..Query::default() };
    assert_eq!(names::<Node>(&store, p1.clone()).await, ["nodes/everybodys", "nodes/mine"]);
    assert_eq!(names::<Port>(&store, p1).await, ["ports/52-54-00-00-00-01"]);
}

pub(crate) async fn one_of_many_writers_of_a_revision_wins(store: Store) {
    let made = make(&store, site("s1")).await;
    let writers: Vec<_> = (0..16)
        .map(|i| {
            let (store, site) = (store.clone(), Site { description: format!("{i}"), ..made.clone() });
            tokio::spawn(async move { store.replace(site, 1, &(), event("sites/s1", "update")).await })
        })
        .collect();
    let mut winners = Vec::new();
    for writer in writers {
        match writer.await.unwrap() {
            Ok(site) => winners.push(site),
            Err(StoreError::Conflict { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(store.get::<Site>("sites/s1").await.unwrap(), winners[0]);
    assert_eq!(winners[0].etag, "2");
    assert_eq!(all_events(&store).await.len(), 2, "a lost write leaves no event");
}

pub(crate) async fn a_lost_write_says_whether_the_row_is_gone_or_newer(store: Store) {
    let made = make(&store, site("s1")).await;
    let stale = store.replace(made.clone(), 7, &(), event("sites/s1", "update")).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })));
    let stale = store.delete::<Site>("sites/s1", Some(7), event("sites/s1", "delete")).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })));
    store.delete::<Site>("sites/s1", Some(1), event("sites/s1", "delete")).await.unwrap();
    let gone = store.replace(made, 1, &(), event("sites/s1", "update")).await;
    assert!(matches!(gone, Err(StoreError::NotFound { .. })));
}

pub(crate) async fn a_request_id_makes_one_resource(store: Store) {
    let request = RequestRecord { id: "r-1".into(), method: "create site".into(), digest: b"d".to_vec() };
    let askers: Vec<_> = (0..8)
        .map(|_| {
            let (store, request) = (store.clone(), request.clone());
            tokio::spawn(async move {
                loop {
                    let new = New { request: Some(request.clone()), ..new(site("s1")) };
                    match store.create(new).await {
                        Err(StoreError::Conflict { .. }) => {}
                        other => return other.unwrap(),
                    }
                }
            })
        })
        .collect();
    let mut made = 0;
    for asker in askers {
        match asker.await.unwrap() {
            Created::New(_) => made += 1,
            Created::Repeated { request: first, name } => {
                assert_eq!((first, name.as_str()), (request.clone(), "sites/s1"));
            }
        }
    }
    assert_eq!(made, 1);
    assert_eq!(all_events(&store).await.len(), 1);
}

pub(crate) async fn a_dry_creation_leaves_nothing(store: Store) {
    store.create(New { dry: true, ..new(site("s1")) }).await.unwrap();
    assert!(store.get::<Site>("sites/s1").await.is_err());
    assert!(all_events(&store).await.is_empty());
    make(&store, site("s1")).await;
    let taken = store.create(New { dry: true, ..new(site("s1")) }).await;
    assert!(matches!(taken, Err(StoreError::Taken { .. })));
}

pub(crate) async fn events_have_no_gaps_whoever_writes(store: Store) {
    let writers: Vec<_> = (0..40)
        .map(|i| {
            let store = store.clone();
            // Every other name is taken: a rolled back transaction must not leave a hole.
            tokio::spawn(async move { store.create(new(site(&format!("s{}", i / 2)))).await.is_ok() })
        })
        .collect();
    for writer in writers {
        let _ = writer.await.unwrap();
    }
    let sequences: Vec<i64> = all_events(&store).await.iter().map(|e| e.sequence).collect();
    assert_eq!(sequences, (1..=20).collect::<Vec<_>>());
    let newest = EventQuery { descending: true, after: Some(10), limit: 3, ..EventQuery::default() };
    let newest = store.events(&newest).await.unwrap();
    assert_eq!(newest.iter().map(|e| e.sequence).collect::<Vec<_>>(), [9, 8, 7]);
    let one = EventQuery {
        terms: vec![("resource".into(), "sites/s3".into())],
        limit: 10,
        ..EventQuery::default()
    };
    let one = store.events(&one).await.unwrap();
    assert_eq!((one.len(), one[0].actor.as_str(), one[0].time), (1, "test", Some(now())));
}

pub(crate) async fn news_is_told_once_until_something_changed(store: Store) {
    let news = |resource: &str, detail: &str| Event { detail: detail.into(), ..event(resource, "seen") };
    let about = ["sites/s1".to_owned()];
    let tellers: Vec<_> = (0..8)
        .map(|_| {
            let (store, news, about) = (store.clone(), news("nodes/a", "x"), about.clone());
            tokio::spawn(async move { store.record_news(news, &about).await.unwrap() })
        })
        .collect();
    let mut told = 0;
    for teller in tellers {
        told += usize::from(teller.await.unwrap());
    }
    assert_eq!((told, all_events(&store).await.len()), (1, 1), "of those that come at once, one");
    for (resource, detail) in [("nodes/a", "y"), ("nodes/b", "x")] {
        assert!(store.record_news(news(resource, detail), &about).await.unwrap(), "{resource} {detail}");
    }
    // Another word in between changes nothing; what it is about does.
    assert!(!store.record_news(news("nodes/a", "x"), &about).await.unwrap());
    make(&store, site("s2")).await;
    assert!(!store.record_news(news("nodes/a", "x"), &about).await.unwrap());
    make(&store, site("s1")).await;
    assert!(store.record_news(news("nodes/a", "x"), &about).await.unwrap());
    assert!(!store.record_news(news("nodes/a", "x"), &about).await.unwrap());
    let sequences: Vec<_> = all_events(&store).await.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5, 6], "without gaps");
}

/// In whatever words, by several at once, of each resource, and again when it has begun again.
pub(crate) async fn what_happened_is_recorded_once_since_it_began(store: Store) {
    let at = |resource: &str, seconds: i64| Event {
        time: Some(Timestamp { seconds, nanos: 0 }),
        detail: format!("seen at {seconds}"),
        ..event(resource, "seen")
    };
    let began = 1_700_000_000;
    let tellers: Vec<_> = (1..=8)
        .map(|after| {
            let (store, news) = (store.clone(), at("nodes/a", began + after));
            tokio::spawn(async move { store.record_once(news, began * 1000).await.unwrap() })
        })
        .collect();
    let mut told = 0;
    for teller in tellers {
        told += usize::from(teller.await.unwrap());
    }
    assert_eq!((told, all_events(&store).await.len()), (1, 1), "of those that come at once, one");
    assert!(store.record_once(at("nodes/b", began + 1), began * 1000).await.unwrap());
    assert!(!store.record_once(at("nodes/a", began + 20), began * 1000).await.unwrap());
    assert!(store.record_once(at("nodes/a", began + 20), (began + 10) * 1000).await.unwrap());
    let sequences: Vec<_> = all_events(&store).await.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, [1, 2, 3], "without gaps");
}

async fn all_events(store: &Store) -> Vec<Event> {
    store.events(&EventQuery { limit: 1000, ..EventQuery::default() }).await.unwrap()
}

fn secret(change: SecretChange) -> NodeExtra {
    NodeExtra { secrets: Secrets { current: change, ..Secrets::default() }, ..NodeExtra::default() }
}

pub(crate) async fn secrets_are_kept_changed_and_cleared(store: Store) {
    rack_with(&store, &[]).await;
    let extra = secret(SecretChange::Store(b"sealed".to_vec()));
    store.create(New { extra, ..new(node("a")) }).await.unwrap();
    for (revision, change, left) in [
        (1, SecretChange::Keep, Some(b"sealed".to_vec())),
        (2, SecretChange::Store(b"other".to_vec()), Some(b"other".to_vec())),
        (3, SecretChange::Clear, None),
    ] {
        let stored = store.stored_node("nodes/a").await.unwrap();
        assert!(!stored.node.encode_to_vec().windows(6).any(|w| w == b"sealed"));
        let extra = secret(change);
        store.replace(stored.node, revision, &extra, event("nodes/a", "update")).await.unwrap();
        assert_eq!(store.stored_node("nodes/a").await.unwrap().secret, left);
    }
}

pub(crate) async fn one_bmc_has_one_node_whoever_comes_first(store: Store) {
    rack_with(&store, &["a", "b"]).await;
    let place =
        |place: &str| NodeExtra { bmc_place: Some(BmcPlace(Some(place.to_owned()))), ..NodeExtra::default() };
    let give = async |name: &str, at: &str| {
        let stored = store.stored_node(name).await.unwrap();
        let revision = stored.node.etag.parse().unwrap();
        store.replace(stored.node, revision, &place(at), event(name, "update")).await.map(drop)
    };
    // Two at once: one has it.
    let (one, other) = tokio::join!(give("nodes/a", "here"), give("nodes/b", "here"));
    assert_eq!([&one, &other].iter().filter(|outcome| outcome.is_ok()).count(), 1, "{one:?} {other:?}");
    let (first, second) = if one.is_ok() { ("nodes/a", "nodes/b") } else { ("nodes/b", "nodes/a") };
    let again = give(second, "here").await;
    assert!(matches!(&again, Err(StoreError::Rival { other, .. }) if other == first), "{again:?}");
    // A write that says nothing of the BMC leaves it.
    let stored = store.stored_node(first).await.unwrap();
    let revision = stored.node.etag.parse().unwrap();
    store.replace(stored.node, revision, &NodeExtra::default(), event(first, "update")).await.unwrap();
    assert!(give(second, "here").await.is_err());
    give(first, "there").await.unwrap();
    give(second, "here").await.unwrap();
}

pub(crate) async fn a_transition_takes_new_ports_and_leaves_known_ones(store: Store) {
    rack_with(&store, &["a", "b"]).await;
    make(&store, port("52:54:00:00:00:01", "b")).await;
    let applied = Applied { operation: "operations/o1".into(), event: "done".into() };
    let transition = Transition {
        node: Node { state: ProvisionState::Manageable.into(), ..store.get("nodes/a").await.unwrap() },
        revision: 1,
        applied: applied.clone(),
        secrets: Secrets::default(),
        shared: Vec::new(),
        system: None,
        ports: vec![
            port("52:54:00:00:00:01", "a"),
            port("52:54:00:00:00:02", "a"),
            port("52:54:00:00:00:03", "a"),
        ],
        event: event("nodes/a", "done"),
    };
    let before = all_events(&store).await.len();
    let moved = store.transition(transition.clone()).await.unwrap();
    assert_eq!(moved.etag, "2");
    let macs: Vec<_> = store.ports_of("nodes/a").await.unwrap().into_iter().map(|p| p.mac_address).collect();
    assert_eq!(macs, ["52:54:00:00:00:02", "52:54:00:00:00:03"]);
    assert_eq!(store.ports_of("nodes/b").await.unwrap().len(), 1, "another node's port stays its own");
    assert_eq!(store.stored_node("nodes/a").await.unwrap().applied, applied);
    assert_eq!(all_events(&store).await.len(), before + 3, "the move and the two ports");
    assert!(matches!(store.transition(transition).await, Err(StoreError::Conflict { .. })));
    let candidates = store.candidates().await.unwrap();
    assert_eq!(candidates.nodes.len(), 2);
    assert_eq!(candidates.rack_sites, [("racks/r1".to_owned(), "sites/s1".to_owned())]);
    assert!(candidates.bootable_nodes.is_empty(), "no port may boot from the network");
}

pub(crate) async fn a_join_token_serves_one_key(store: Store) {
    rack_with(&store, &[]).await;
    let token = |digest: &str| JoinToken { digest: digest.into(), rack: "racks/r1".into(), expires_ms: 1000 };
    for digest in ["t1", "t2", "t3"] {
        store.create_join_token(token(digest), event("racks/r1", "create join token")).await.unwrap();
    }
    let nowhere = JoinToken { rack: "racks/none".into(), ..token("t4") };
    assert!(matches!(
        store.create_join_token(nowhere, event("racks/none", "x")).await,
        Err(StoreError::NotFound { .. })
    ));
    let redeem = |digest: &'static str, key: &'static [u8], now| {
        let store = store.clone();
        async move { store.redeem_join_token(digest, key, now, |rack| event(rack, "join")).await.unwrap() }
    };
    let admitted = Redeemed::Rack("racks/r1".into());
    assert_eq!(redeem("none", b"k", 1).await, Redeemed::Unknown);
    assert_eq!(redeem("t1", b"k", 1).await, admitted);
    assert_eq!(redeem("t1", b"k", 2).await, admitted, "the same key may ask again");
    assert_eq!(redeem("t1", b"other", 2).await, Redeemed::Used);
    assert_eq!(redeem("t2", b"k", 1000).await, Redeemed::Expired);
    let racers: Vec<_> =
        [b"a", b"b", b"c", b"d"].into_iter().map(|key| tokio::spawn(redeem("t3", key, 1))).collect();
    let mut won = 0;
    for racer in racers {
        won += usize::from(racer.await.unwrap() == admitted);
    }
    assert_eq!(won, 1);
    let joins = all_events(&store).await.iter().filter(|e| e.action == "join").count();
    assert_eq!(joins, 2, "one for each token that was used");
    store.delete::<Rack>("racks/r1", None, event("racks/r1", "delete")).await.unwrap();
    assert_eq!(redeem("t3", b"a", 1).await, Redeemed::Unknown, "a rack takes its tokens with it");
}

pub(crate) async fn two_openings_share_everything(first: Store, second: Store) {
    make(&first, site("s1")).await;
    assert_eq!(names::<Site>(&second, by(&[])).await, ["sites/s1"]);
    make(&second, site("s2")).await;
    assert_eq!(all_events(&first).await.last().unwrap().sequence, 2);
}

pub(crate) async fn what_a_rack_sees_is_kept_beside_its_nodes(store: Store) {
    make(&store, site("s1")).await;
    make(&store, rack("r1", "s1")).await;
    make(&store, rack("r2", "s1")).await;
    let known = make(&store, node("n1")).await;
    make(&store, Node { rack: "racks/r2".into(), ..node("n2") }).await;
    let names = ["nodes/n1", "nodes/n2", "nodes/gone"].map(str::to_owned);
    for round in 1..=2 {
        let mut asked = Vec::new();
        let judge = |node: &Node, before: Option<&Observation>| {
            asked.push((node.name.clone(), before.map(|before| before.bmc_problem.clone())));
            let seen = Observation { bmc_problem: format!("round {round}"), ..Observation::default() };
            Some((seen, vec![event(&node.name, "power differs")]))
        };
        store.observe("racks/r1", &names, judge).await.unwrap();
        let before = (round > 1).then(|| format!("round {}", round - 1));
        assert_eq!(asked, [("nodes/n1".to_owned(), before)], "its own nodes only");
    }
    let seen = store.observations(&names).await.unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen["nodes/n1"].bmc_problem, "round 2");
    // The node itself was not written: whoever read it may write it.
    assert_eq!(store.get::<Node>("nodes/n1").await.unwrap(), known);
    let query = EventQuery {
        terms: vec![("action".into(), "power differs".into())],
        limit: 10,
        ..Default::default()
    };
    assert_eq!(store.events(&query).await.unwrap().len(), 2);
    store.delete::<Node>("nodes/n1", None, event("nodes/n1", "delete")).await.unwrap();
    assert_eq!(store.observations(&names).await.unwrap().len(), 0);
}

pub(crate) async fn a_rack_watches_its_own_nodes_page_by_page(store: Store) {
    make(&store, site("s1")).await;
    make(&store, rack("r1", "s1")).await;
    make(&store, rack("r2", "s1")).await;
    let at = |state: ProvisionState, name| Node { state: state.into(), ..node(name) };
    let sealed = secret(SecretChange::Store(b"sealed".to_vec()));
    let first = New { extra: sealed, ..new(at(ProvisionState::Active, "n1")) };
    store.create(first).await.unwrap();
    make(&store, at(ProvisionState::Enroll, "n2")).await;
    make(&store, Node { maintenance: true, ..at(ProvisionState::Active, "n3") }).await;
    make(&store, Node { rack: "racks/r2".into(), ..at(ProvisionState::Active, "n4") }).await;
    make(&store, at(ProvisionState::DeployFailed, "n5")).await;
    let page = |after: Option<&'static str>, limit| store.watchable("racks/r1", &["enroll"], after, limit);
    let names = |rows: Vec<Watchable>| rows.into_iter().map(|row| row.node.name).collect::<Vec<_>>();
    let all = page(None, 10).await.unwrap();
    assert_eq!(all[0].secret.as_deref(), Some(b"sealed".as_slice()));
    assert_eq!(names(all), ["nodes/n1", "nodes/n5"]);
    assert_eq!(names(page(None, 1).await.unwrap()), ["nodes/n1"]);
    assert_eq!(names(page(Some("nodes/n1"), 10).await.unwrap()), ["nodes/n5"]);
}

pub(crate) async fn a_rotation_is_found_whatever_its_node_is_at(store: Store) {
    make(&store, site("s1")).await;
    make(&store, rack("r1", "s1")).await;
    make(&store, rack("r2", "s1")).await;
    let rotates = |change| NodeExtra {
        secrets: Secrets { next: change, ..Secrets::default() },
        ..NodeExtra::default()
    };
    let next = || rotates(SecretChange::Store(b"next".to_vec()));
    let verified = |name| Node { state: ProvisionState::Active.into(), ..node(name) };
    make(&store, verified("n1")).await;
    for rotating in [
        Node { maintenance: true, ..verified("n2") },
        Node { state: ProvisionState::Enroll.into(), ..node("n3") },
        Node { rack: "racks/r2".into(), ..verified("n4") },
    ] {
        store.create(New { extra: next(), ..new(rotating) }).await.unwrap();
    }
    let found = async |rack: &'static str| {
        let rows = store.rotating(Some(rack).filter(|rack| !rack.is_empty())).await.unwrap();
        assert!(rows.iter().all(|row| row.next_secret.as_deref() == Some(b"next".as_slice())));
        rows.into_iter().map(|row| row.node.name).collect::<Vec<_>>()
    };
    assert_eq!(found("racks/r1").await, ["nodes/n2", "nodes/n3"]);
    assert_eq!(found("racks/r2").await, ["nodes/n4"]);
    assert_eq!(found("").await, ["nodes/n2", "nodes/n3", "nodes/n4"], "of all racks");
    let stored = store.stored_node("nodes/n2").await.unwrap();
    let ended = rotates(SecretChange::Clear);
    store.replace(stored.node, 1, &ended, event("nodes/n2", "update")).await.unwrap();
    assert_eq!(found("racks/r1").await, ["nodes/n3"]);
}
