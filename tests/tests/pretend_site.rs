//! A whole installation on the loopback with pretend nodes: real services, real BMC wire, real agent.

use crate::hall::Hall;
use farrier_identity::client::{Expect, channel};
use farrier_identity::{Credentials, Identity};
use farrier_proto::inventory::Flavor;
use farrier_proto::rack::rack_service_client::RackServiceClient;
use farrier_proto::scheduler::{Instance, Operation};
use farrier_proto::types::{BootInterface, BootMode, DeployMethod, NodeVerb};
use farrier_sim::bmc::redfish::{Facts, RedfishConfig, RedfishHandle, RedfishServer};
use farrier_sim::bmc::{MemoryChassis, Secret};
use farrier_sim::lab::{Client, ImageFile, Installation, NewNode, Place, Programs, RackConfig, Service};
use farrier_sim::media::{CdLoaders, Ramdisk};
use farrier_sim::pretend::{self, Event, PretendNode, PretendOptions};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio::net::{TcpListener, UdpSocket};
use tonic::transport::Channel;

/// Bytes of the image that is deployed.
const IMAGE_BYTES: u64 = 24 << 20;
/// Nodes prepared at once: each runs a ramdisk's agent in this process.
const AT_ONCE: usize = 8;
/// rackd's ports in a lab.
const HTTP_PORT: u16 = 8080;
const BLOCK_PORT: u16 = 3260;

pub(crate) struct Site {
    pub(crate) installation: Installation,
    pub(crate) client: Client,
    pub(crate) nodes: Vec<PretendNode>,
    pub(crate) dir: PathBuf,
    pub(crate) image: PathBuf,
    rack: Channel,
    rack_config: RackConfig,
    host: Ipv4Addr,
    _dir: tempfile::TempDir,
    /// Where its machines stand, if they are not on loopback.
    _hall: Option<Hall>,
}

impl Site {
    /// Starts everything and brings `count` nodes to `available`.
    pub(crate) async fn start(count: usize) -> Self {
        Self::available(count, |_| ()).await
    }

    /// The same with machines that have no disk. Their system reads all of the image before it calls home.
    pub(crate) async fn diskless(count: usize) -> Self {
        let change = |options: &mut PretendOptions| {
            options.diskless = true;
            options.san_reads.push(pretend::DATA_OFFSET..IMAGE_BYTES - pretend::TAIL_BYTES);
        };
        Self::available(count, change).await
    }

    /// The same with machines whose BMC speaks Redfish alone, and which boot from the CD that it pretends.
    pub(crate) async fn media(count: usize) -> Self {
        let change = |options: &mut PretendOptions| {
            let listener = std::net::TcpListener::bind((options.sockets.ip(), 0)).unwrap();
            listener.set_nonblocking(true).unwrap();
            options.sockets = TcpListener::from_std(listener).unwrap().into();
            // No boot script is asked for.
            options.http = None;
        };
        let mut site = Self::available(count, change).await;
        // Two thirds of it are how long a CD that nobody could read is waited for.
        site.set_timeouts(&[("agent_seconds", 45)]).await;
        site
    }

    async fn available(count: usize, change: impl Fn(&mut PretendOptions)) -> Self {
        let site = Self::enrolled_with(count, change).await;
        let names: Vec<String> = site.nodes.iter().map(|n| n.name().to_owned()).collect();
        site.bring(&names, &[NodeVerb::Manage, NodeVerb::Inspect, NodeVerb::Provide]).await;
        site
    }

    /// Does this with each of these nodes, some at once.
    pub(crate) async fn bring(&self, names: &[String], verbs: &'static [NodeVerb]) {
        for batch in names.chunks(AT_ONCE) {
            let works = batch.iter().map(|name| {
                let (client, name) = (self.client.clone(), name.clone());
                tokio::spawn(async move {
                    for verb in verbs {
                        let operation = client.act(&name, *verb).await?;
                        client.wait(operation, |_| ()).await?;
                    }
                    anyhow::Ok(())
                })
            });
            for work in works.collect::<Vec<_>>() {
                work.await.unwrap().unwrap_or_else(|e| panic!("{e:#}\n{}", self.tails()));
            }
        }
    }

    /// Starts everything; the nodes are described and nothing more.
    pub(crate) async fn enrolled(count: usize) -> Self {
        Self::enrolled_with(count, |_| ()).await
    }

    pub(crate) async fn enrolled_with(count: usize, change: impl Fn(&mut PretendOptions)) -> Self {
        Self::enrolled_in(None, count, change).await
    }

    /// The same in a hall, whose machines have network cards. To be called on a thread in its rack's namespace.
    pub(crate) async fn enrolled_in(
        hall: Option<Hall>,
        count: usize,
        change: impl Fn(&mut PretendOptions),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = match &hall {
            Some(hall) => Place::inside(hall.rack.netns()),
            None => Place::loopback().unwrap(),
        };
        let host = place.host();
        for name in ["kernel", "initrd"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let programs = Programs::beside_tests().unwrap();
        let mut installation =
            Installation::start(place, &programs, &dir.path().join("installation")).await.unwrap();
        let client = installation.client().unwrap();
        client.create_site("s").await.unwrap();
        client.create_rack("r", "s").await.unwrap();
        let (kernel, initrd) = (dir.path().join("kernel"), dir.path().join("initrd"));
        let mut config = RackConfig::pretend(host, &kernel, &initrd);
        if let Some(hall) = &hall {
            let of_rack = RackConfig::of_rack(&hall.rack, &Ramdisk { kernel, initrd });
            // iPXE by TFTP, and nothing signed.
            config = RackConfig { watch_seconds: config.watch_seconds, signed_boot: false, ..of_rack };
        }
        config.timeouts = timeouts(PATIENT);
        // What a pretend machine reads of a boot loader is its size.
        let loader = dir.path().join("loader");
        std::fs::write(&loader, [0xe9; 4096]).unwrap();
        config.virtual_media = Some(CdLoaders { bios: loader.clone(), efi: loader });
        let pool = config.segments.first().map(|s| pool(&s.pool)).unwrap();
        installation.start_rack("r", &config).await.unwrap();

        let mut nodes = Vec::new();
        for index in 0..count {
            let name = format!("n{index}");
            let card = hall.as_ref().map(|hall| &hall.cards[index]);
            let mac = card.map_or_else(|| pretend::mac(u16::try_from(index).unwrap()), |card| card.mac);
            let socket = match (&hall, card) {
                (Some(hall), Some(card)) => {
                    let socket = hall.rack.netns().udp_bind((card.bmc, 0).into()).unwrap();
                    // Whoever waits for ipmitool here keeps no BMC waiting.
                    let _its = card.runtime.enter();
                    UdpSocket::from_std(socket).unwrap()
                }
                _ => UdpSocket::bind((host, 0)).await.unwrap(),
            };
            let mut options = PretendOptions::new(&name, mac, socket, dir.path().join(&name), pool);
            options.disk_bytes = 64 << 20;
            options.bmc.password = Secret::new(BMC_PASSWORD);
            match card {
                Some(card) => options.lan = Some(card.lan.clone()),
                None => options.http = Some(SocketAddr::from((host, HTTP_PORT))),
            }
            change(&mut options);
            let redfish_only = options.sockets.ipmi.is_none();
            let start = PretendNode::start(options);
            let node = match card {
                Some(card) => card.runtime.spawn(start).await.unwrap().unwrap(),
                None => start.await.unwrap(),
            };
            client
                .create_node(&NewNode {
                    name,
                    rack: "r".to_owned(),
                    bmc_address: node.bmc_address().to_string(),
                    bmc_user: "admin".to_owned(),
                    bmc_password: BMC_PASSWORD.to_owned(),
                    redfish: redfish_only.then(String::new),
                    boot_mode: BootMode::Bios,
                    boot_interface: if redfish_only {
                        BootInterface::VirtualMedia
                    } else {
                        BootInterface::Unspecified
                    },
                    mac: node.mac_address(),
                    switch_port: card.map(|card| card.switch_port.clone()).unwrap_or_default(),
                })
                .await
                .unwrap();
            nodes.push(node);
        }

        let image = dir.path().join("image.raw");
        pretend::write_image(&image, IMAGE_BYTES, 7).unwrap();
        let file = ImageFile::raw(&image).unwrap();
        client.import_image("os", &file, |_, _| ()).await.unwrap();
        let flavor = Flavor { name: "any".to_owned(), ..Flavor::default() };
        client.create_flavor(flavor).await.unwrap();
        let scheduler = Credentials::load(&dir.path().join("installation/id/scheduler")).unwrap();
        let rack = channel(
            &installation.endpoints().rack,
            &scheduler,
            Expect::Exactly(Identity::Rack("r".to_owned())),
        )
        .unwrap();
        let path = dir.path().to_owned();
        Self {
            installation,
            client,
            nodes,
            dir: path,
            image,
            rack,
            rack_config: config,
            host,
            _dir: dir,
            _hall: hall,
        }
    }

    /// Starts rackd again with these timeouts over the patient ones; none: as it was.
    /// Creates a node, as an operator types it, whose BMC speaks Redfish alone.
    pub(crate) async fn create_redfish(
        &self,
        name: &str,
        driver: &str,
        of: impl FnOnce(RedfishConfig) -> RedfishConfig,
        more: &[&str],
    ) -> (RedfishHandle, Arc<MemoryChassis>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = of(RedfishConfig::new("admin", Secret::new(BMC_PASSWORD), Facts::default()));
        let chassis = Arc::new(MemoryChassis::new());
        let service = RedfishServer::start(listener, config, chassis.clone()).unwrap();
        let (address, password) = (service.address().to_string(), self.dir.join("password"));
        std::fs::write(&password, BMC_PASSWORD).unwrap();
        let password = password.to_string_lossy();
        let create = ["node", "create", name, "--rack", "r", "--bmc-driver", driver, "--bmc-scheme", "http"];
        let access = ["--bmc-address", &address, "--bmc-user", "admin", "--bmc-password-file"];
        let words = [&create[..], &access, &[&password], more].concat();
        self.installation.farrier(&words).unwrap();
        (service, chassis)
    }

    pub(crate) async fn set_timeouts(&mut self, over: &[(&str, u64)]) {
        self.rack_config.timeouts = timeouts(PATIENT);
        self.rack_config.timeouts.extend(timeouts(over));
        self.installation.configure_rack(&self.rack_config).await.unwrap();
    }

    /// Starts rackd again, which then looks at each BMC once in so many seconds.
    pub(crate) async fn set_watch(&mut self, seconds: u32) {
        self.rack_config.watch_seconds = Some(seconds);
        self.installation.configure_rack(&self.rack_config).await.unwrap();
    }

    /// Starts rackd again, which then keeps the logs of consoles so, and looks at each BMC once a second.
    pub(crate) async fn set_console_log(&mut self, when: &'static str) {
        self.rack_config.console_log = Some(when);
        self.set_watch(1).await;
    }

    /// Starts rackd again, which then boots the ramdisk on unknown machines.
    pub(crate) async fn set_discovery(&mut self) {
        self.rack_config.discovery = true;
        self.installation.configure_rack(&self.rack_config).await.unwrap();
    }

    pub(crate) async fn create_instance(&self, name: &str) -> Operation {
        self.try_create_instance(name).await.unwrap()
    }

    pub(crate) async fn try_create_instance(&self, name: &str) -> anyhow::Result<Operation> {
        self.try_create_instance_by(name, DeployMethod::Unspecified).await
    }

    pub(crate) async fn create_instance_by(&self, name: &str, method: DeployMethod) -> Operation {
        self.try_create_instance_by(name, method).await.unwrap()
    }

    async fn try_create_instance_by(&self, name: &str, method: DeployMethod) -> anyhow::Result<Operation> {
        self.client.create_instance(self.instance(name, method)).await
    }

    pub(crate) fn instance(&self, name: &str, method: DeployMethod) -> Instance {
        Instance {
            method: method.into(),
            name: name.to_owned(),
            flavor: "flavors/any".to_owned(),
            image: "images/os".to_owned(),
            ready_seconds: 120,
            user_data: format!("#cloud-config\n# {USER_DATA}\n").into_bytes(),
            ..Instance::default()
        }
    }

    /// The password that the first node's BMC has.
    pub(crate) fn password(&self) -> Secret {
        self.nodes[0].accounts().password("admin").unwrap()
    }

    /// Waits for an operation that must succeed; `at`: what was done to it meanwhile.
    pub(crate) async fn succeeds(&self, operation: Operation, at: &str) -> Operation {
        let ended = self.client.wait(operation, |_| ()).await;
        ended.unwrap_or_else(|e| panic!("{at}: {e:#}\n{}", self.tails()))
    }

    /// A channel to rackd with the scheduler's identity.
    pub(crate) fn scheduler_to_rack(&self) -> Channel {
        self.rack.clone()
    }

    /// The newest sequence that rackd has reported so far.
    pub(crate) async fn rack_sequence(&self) -> i64 {
        let mut client = RackServiceClient::new(self.rack.clone());
        let mut newest = 0;
        let mut token = String::new();
        loop {
            let request = farrier_proto::rack::ListTasksRequest {
                page_size: 1000,
                page_token: token,
                unfinished: false,
            };
            let page = client.list_tasks(request).await.unwrap().into_inner();
            newest = page.tasks.iter().map(|t| t.sequence).chain([newest]).max().unwrap_or(0);
            token = page.next_page_token;
            if token.is_empty() {
                return newest;
            }
        }
    }

    /// The node's disk holds the image, but for what a config drive and a moved GPT change.
    pub(crate) async fn assert_disk_has_image(&self, node: &str) {
        let node = self.nodes.iter().find(|n| format!("nodes/{}", n.name()) == node).expect("one of ours");
        let range = pretend::DATA_OFFSET..IMAGE_BYTES - pretend::TAIL_BYTES;
        let expected = pretend::file_sha256(&self.image, range.clone()).unwrap();
        assert_eq!(node.disk_sha256(range).await.unwrap(), expected, "{}", node.name());
        assert!(node.counters().phone_homes >= 1, "{} called home", node.name());
    }

    /// The system on the node's iSCSI disk read the image there.
    pub(crate) fn assert_system_read_image(&self, node: &str) {
        let node = self.nodes.iter().find(|n| format!("nodes/{}", n.name()) == node).expect("one of ours");
        let range = pretend::DATA_OFFSET..IMAGE_BYTES - pretend::TAIL_BYTES;
        let sha256 = pretend::file_sha256(&self.image, range).unwrap();
        assert!(node.events().contains(&Event::SanRead { sha256 }), "{:?}", node.events());
        assert!(node.counters().phone_homes >= 1, "{} called home", node.name());
    }

    /// Where rackd's iSCSI target listens.
    pub(crate) fn portal(&self) -> SocketAddr {
        (self.host, BLOCK_PORT).into()
    }

    pub(crate) fn tails(&self) -> String {
        self.installation.tails(30)
    }

    /// No log of any service, over all its lives, has what only the database may have.
    fn assert_no_secret_was_said(&self) {
        for service in Service::ALL {
            let said = std::fs::read_to_string(self.installation.log(service)).unwrap();
            assert!(!said.is_empty(), "{} said nothing", service.name());
            let token = std::fs::read_to_string(self.installation.join_token()).unwrap();
            assert!(token.trim().len() > 20, "{token}");
            for secret in [BMC_PASSWORD, USER_DATA, "PRIVATE KEY", token.trim()] {
                assert!(!said.contains(secret), "{} says {secret}", service.name());
            }
            // A ramdisk's token stands in its kernel's arguments, which are logged without it.
            let mut arguments = said.match_indices("farrier.token=").map(|(at, key)| &said[at + key.len()..]);
            assert!(arguments.all(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric())));
        }
    }

    pub(crate) async fn shutdown(self) {
        self.assert_no_secret_was_said();
        for node in self.nodes {
            node.shutdown().await;
        }
        self.installation.shutdown().await.unwrap();
    }
}

/// What a person on site has.
pub(crate) fn ipmitool(bmc: SocketAddr, words: &[&str]) -> String {
    let (host, port) = (bmc.ip().to_string(), bmc.port().to_string());
    let done = Command::new("timeout")
        .args(["60", "ipmitool", "-I", "lanplus", "-C", "17", "-H", &host, "-p", &port, "-U", "admin"])
        .args(["-P", BMC_PASSWORD])
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("ipmitool runs");
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// Secrets of a site, not to be found by chance.
pub(crate) const BMC_PASSWORD: &str = "bmc-3VqT7xw1";
const USER_DATA: &str = "tenant-Pz81LmcQ";

/// Longer than anything takes that succeeds on a loaded machine.
const PATIENT: &[(&str, u64)] =
    &[("bmc_seconds", 60), ("bmc_call_seconds", 5), ("agent_seconds", 120), ("soft_off_seconds", 20)];

fn timeouts(seconds: &[(&str, u64)]) -> BTreeMap<String, u64> {
    seconds.iter().map(|(key, seconds)| ((*key).to_owned(), *seconds)).collect()
}

fn pool(text: &str) -> (Ipv4Addr, Ipv4Addr) {
    let (first, last) = text.split_once('-').unwrap();
    (first.parse().unwrap(), last.parse().unwrap())
}
