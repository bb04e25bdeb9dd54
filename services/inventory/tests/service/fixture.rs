use farrier_identity::ca::Authority;
use farrier_identity::client::{Expect, channel};
use farrier_identity::{Credentials, Identity, Role};
use farrier_inventory::{Config, run};
use farrier_proto::inventory::discovered_service_client::DiscoveredServiceClient;
use farrier_proto::inventory::dispatch_service_client::DispatchServiceClient;
use farrier_proto::inventory::event_service_client::EventServiceClient;
use farrier_proto::inventory::flavor_service_client::FlavorServiceClient;
use farrier_proto::inventory::join_service_client::JoinServiceClient;
use farrier_proto::inventory::node_service_client::NodeServiceClient;
use farrier_proto::inventory::port_service_client::PortServiceClient;
use farrier_proto::inventory::rack_registry_service_client::RackRegistryServiceClient;
use farrier_proto::inventory::site_service_client::SiteServiceClient;
use farrier_proto::inventory::snapshot_service_client::SnapshotServiceClient;
use farrier_proto::inventory::watch_service_client::WatchServiceClient;
use farrier_proto::inventory::*;
use farrier_runtime::error::reason_of;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

pub(crate) const PASSWORD: &str = "hunter2-0123456789";

/// A whole service of its own.
pub(crate) struct Fixture {
    pub(crate) authority: Authority,
    pub(crate) uri: String,
    _stop: DropGuard,
    _server: JoinHandle<anyhow::Result<()>>,
    pub(crate) dir: tempfile::TempDir,
}

/// Every client of one identity.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) sites: SiteServiceClient<Channel>,
    pub(crate) racks: RackRegistryServiceClient<Channel>,
    pub(crate) nodes: NodeServiceClient<Channel>,
    pub(crate) ports: PortServiceClient<Channel>,
    pub(crate) flavors: FlavorServiceClient<Channel>,
    pub(crate) events: EventServiceClient<Channel>,
    pub(crate) joins: JoinServiceClient<Channel>,
    pub(crate) dispatch: DispatchServiceClient<Channel>,
    pub(crate) snapshot: SnapshotServiceClient<Channel>,
    pub(crate) watch: WatchServiceClient<Channel>,
    pub(crate) discovered: DiscoveredServiceClient<Channel>,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::with_ca(true).await
    }

    /// Another process with the same database: why it does not start.
    pub(crate) async fn refuses_to_start_with_key(&self, key: &str) -> String {
        let config = Config {
            listener: tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
            credentials: credentials(&self.authority, &Identity::Service("inventory".into())),
            database_url: format!("sqlite://{}", self.dir.path().join("db").display()),
            secrets_key: self.dir.path().join(key).into(),
            ca_dir: None,
        };
        let ended =
            tokio::time::timeout(Duration::from_secs(60), run(config, CancellationToken::new())).await;
        format!("{:#}", ended.expect("it does not serve").unwrap_err())
    }

    pub(crate) async fn with_ca(embedded: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca_dir = dir.path().join("ca");
        let authority = Authority::init(&ca_dir, "test").unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("https://{}", listener.local_addr().unwrap());
        let config = Config {
            listener,
            credentials: credentials(&authority, &Identity::Service("inventory".into())),
            database_url: format!("sqlite://{}", dir.path().join("db").display()),
            secrets_key: dir.path().join("key").into(),
            ca_dir: embedded.then_some(ca_dir),
        };
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(run(config, shutdown.clone()));
        Self { authority, uri, _stop: shutdown.drop_guard(), _server: server, dir }
    }

    pub(crate) fn clients(&self, identity: Identity) -> Clients {
        self.clients_with(&credentials(&self.authority, &identity))
    }

    pub(crate) fn clients_with(&self, credentials: &Credentials) -> Clients {
        let inventory = Expect::Exactly(Identity::Service("inventory".into()));
        Clients::new(channel(&self.uri, credentials, inventory).unwrap())
    }

    pub(crate) fn user(&self, role: Role, project: &str) -> Clients {
        self.clients(Identity::User { name: "u".into(), role, project: project.into() })
    }

    pub(crate) fn operator(&self) -> Clients {
        self.user(Role::Operator, "")
    }

    pub(crate) fn scheduler(&self) -> Clients {
        self.clients(Identity::Service("scheduler".into()))
    }

    pub(crate) fn rack(&self, id: &str) -> Clients {
        self.clients(Identity::Rack(id.into()))
    }

    /// `sites/s1`, `racks/r1` and these nodes; returns the operator who made them.
    pub(crate) async fn with_nodes(&self, names: &[&str]) -> Clients {
        let mut operator = self.operator();
        operator.create_site("s1").await.unwrap();
        operator.create_rack("r1").await.unwrap();
        for name in names {
            operator.create_node(node(name)).await.unwrap();
        }
        operator
    }
}

pub(crate) fn credentials(authority: &Authority, identity: &Identity) -> Credentials {
    let hosts = ["127.0.0.1".to_owned()];
    let issued = authority.issue(identity, &hosts, Duration::from_secs(3600)).unwrap();
    Credentials::from_pem(&issued.cert_pem, &issued.key_pem, authority.cert_pem()).unwrap()
}

impl Clients {
    pub(crate) fn new(channel: Channel) -> Self {
        Self {
            sites: SiteServiceClient::new(channel.clone()),
            racks: RackRegistryServiceClient::new(channel.clone()),
            nodes: NodeServiceClient::new(channel.clone()),
            ports: PortServiceClient::new(channel.clone()),
            flavors: FlavorServiceClient::new(channel.clone()),
            events: EventServiceClient::new(channel.clone()),
            joins: JoinServiceClient::new(channel.clone()),
            dispatch: DispatchServiceClient::new(channel.clone()),
            discovered: DiscoveredServiceClient::new(channel.clone()),
            snapshot: SnapshotServiceClient::new(channel.clone()),
            watch: WatchServiceClient::new(channel),
        }
    }

    pub(crate) async fn create_site(&mut self, id: &str) -> Result<Site, Status> {
        let site = Some(Site { name: format!("sites/{id}"), ..Site::default() });
        inner(self.sites.create_site(CreateSiteRequest { site, ..Default::default() }).await)
    }

    pub(crate) async fn create_rack(&mut self, id: &str) -> Result<Rack, Status> {
        let rack = Some(Rack {
            name: format!("racks/{id}"),
            site: "sites/s1".into(),
            address: "https://127.0.0.1:7100".into(),
            ..Rack::default()
        });
        inner(self.racks.create_rack(CreateRackRequest { rack, ..Default::default() }).await)
    }

    pub(crate) async fn create_node(&mut self, node: Node) -> Result<Node, Status> {
        inner(self.nodes.create_node(CreateNodeRequest { node: Some(node), ..Default::default() }).await)
    }

    pub(crate) async fn node(&mut self, id: &str) -> Result<Node, Status> {
        inner(self.nodes.get_node(GetNodeRequest { name: format!("nodes/{id}") }).await)
    }

    pub(crate) async fn update_node(&mut self, node: Node, mask: &[&str]) -> Result<Node, Status> {
        let paths = mask.iter().map(|p| (*p).to_owned()).collect();
        let update_mask = (!mask.is_empty()).then_some(prost_types::FieldMask { paths });
        inner(self.nodes.update_node(UpdateNodeRequest { node: Some(node), update_mask }).await)
    }

    pub(crate) async fn list_nodes(&mut self, filter: &str) -> Result<Vec<String>, Status> {
        let request = ListNodesRequest { filter: filter.into(), ..Default::default() };
        Ok(inner(self.nodes.list_nodes(request).await)?.nodes.into_iter().map(|n| n.name).collect())
    }

    pub(crate) async fn all_events(&mut self) -> Vec<Event> {
        let request = ListEventsRequest { page_size: 1000, ..Default::default() };
        inner(self.events.list_events(request).await).unwrap().events
    }

    /// An event of one operation on one node.
    pub(crate) async fn transition(
        &mut self,
        id: &str,
        event: &str,
        operation: &str,
    ) -> Result<Node, Status> {
        let request = transition(id, event, operation);
        Ok(inner(self.dispatch.transition_node(request).await)?.node.unwrap())
    }

    /// From `enroll` to `available`.
    pub(crate) async fn provide(&mut self, id: &str) {
        for (event, operation) in [("manage", "m"), ("done", "m"), ("provide", "p"), ("done", "p")] {
            self.transition(id, event, operation).await.unwrap();
        }
    }
}

pub(crate) fn transition(id: &str, event: &str, operation: &str) -> TransitionNodeRequest {
    TransitionNodeRequest {
        node: format!("nodes/{id}"),
        event: event.into(),
        operation: format!("operations/{operation}"),
        ..Default::default()
    }
}

pub(crate) fn node(id: &str) -> Node {
    Node {
        name: format!("nodes/{id}"),
        rack: "racks/r1".into(),
        bmc: Some(Bmc {
            driver: "ipmi".into(),
            address: format!("{id}:6230"),
            user: "admin".into(),
            password: PASSWORD.into(),
            ..Bmc::default()
        }),
        ..Node::default()
    }
}

pub(crate) fn inner<T>(response: Result<Response<T>, Status>) -> Result<T, Status> {
    response.map(Response::into_inner)
}

/// The call was refused, for this reason.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, reason: &str) -> String {
    let status = answer.expect_err("expected a refusal");
    assert_eq!((status.code(), reason_of(&status).as_deref()), (code, Some(reason)), "{status:?}");
    status.message().to_owned()
}
