//! rackd's own watch over hundreds of BMCs on the wire, one in ten of them bad, with inventory's own events.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use farrier_identity::ca::{Authority, write_identity};
use farrier_identity::client::{Expect, channel};
use farrier_identity::{Identity, Role};
use farrier_proto::inventory::dispatch_service_client::DispatchServiceClient;
use farrier_proto::inventory::event_service_client::EventServiceClient;
use farrier_proto::inventory::node_service_client::NodeServiceClient;
use farrier_proto::inventory::rack_registry_service_client::RackRegistryServiceClient;
use farrier_proto::inventory::site_service_client::SiteServiceClient;
use farrier_proto::inventory::*;
use farrier_proto::types::PowerState;
use farrier_runtime::time::{millis, now_ms};
use farrier_sim::bmc::fleet::{Fleet, FleetOptions, KINDS, Script};
use farrier_sim::bmc::{Chassis as _, PowerAction, Secret};
use futures::StreamExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::bench::{VALID, credentials, rackd_config, within};

const NODES: usize = 500;
const PASSWORD: &str = "pretend";
/// One in ten is bad.
const BAD: &str = r#"
    [[fault]]
    bmcs = { from = 9, step = 40 }
    what = { drop = 1 }
    [[fault]]
    bmcs = { from = 19, step = 40 }
    what = "mute"
    [[fault]]
    bmcs = { from = 29, step = 40 }
    what = { delay = "5s" }
    [[fault]]
    bmcs = { from = 39, step = 40 }
    what = "garbage"
"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Well,
    /// Says nothing, or does what it is asked without a word.
    Silent,
    /// Each answer takes five seconds, and the first look has six of them.
    Slow,
    Garbage,
}

fn kind(index: usize) -> Kind {
    match index % 40 {
        9 | 19 => Kind::Silent,
        29 => Kind::Slow,
        39 => Kind::Garbage,
        _ => Kind::Well,
    }
}

/// Inventory and rackd, each by its own code, and who asks and does things.
struct Rack {
    nodes: NodeServiceClient<Channel>,
    events: EventServiceClient<Channel>,
    stop: CancellationToken,
    servers: Vec<JoinHandle<anyhow::Result<()>>>,
    _dir: tempfile::TempDir,
}

impl Rack {
    /// Looks at each of these BMCs once a second.
    async fn start(fleet: &Fleet) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (authority, _) = Authority::generate("test").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inventory = format!("https://{}", listener.local_addr().unwrap());
        let config = farrier_inventory::Config {
            listener,
            credentials: credentials(&authority, Identity::Service("inventory".into())),
            database_url: format!("sqlite://{}", dir.path().join("inventory.db").display()),
            secrets_key: dir.path().join("inventory.key").into(),
            ca_dir: None,
        };
        let stop = CancellationToken::new();
        let mut servers = vec![tokio::spawn(farrier_inventory::run(config, stop.clone()))];
        let to = |identity| {
            let expect = Expect::Exactly(Identity::Service("inventory".into()));
            channel(&inventory, &credentials(&authority, identity), expect).unwrap()
        };
        let operator = to(Identity::User { name: "u".into(), role: Role::Operator, project: String::new() });
        let scheduler = to(Identity::Service("scheduler".into()));
        describe(&operator, &scheduler, fleet).await;

        let identity = dir.path().join("identity");
        let issued = authority.issue(&Identity::Rack("r1".into()), &["127.0.0.1".into()], VALID).unwrap();
        write_identity(&identity, &issued, authority.cert_pem()).unwrap();
        // Nothing is fetched.
        let mut config = rackd_config(dir.path(), &identity, "https://127.0.0.1:1");
        config.inventory = Some(inventory.clone());
        config.watch.every_seconds = 1;
        let (_, running) = farrier_rackd::start(config, stop.clone()).await.unwrap();
        servers.push(tokio::spawn(running));
        let (nodes, events) = (NodeServiceClient::new(operator.clone()), EventServiceClient::new(operator));
        Self { nodes, events, stop, servers, _dir: dir }
    }

    /// What is seen of each node, by number.
    async fn seen(&self) -> BTreeMap<usize, Observation> {
        let (mut seen, mut page_token) = (BTreeMap::new(), String::new());
        loop {
            let request = ListNodesRequest { page_size: 1000, page_token, ..ListNodesRequest::default() };
            let page = self.nodes.clone().list_nodes(request).await.unwrap().into_inner();
            for node in page.nodes {
                let index = node.name.strip_prefix("nodes/n").unwrap().parse().unwrap();
                seen.extend(node.observation.map(|observation| (index, observation)));
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return seen;
            }
        }
    }

    /// Events of power of each node, oldest first.
    async fn power_events(&self) -> BTreeMap<String, Vec<String>> {
        let (mut told, mut page_token) = (BTreeMap::<_, Vec<_>>::new(), String::new());
        loop {
            let request = ListEventsRequest { page_size: 1000, page_token, ..ListEventsRequest::default() };
            let page = self.events.clone().list_events(request).await.unwrap().into_inner();
            for event in page.events.into_iter().filter(|event| event.action.starts_with("power ")) {
                let words = format!("{}: {} {}", event.action, event.before, event.after);
                told.entry(event.resource).or_default().push(words);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return told;
            }
        }
    }

    async fn shutdown(self) {
        self.stop.cancel();
        for server in self.servers {
            within(server).await.unwrap().unwrap();
        }
    }
}

/// A site, a rack, and a verified node for each BMC.
async fn describe(operator: &Channel, scheduler: &Channel, fleet: &Fleet) {
    let site = Some(Site { name: "sites/s1".into(), ..Site::default() });
    let create = CreateSiteRequest { site, ..CreateSiteRequest::default() };
    SiteServiceClient::new(operator.clone()).create_site(create).await.unwrap();
    let address = "https://127.0.0.1:7100".into();
    let rack = Some(farrier_proto::inventory::Rack {
        name: "racks/r1".into(),
        site: "sites/s1".into(),
        address,
        ..Default::default()
    });
    let create = CreateRackRequest { rack, ..CreateRackRequest::default() };
    RackRegistryServiceClient::new(operator.clone()).create_rack(create).await.unwrap();
    let works = fleet.bmcs().iter().enumerate().map(|(index, bmc)| async move {
        let bmc = Bmc {
            driver: "ipmi".into(),
            address: bmc.ipmi_address().unwrap().to_string(),
            user: "admin".into(),
            password: PASSWORD.into(),
            ..Bmc::default()
        };
        let name = format!("nodes/n{index}");
        let node = Some(Node { name, rack: "racks/r1".into(), bmc: Some(bmc), ..Node::default() });
        let create = CreateNodeRequest { node, ..CreateNodeRequest::default() };
        NodeServiceClient::new(operator.clone()).create_node(create).await.unwrap();
        for event in ["manage", "done"] {
            let request = TransitionNodeRequest {
                node: format!("nodes/n{index}"),
                event: event.into(),
                operation: format!("operations/m{index}"),
                ..TransitionNodeRequest::default()
            };
            DispatchServiceClient::new(scheduler.clone()).transition_node(request).await.unwrap();
        }
    });
    futures::stream::iter(works).buffer_unordered(8).collect::<Vec<()>>().await;
}

/// Looks again until `wanted`.
async fn until(rack: &Rack, mut wanted: impl FnMut(&BTreeMap<usize, Observation>) -> bool) {
    within(async {
        while !wanted(&rack.seen().await) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_hundreds_each_change_is_an_event_within_one_poll_and_the_bad_ones_delay_nobody() {
    let fleet = Fleet::start(FleetOptions {
        count: NODES,
        first: Ipv4Addr::new(127, 44, 0, 1),
        ipmi_port: Some(0),
        redfish_port: None,
        kinds: KINDS.first().copied().into_iter().collect(),
        user: "admin".into(),
        password: Secret::new(PASSWORD),
        kg: None,
        script: Script::parse(BAD).unwrap(),
    });
    let fleet = fleet.await.unwrap();
    let rack = Rack::start(&fleet).await;
    let well: Vec<usize> = (0..NODES).filter(|index| kind(*index) == Kind::Well).collect();
    assert_eq!(well.len(), NODES * 9 / 10);
    let are = |seen: &BTreeMap<usize, Observation>, state| {
        well.iter().all(|index| seen.get(index).is_some_and(|seen| seen.power_state() == state))
    };
    until(&rack, |seen| are(seen, PowerState::Off)).await;

    for (action, old, new) in [
        (PowerAction::On, PowerState::Off, PowerState::On),
        (PowerAction::Off, PowerState::On, PowerState::Off),
        (PowerAction::On, PowerState::Off, PowerState::On),
    ] {
        for index in &well {
            fleet.bmcs()[*index].machine.set_power(action).await.unwrap();
        }
        // A look may have read it just before and ended just after: one such, and no second one.
        let (changed_ms, mut late) = (now_ms(), BTreeMap::<usize, BTreeSet<i64>>::new());
        until(&rack, |seen| {
            for index in &well {
                let Some(seen) = seen.get(index).filter(|seen| seen.power_state() == old) else { continue };
                let at = seen.power_time.as_ref().map_or(0, millis);
                if at > changed_ms {
                    late.entry(*index).or_default().insert(at);
                }
            }
            are(seen, new)
        })
        .await;
        let twice: Vec<_> = late.iter().filter(|(_, looks)| looks.len() > 1).collect();
        assert!(twice.is_empty(), "{new:?}: polled again after the change and not seen: {twice:?}");
    }

    // All that while a slow one was at its first look: nobody waited for it, and its own result is still to come.
    let seen = rack.seen().await;
    for index in (0..NODES).filter(|index| kind(*index) == Kind::Slow) {
        assert!(!seen.contains_key(&index), "number {index} answers slowly: {:?}", seen.get(&index));
    }
    let told = rack.power_events().await;
    let expected = ["power changed: off on", "power changed: on off", "power changed: off on"];
    for index in 0..NODES {
        let told = told.get(&format!("nodes/n{index}")).map(Vec::as_slice).unwrap_or_default();
        match kind(index) {
            Kind::Well => assert_eq!(told, expected, "number {index}"),
            _ => assert_eq!(told, [""; 0], "number {index}"),
        }
    }
    // And the bad ones are said to be what they are.
    until(&rack, |seen| {
        let is_away = |index: usize| {
            seen.get(&index)
                .is_some_and(|seen| seen.bmc_health() != BmcHealth::Ok && !seen.bmc_problem.is_empty())
        };
        (0..NODES).filter(|index| matches!(kind(*index), Kind::Silent | Kind::Garbage)).all(is_away)
    })
    .await;
    rack.shutdown().await;
    fleet.shutdown().await;
}
