use crate::rack::{self, PlayedRack};
use farrier_identity::ca::{Authority, write_identity};
use farrier_identity::client::{Expect, channel};
use farrier_identity::server::ClientAuth;
use farrier_identity::{Credentials, Identity, Role};
use farrier_proto::images::image_service_client::ImageServiceClient;
use farrier_proto::images::upload_image_request::{Header, Part};
use farrier_proto::images::{Compression, Image, ImageFormat, UploadImageRequest};
use farrier_proto::inventory::dispatch_service_client::DispatchServiceClient;
use farrier_proto::inventory::event_service_client::EventServiceClient;
use farrier_proto::inventory::flavor_service_client::FlavorServiceClient;
use farrier_proto::inventory::node_service_client::NodeServiceClient;
use farrier_proto::inventory::port_service_client::PortServiceClient;
use farrier_proto::inventory::rack_registry_service_client::RackRegistryServiceClient;
use farrier_proto::inventory::site_service_client::SiteServiceClient;
use farrier_proto::inventory::*;
use farrier_proto::scheduler::instance_service_client::InstanceServiceClient;
use farrier_proto::scheduler::node_action_service_client::NodeActionServiceClient;
use farrier_proto::scheduler::operation_service_client::OperationServiceClient;
use farrier_proto::scheduler::*;
use farrier_proto::types::{Disk, Hardware, NodeVerb};
use farrier_runtime::error::reason_of;
use farrier_runtime::serve::Server;
use sha2::{Digest as _, Sha256};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

/// A loaded machine is slow; a test that passes never waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The scheduler and everything around it.
pub(crate) struct Fixture {
    authority: Authority,
    scheduler: String,
    inventory: String,
    images: String,
    inventory_addr: SocketAddr,
    pub(crate) rack: PlayedRack,
    /// The scheduler's own, as it reads them from its directory.
    pub(crate) credentials: Credentials,
    inventory_server: Option<Running>,
    images_server: Option<Running>,
    _stop: DropGuard,
    dir: tempfile::TempDir,
}

impl Fixture {
    /// `sites/s1`, `racks/r1` that takes no task yet, `images/os` and `flavors/any`.
    pub(crate) async fn start() -> Self {
        if std::env::var_os("FARRIER_LOG").is_some() {
            farrier_runtime::telemetry::start();
        }
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::init(&dir.path().join("ca"), "test").unwrap();
        let stop = CancellationToken::new();

        let (listener, images) = listen().await;
        let images_server = serve_images(&authority, dir.path(), listener);

        let (listener, rack_uri) = listen().await;
        let rack = PlayedRack::closed();
        let server = Server {
            listener,
            credentials: credentials(&authority, &Identity::Rack("r1".into())),
            client_auth: ClientAuth::Required,
            services: rack::SERVICES,
            rules: rack::RULES,
            routes: rack.routes(),
            probe: farrier_runtime::health::probe(|| async { Ok::<(), String>(()) }),
        };
        tokio::spawn(server.run(stop.clone()));

        let (listener, inventory) = listen().await;
        let inventory_addr = listener.local_addr().unwrap();
        let identity = dir.path().join("scheduler");
        issue_into(&authority, &identity, "scheduler");
        let own = Credentials::load(&identity).unwrap();
        let (scheduler_listener, scheduler) = listen().await;
        let mut fixture = Self {
            authority,
            scheduler,
            inventory: inventory.clone(),
            images: images.clone(),
            inventory_addr,
            rack,
            credentials: own.clone(),
            inventory_server: None,
            images_server: Some(images_server),
            _stop: stop.clone().drop_guard(),
            dir,
        };
        fixture.serve_inventory(listener);
        tokio::spawn(farrier_scheduler::run(
            farrier_scheduler::Config {
                listener: scheduler_listener,
                credentials: own,
                database_url: database(fixture.dir.path(), "scheduler"),
                secrets_key: fixture.dir.path().join("scheduler.key").into(),
                inventory,
                images: images.clone(),
            },
            stop,
        ));

        let mut operator = fixture.operator();
        operator.describe(&rack_uri).await;
        operator.create_flavor("any").await;
        let admin = Identity::User { name: "admin".into(), role: Role::Admin, project: String::new() };
        let admin = credentials(&fixture.authority, &admin);
        upload(ImageServiceClient::new(channel(&images, &admin, Expect::AnyService).unwrap())).await;
        fixture
    }

    fn serve_inventory(&mut self, listener: TcpListener) {
        let config = farrier_inventory::Config {
            listener,
            credentials: credentials(&self.authority, &Identity::Service("inventory".into())),
            database_url: database(self.dir.path(), "inventory"),
            secrets_key: self.dir.path().join("inventory.key").into(),
            ca_dir: None,
        };
        let stop = CancellationToken::new();
        self.inventory_server = Some((stop.clone(), tokio::spawn(farrier_inventory::run(config, stop))));
    }

    /// Ends the images service; with it every connection to it.
    pub(crate) async fn stop_images(&mut self) {
        let (stop, server) = self.images_server.take().unwrap();
        stop.cancel();
        within(server).await.unwrap().unwrap();
    }

    /// Starts the images service again, at its address.
    pub(crate) async fn start_images(&mut self) {
        let address = self.images.trim_start_matches("https://");
        let listener = TcpListener::bind(address).await.unwrap();
        self.images_server = Some(serve_images(&self.authority, self.dir.path(), listener));
    }

    /// Ends inventory; with it every connection to it.
    pub(crate) async fn stop_inventory(&mut self) {
        let (stop, server) = self.inventory_server.take().unwrap();
        stop.cancel();
        within(server).await.unwrap().unwrap();
    }

    /// Starts inventory again, at its address.
    pub(crate) async fn start_inventory(&mut self) {
        let listener = TcpListener::bind(self.inventory_addr).await.unwrap();
        self.serve_inventory(listener);
    }

    /// Gives the scheduler the certificate of `service`, for its next connections.
    pub(crate) fn scheduler_becomes(&self, service: &str) {
        issue_into(&self.authority, &self.dir.path().join("scheduler"), service);
        assert!(self.credentials.reload().unwrap());
    }

    pub(crate) fn clients(&self, identity: Identity) -> Clients {
        let credentials = credentials(&self.authority, &identity);
        let to = |uri: &str| channel(uri, &credentials, Expect::AnyService).unwrap();
        Clients::new(to(&self.scheduler), to(&self.inventory))
    }

    /// The images service, as somebody.
    pub(crate) fn images(&self, who: Identity) -> ImageServiceClient<Channel> {
        let credentials = credentials(&self.authority, &who);
        ImageServiceClient::new(channel(&self.images, &credentials, Expect::AnyService).unwrap())
    }

    pub(crate) fn user(&self, name: &str, role: Role, project: &str) -> Clients {
        self.clients(Identity::User { name: name.into(), role, project: project.into() })
    }

    pub(crate) fn operator(&self) -> Clients {
        self.user("olga", Role::Operator, "")
    }

    pub(crate) fn member(&self, project: &str) -> Clients {
        self.user("max", Role::Member, project)
    }

    /// What the scheduler itself may say to inventory.
    pub(crate) fn as_scheduler(&self) -> Clients {
        self.clients(Identity::Service("scheduler".into()))
    }

    /// A node that is `available` and can boot.
    pub(crate) async fn available(&self, id: &str) {
        self.available_with(id, 1).await;
    }

    /// The same with another port, for the second node of a test and further ones.
    pub(crate) async fn available_with(&self, id: &str, port: u8) {
        let mut operator = self.operator();
        operator.create_node(id).await;
        operator.create_port(id, port).await;
        self.provide(id).await;
    }

    /// Moves a node to `available`, with a disk.
    pub(crate) async fn provide(&self, id: &str) {
        let mut scheduler = self.as_scheduler();
        for (event, operation) in [("manage", "m"), ("done", "m"), ("provide", "p")] {
            scheduler.transition(id, event, &format!("operations/{id}-{operation}")).await.unwrap();
        }
        let disk = Disk { size_bytes: 1 << 40, ..Disk::default() };
        let request = TransitionNodeRequest {
            node: format!("nodes/{id}"),
            event: "done".into(),
            operation: format!("operations/{id}-p"),
            hardware: Some(Hardware { disks: vec![disk], ..Hardware::default() }),
            ..Default::default()
        };
        scheduler.dispatch.transition_node(request).await.unwrap();
    }

    /// Every file of the scheduler's database.
    pub(crate) fn database_files(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().path());
        let ours = files.filter(|p| {
            p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("scheduler.db"))
        });
        ours.collect()
    }
}

/// Clients of one identity.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) instances: InstanceServiceClient<Channel>,
    pub(crate) operations: OperationServiceClient<Channel>,
    pub(crate) actions: NodeActionServiceClient<Channel>,
    pub(crate) sites: SiteServiceClient<Channel>,
    pub(crate) racks: RackRegistryServiceClient<Channel>,
    pub(crate) nodes: NodeServiceClient<Channel>,
    pub(crate) ports: PortServiceClient<Channel>,
    pub(crate) flavors: FlavorServiceClient<Channel>,
    pub(crate) events: EventServiceClient<Channel>,
    pub(crate) dispatch: DispatchServiceClient<Channel>,
}

impl Clients {
    fn new(scheduler: Channel, inventory: Channel) -> Self {
        Self {
            instances: InstanceServiceClient::new(scheduler.clone()),
            operations: OperationServiceClient::new(scheduler.clone()),
            actions: NodeActionServiceClient::new(scheduler),
            sites: SiteServiceClient::new(inventory.clone()),
            racks: RackRegistryServiceClient::new(inventory.clone()),
            nodes: NodeServiceClient::new(inventory.clone()),
            ports: PortServiceClient::new(inventory.clone()),
            flavors: FlavorServiceClient::new(inventory.clone()),
            events: EventServiceClient::new(inventory.clone()),
            dispatch: DispatchServiceClient::new(inventory),
        }
    }

    async fn describe(&mut self, rack_uri: &str) {
        let site = Some(Site { name: "sites/s1".into(), ..Site::default() });
        self.sites.create_site(CreateSiteRequest { site, ..Default::default() }).await.unwrap();
        let rack = Some(Rack {
            name: "racks/r1".into(),
            site: "sites/s1".into(),
            address: rack_uri.into(),
            ..Rack::default()
        });
        self.racks.create_rack(CreateRackRequest { rack, ..Default::default() }).await.unwrap();
    }

    pub(crate) async fn create_flavor(&mut self, id: &str) {
        let flavor = Some(Flavor { name: format!("flavors/{id}"), ..Flavor::default() });
        self.flavors.create_flavor(CreateFlavorRequest { flavor, ..Default::default() }).await.unwrap();
    }

    pub(crate) async fn create_node(&mut self, id: &str) {
        self.create_node_in(id, "racks/r1").await;
    }

    pub(crate) async fn create_node_in(&mut self, id: &str, rack: &str) {
        let bmc = Bmc {
            driver: "ipmi".into(),
            address: id.to_owned(),
            user: "admin".into(),
            password: "secret".into(),
            ..Bmc::default()
        };
        let node =
            Some(Node { name: format!("nodes/{id}"), rack: rack.into(), bmc: Some(bmc), ..Node::default() });
        self.nodes.create_node(CreateNodeRequest { node, ..Default::default() }).await.unwrap();
    }

    pub(crate) async fn create_port(&mut self, node: &str, last: u8) {
        let port = Some(Port {
            name: format!("ports/52-54-00-00-00-{last:02x}"),
            node: format!("nodes/{node}"),
            mac_address: format!("52:54:00:00:00:{last:02x}"),
            pxe_enabled: true,
            ..Port::default()
        });
        self.ports.create_port(CreatePortRequest { port, ..Default::default() }).await.unwrap();
    }

    pub(crate) async fn node(&mut self, id: &str) -> Node {
        inner(self.nodes.get_node(GetNodeRequest { name: format!("nodes/{id}") }).await).unwrap()
    }

    pub(crate) async fn instance(&mut self, id: &str) -> Result<Instance, Status> {
        inner(self.instances.get_instance(GetInstanceRequest { name: format!("instances/{id}") }).await)
    }

    pub(crate) async fn transition(
        &mut self,
        id: &str,
        event: &str,
        operation: &str,
    ) -> Result<Node, Status> {
        let request = TransitionNodeRequest {
            node: format!("nodes/{id}"),
            event: event.into(),
            operation: operation.into(),
            ..Default::default()
        };
        Ok(inner(self.dispatch.transition_node(request).await)?.node.unwrap())
    }

    pub(crate) async fn create(&mut self, id: &str) -> Result<Operation, Status> {
        self.create_with(create(id)).await
    }

    pub(crate) async fn create_with(&mut self, request: CreateInstanceRequest) -> Result<Operation, Status> {
        inner(self.instances.create_instance(request).await)
    }

    pub(crate) async fn delete(&mut self, request: DeleteInstanceRequest) -> Result<Operation, Status> {
        inner(self.instances.delete_instance(request).await)
    }

    pub(crate) async fn act(
        &mut self,
        id: &str,
        verb: NodeVerb,
        request_id: &str,
    ) -> Result<Operation, Status> {
        let request = ActOnNodeRequest {
            name: format!("nodes/{id}"),
            verb: verb.into(),
            request_id: request_id.into(),
            full_erase: false,
        };
        inner(self.actions.act_on_node(request).await)
    }

    /// Follows an operation until it is as wished.
    pub(crate) async fn until(&mut self, name: &str, wished: impl Fn(&Operation) -> bool) -> Operation {
        let mut last = None;
        let follow = async {
            let request = WatchOperationRequest { name: name.to_owned() };
            let mut changes = self.operations.watch_operation(request).await.unwrap().into_inner();
            while let Some(operation) = changes.message().await.unwrap() {
                if wished(&operation) {
                    return operation;
                }
                last = Some(operation);
            }
            panic!("{name} ended otherwise: {last:#?}");
        };
        match tokio::time::timeout(PATIENCE, follow).await {
            Ok(operation) => operation,
            Err(_) => panic!("{name} is not as wished within {PATIENCE:?}: {last:#?}"),
        }
    }

    pub(crate) async fn done(&mut self, name: &str) -> Operation {
        self.until(name, |op| op.done).await
    }

    /// The audit log of one operation, a line an event.
    pub(crate) async fn told(&mut self, operation: &str) -> Vec<String> {
        let request = ListEventsRequest { filter: format!("operation={operation}"), ..Default::default() };
        let events = inner(self.events.list_events(request).await).unwrap().events;
        let line = |e: Event| format!("{} {} {}>{} {}", e.actor, e.action, e.before, e.after, e.detail);
        events.into_iter().map(|e| line(e).trim_end().to_owned()).collect()
    }
}

/// A request for `instances/{id}` of flavor `any` and image `os`.
pub(crate) fn create(id: &str) -> CreateInstanceRequest {
    let instance = Some(Instance {
        name: format!("instances/{id}"),
        flavor: "flavors/any".into(),
        image: "images/os".into(),
        ..Instance::default()
    });
    CreateInstanceRequest { instance, ..CreateInstanceRequest::default() }
}

pub(crate) fn delete(id: &str) -> DeleteInstanceRequest {
    DeleteInstanceRequest { name: format!("instances/{id}"), ..DeleteInstanceRequest::default() }
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

/// Fails the test when `work` takes longer than a test may.
pub(crate) async fn within<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(PATIENCE, work).await.expect("not done within a test's patience")
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("https://{}", listener.local_addr().unwrap());
    (listener, uri)
}

fn database(dir: &Path, name: &str) -> String {
    format!("sqlite://{}/{name}.db", dir.display())
}

fn credentials(authority: &Authority, identity: &Identity) -> Credentials {
    let issued = authority.issue(identity, &["127.0.0.1".to_owned()], HOUR).unwrap();
    Credentials::from_pem(&issued.cert_pem, &issued.key_pem, authority.cert_pem()).unwrap()
}

fn issue_into(authority: &Authority, dir: &Path, service: &str) {
    let identity = Identity::Service(service.to_owned());
    let issued = authority.issue(&identity, &["127.0.0.1".to_owned()], HOUR).unwrap();
    write_identity(dir, &issued, authority.cert_pem()).unwrap();
}

const HOUR: Duration = Duration::from_secs(3600);

/// A service, and how it is told to end.
type Running = (CancellationToken, JoinHandle<anyhow::Result<()>>);

fn serve_images(authority: &Authority, dir: &Path, listener: TcpListener) -> Running {
    let config = farrier_images::Config {
        listener,
        credentials: credentials(authority, &Identity::Service("images".into())),
        database_url: database(dir, "images"),
        data_dir: dir.join("images"),
        max_image_bytes: 1 << 30,
    };
    let stop = CancellationToken::new();
    (stop.clone(), tokio::spawn(farrier_images::run(config, stop)))
}

/// `images/os`.
async fn upload(mut images: ImageServiceClient<Channel>) {
    let bytes = vec![7u8; 1 << 20];
    let image = Image {
        name: "images/os".into(),
        sha256: Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect(),
        format: ImageFormat::Raw.into(),
        compression: Compression::None.into(),
        ..Image::default()
    };
    let header = Header { image: Some(image), file_bytes: 1 << 20, ..Header::default() };
    let parts = [Part::Header(header), Part::Data(bytes)].map(|p| UploadImageRequest { part: Some(p) });
    images.upload_image(tokio_stream::iter(parts)).await.unwrap();
}
