//! A rack of a test's own: images, rackd, and pretend nodes, with real mTLS between them.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use farrier_identity::ca::{Authority, write_identity};
use farrier_identity::client::{Expect, channel};
use farrier_identity::{Credentials, Identity, Role};
use farrier_proto::agent::agent_service_client::AgentServiceClient;
use farrier_proto::images::image_service_client::ImageServiceClient;
use farrier_proto::images::upload_image_request::{Header, Part};
use farrier_proto::images::{Compression, Image, ImageFormat, UploadImageRequest};
use farrier_proto::rack::rack_service_client::RackServiceClient;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{
    AbortTaskRequest, Deploy, ListVolumesRequest, Machine, MachinePort, StartTaskRequest, Task, TaskSpec,
    TaskState, Volume, WatchTasksRequest,
};
use farrier_proto::types::BootMode;
use farrier_rackd::{Bound, Config, Timeouts};
use farrier_sim::link::{Link, Quality};
use farrier_sim::pretend::{self, PretendNode, PretendOptions};
use tempfile::TempDir;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

pub(crate) const POOL: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(127, 77, 0, 10), Ipv4Addr::new(127, 77, 0, 200));
/// Two shared cores: generous, since a test that passes never waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) const VALID: Duration = Duration::from_secs(3600);
const MAX_IMAGE_BYTES: u64 = 1 << 30;

/// Fails the test when `work` takes longer than a test may.
#[track_caller]
pub(crate) fn within<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(out) => out,
            Err(_) => panic!("not done within {PATIENCE:?}: {caller}"),
        }
    }
}

/// A running rack.
pub(crate) struct Bench {
    dir: TempDir,
    authority: Authority,
    images: String,
    link: Option<Link>,
    pub(crate) bound: Bound,
    pub(crate) rack: RackServiceClient<Channel>,
    to_rack: Channel,
    stop: CancellationToken,
    servers: Vec<JoinHandle<anyhow::Result<()>>>,
    config: Config,
    rackd: Rackd,
}

/// rackd under way.
struct Rackd {
    stop: CancellationToken,
    server: JoinHandle<anyhow::Result<()>>,
}

impl Rackd {
    /// Starts it, and writes the ports it got into its configuration for the next time.
    async fn start(config: &mut Config) -> (Bound, Self) {
        let stop = CancellationToken::new();
        let (bound, running) = farrier_rackd::start(config.clone(), stop.clone()).await.unwrap();
        (config.listen, config.agent_listen, config.http_listen) = (bound.listen, bound.agent, bound.http);
        config.block_listen = bound.block;
        (bound, Self { stop, server: tokio::spawn(running) })
    }

    async fn stop(self) {
        self.stop.cancel();
        self.server.await.unwrap().unwrap();
    }
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// `change` shortens the timeouts that the test is about.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Timeouts)) -> Self {
        Self::start_over(None, |config| change(&mut config.timeouts)).await
    }

    /// With consoles over SSH: `helper` is what a rackd that is a program of its own would be.
    pub(crate) async fn start_with_ssh(helper: PathBuf) -> Self {
        Self::start_over(None, |config| config.ssh_helper = Some(helper)).await
    }

    /// With a link between the rack and the images service.
    pub(crate) async fn start_linked(quality: Quality) -> Self {
        Self::start_over(Some(quality), |_| ()).await
    }

    pub(crate) async fn start_configured(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_over(None, change).await
    }

    async fn start_over(quality: Option<Quality>, change: impl FnOnce(&mut Config)) -> Self {
        // Quiet unless asked: FARRIER_LOG=info says what happened, with --nocapture.
        if std::env::var_os("FARRIER_LOG").is_some() {
            farrier_runtime::telemetry::start();
        }
        let dir = tempfile::tempdir().unwrap();
        let (authority, _) = Authority::generate("test").unwrap();
        let stop = CancellationToken::new();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let images = format!("https://{address}");
        let link = match quality {
            Some(quality) => Some(Link::to(address, quality).await.unwrap()),
            None => None,
        };
        let config = farrier_images::Config {
            listener,
            credentials: credentials(&authority, Identity::Service("images".into())),
            database_url: format!("sqlite://{}/images.db", dir.path().display()),
            data_dir: dir.path().join("images"),
            max_image_bytes: MAX_IMAGE_BYTES,
        };
        let servers = vec![tokio::spawn(farrier_images::run(config, stop.clone()))];

        let identity = dir.path().join("identity");
        let issued = authority.issue(&Identity::Rack("r1".into()), &["127.0.0.1".into()], VALID).unwrap();
        write_identity(&identity, &issued, authority.cert_pem()).unwrap();
        let mut config = match &link {
            Some(link) => rackd_config(dir.path(), &identity, &format!("https://{}", link.address)),
            None => rackd_config(dir.path(), &identity, &images),
        };
        change(&mut config);
        let (bound, rackd) = Rackd::start(&mut config).await;
        let scheduler = credentials(&authority, Identity::Service("scheduler".into()));
        let uri = format!("https://{}", bound.listen);
        let to_rack = channel(&uri, &scheduler, Expect::AnyRack).unwrap();
        let rack = RackServiceClient::new(to_rack.clone());
        Self { to_rack, dir, authority, images, link, bound, rack, stop, servers, config, rackd }
    }

    /// A channel to rackd with the scheduler's identity.
    pub(crate) fn scheduler_to_rack(&self) -> Channel {
        self.to_rack.clone()
    }

    pub(crate) fn link(&self) -> &Link {
        self.link.as_ref().expect("started with a link")
    }

    /// Whether all of an image is in the rack's cache.
    pub(crate) fn has_whole(&self, image: &Image) -> bool {
        self.dir.path().join("rackd/images").join(format!("{}.raw", image.manifest_sha256)).exists()
    }

    pub(crate) async fn until_whole(&self, image: &Image) {
        while !self.has_whole(image) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// SHA-256 of some bytes of an image that [`Bench::image`] made.
    pub(crate) fn image_sha256(&self, id: &str, range: std::ops::Range<u64>) -> String {
        pretend::file_sha256(&self.dir.path().join(format!("{id}.raw")), range).unwrap()
    }

    /// Ends rackd, as a restart of its service does, and starts it at the same addresses.
    pub(crate) async fn restart_rackd(self) -> Self {
        self.restart_rackd_after(|_| ()).await
    }

    /// The same; `between` sees its data while there is no rackd.
    pub(crate) async fn restart_rackd_after(mut self, between: impl FnOnce(&Path)) -> Self {
        let data = self.data();
        within(self.rackd.stop()).await;
        between(&data);
        (self.bound, self.rackd) = Rackd::start(&mut self.config).await;
        self
    }

    /// The images service, as somebody.
    pub(crate) fn images(&self, who: Identity) -> ImageServiceClient<Channel> {
        let credentials = credentials(&self.authority, who);
        ImageServiceClient::new(channel(&self.images, &credentials, Expect::AnyService).unwrap())
    }

    /// Ends the images service, for good.
    pub(crate) async fn without_images(mut self) -> Self {
        self.stop.cancel();
        for server in self.servers.drain(..) {
            within(server).await.unwrap().unwrap();
        }
        self
    }

    /// What rackd has on disk.
    pub(crate) fn data(&self) -> PathBuf {
        self.config.data.clone()
    }

    pub(crate) fn snapshot_dir(&self) -> PathBuf {
        self.dir.path().join("rackd/snapshots")
    }

    /// Names of the pictures that rackd has.
    pub(crate) fn snapshots(&self) -> Vec<String> {
        names(&self.snapshot_dir())
    }

    /// rackd, as somebody.
    pub(crate) fn rackd(&self, who: Identity) -> RackServiceClient<Channel> {
        let credentials = credentials(&self.authority, who);
        let uri = format!("https://{}", self.bound.listen);
        RackServiceClient::new(channel(&uri, &credentials, Expect::AnyRack).unwrap())
    }

    /// Its disks, as it shows them.
    pub(crate) async fn shown(&self) -> Vec<Volume> {
        let mut rack = self.rack.clone();
        within(rack.list_volumes(ListVolumesRequest::default())).await.unwrap().into_inner().volumes
    }

    /// The rack's copy of an image.
    pub(crate) fn cached(&self, image: &Image) -> PathBuf {
        self.dir.path().join(format!("rackd/images/{}.raw", image.manifest_sha256))
    }

    /// Names of the files of volumes that rackd has.
    pub(crate) fn volumes(&self) -> Vec<String> {
        names(&self.dir.path().join("rackd/volumes"))
    }

    /// A ramdisk's way in, with a certificate of this rack's own authority.
    pub(crate) fn agent(&self, identity: Identity) -> AgentServiceClient<Channel> {
        let authority = Authority::load(&self.dir.path().join("rackd/agent-ca")).unwrap();
        let uri = format!("https://{}", self.bound.agent);
        AgentServiceClient::new(channel(&uri, &credentials(&authority, identity), Expect::AnyServer).unwrap())
    }

    /// Uploads an image that pretend nodes boot.
    pub(crate) async fn image(&self, id: &str, bytes: u64) -> (Image, TestImage) {
        let path = self.dir.path().join(format!("{id}.raw"));
        let seed = bytes.rotate_left(7) ^ id.len() as u64;
        pretend::write_image(&path, bytes, seed).unwrap();
        let file = std::fs::read(&path).unwrap();
        let image = Image {
            name: format!("images/{id}"),
            sha256: pretend::file_sha256(&path, 0..bytes).unwrap(),
            format: ImageFormat::Raw.into(),
            compression: Compression::None.into(),
            architecture: "x86_64".into(),
            ..Image::default()
        };
        let header =
            Header { image: Some(image), file_bytes: i64::try_from(bytes).unwrap(), ..Header::default() };
        let mut parts = vec![UploadImageRequest { part: Some(Part::Header(header)) }];
        parts.extend(
            file.chunks(1 << 20).map(|piece| UploadImageRequest { part: Some(Part::Data(piece.to_vec())) }),
        );
        let user = Identity::User { name: "u".into(), role: Role::Admin, project: "blue".into() };
        let user = credentials(&self.authority, user);
        let mut client = ImageServiceClient::new(channel(&self.images, &user, Expect::AnyService).unwrap());
        let image = within(client.upload_image(tokio_stream::iter(parts))).await.unwrap().into_inner();
        let range = pretend::DATA_OFFSET..bytes - pretend::TAIL_BYTES;
        let sha256 = pretend::file_sha256(&path, range.clone()).unwrap();
        (image, TestImage { range, sha256 })
    }

    /// Node `n<index>`, wired to this rack, off.
    pub(crate) async fn node(&self, index: u16) -> PretendNode {
        self.node_with(index, |_| ()).await
    }

    pub(crate) async fn node_with(
        &self,
        index: u16,
        change: impl FnOnce(&mut PretendOptions),
    ) -> PretendNode {
        let name = format!("n{index}");
        let dir = self.dir.path().join(&name);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut options = PretendOptions::new(name, pretend::mac(index), socket, dir, POOL);
        options.http = Some(self.bound.http);
        change(&mut options);
        PretendNode::start(options).await.unwrap()
    }

    /// Starts a task as the scheduler does.
    pub(crate) async fn start_task(&self, id: &str, fence: i64, spec: TaskSpec) -> Result<Task, Status> {
        let request = StartTaskRequest { id: id.to_owned(), fence, spec: Some(spec) };
        Ok(self.rack.clone().start_task(request).await?.into_inner())
    }

    /// Follows a task to its end.
    pub(crate) async fn ended(&self, id: &str) -> Task {
        self.until(id, |task| task.state() != TaskState::Running).await
    }

    /// Follows the rack's tasks until `id` is as wished.
    pub(crate) async fn until(&self, id: &str, wished: impl Fn(&Task) -> bool) -> Task {
        let mut last = None;
        let follow = async {
            let all = WatchTasksRequest::default();
            let mut changes = self.rack.clone().watch_tasks(all).await.unwrap().into_inner();
            loop {
                let task = changes.message().await.unwrap().expect("rackd ended the stream");
                if task.id == id && wished(&task) {
                    return task;
                }
                if task.id == id {
                    last = Some(task);
                }
            }
        };
        match tokio::time::timeout(PATIENCE, follow).await {
            Ok(task) => task,
            Err(_) => panic!("{id} is not as wished within {PATIENCE:?}: {last:#?}"),
        }
    }

    /// Starts a task and follows it to its end.
    pub(crate) async fn run(&self, id: &str, fence: i64, node: &PretendNode, work: Work) -> Task {
        self.start_task(id, fence, spec(node, work)).await.unwrap();
        self.ended(id).await
    }

    pub(crate) async fn abort(&self, id: &str, reason: &str) -> Task {
        let request = AbortTaskRequest { id: id.to_owned(), reason: reason.to_owned() };
        within(self.rack.clone().abort_task(request)).await.unwrap().into_inner()
    }

    /// Ends everything and says when something ended badly.
    pub(crate) async fn stop(self, nodes: Vec<PretendNode>) {
        within(async {
            for node in nodes {
                node.shutdown().await;
            }
            self.rackd.stop().await;
            self.stop.cancel();
            for server in self.servers {
                server.await.unwrap().unwrap();
            }
        })
        .await;
    }
}

/// What of an image no installation changes.
#[derive(Debug, Clone)]
pub(crate) struct TestImage {
    range: std::ops::Range<u64>,
    sha256: String,
}

impl TestImage {
    /// Of [`TestImage::range`].
    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    pub(crate) async fn is_on(&self, node: &PretendNode) -> bool {
        node.disk_sha256(self.range.clone()).await.unwrap() == self.sha256
    }
}

/// A task's order for a pretend node.
pub(crate) fn spec(node: &PretendNode, work: Work) -> TaskSpec {
    let machine = Machine {
        name: format!("nodes/{}", node.name()),
        uid: node.name().to_owned(),
        bmc_driver: "ipmi".into(),
        bmc_address: node.bmc_address().to_string(),
        bmc_user: "admin".into(),
        bmc_password: "pretend".into(),
        boot_mode: BootMode::Bios.into(),
        ports: vec![MachinePort {
            mac_address: node.mac_address(),
            pxe_enabled: true,
            ..MachinePort::default()
        }],
        ..Machine::default()
    };
    TaskSpec { machine: Some(machine), work: Some(work) }
}

/// `image` on a node that will call home.
pub(crate) fn deploy(image: &Image, hostname: &str) -> Work {
    Work::Deploy(Deploy {
        image: image.name.clone(),
        manifest_sha256: image.manifest_sha256.clone(),
        instance: format!("instances/{hostname}"),
        hostname: hostname.to_owned(),
        ssh_keys: vec!["ssh-ed25519 AAAA test".into()],
        ready_seconds: 60,
        ..Deploy::default()
    })
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

pub(crate) fn credentials(authority: &Authority, identity: Identity) -> Credentials {
    let issued = authority.issue(&identity, &["127.0.0.1".into()], VALID).unwrap();
    Credentials::from_pem(&issued.cert_pem, &issued.key_pem, authority.cert_pem()).unwrap()
}

/// A rackd `r1` on free ports, with its data below `dir`.
pub(crate) fn rackd_config(dir: &Path, identity: &Path, images: &str) -> Config {
    for name in ["kernel", "initrd"] {
        std::fs::write(dir.join(name), name).unwrap();
    }
    let dir = dir.display();
    let (first, last) = POOL;
    Config::parse(&format!(
        r#"
        rack = "r1"
        listen = "127.0.0.1:0"
        agent_listen = "127.0.0.1:0"
        http_listen = "127.0.0.1:0"
        block_listen = "127.0.0.1:0"
        data = "{dir}/rackd"
        identity = "{}"
        images = "{images}"
        ramdisk = {{ kernel = "{dir}/kernel", initrd = "{dir}/initrd" }}
        [[segment]]
        name = "provisioning"
        role = "provisioning"
        address = "127.0.0.1/8"
        pool = "{first}-{last}"
        "#,
        identity.display()
    ))
    .unwrap()
}
