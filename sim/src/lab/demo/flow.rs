//! What an operator does, step by step.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use farrier_proto::inventory::{Flavor, Node};
use farrier_proto::rack::ReadyGate;
use farrier_proto::scheduler::{Instance, Operation};
use farrier_proto::types::{DeployMethod, NodeVerb};
use futures::future::try_join_all;
use tokio::sync::Semaphore;

use super::board::{Board, Task};
use super::ssh::Key;
use super::{BMC_PASSWORD, BMC_USER, Method, node_name};
use crate::lab::client::{Client, NewNode};
use crate::lab::config::RackConfig;
use crate::lab::guest::Image;
use crate::lab::installation::Installation;
use crate::lab::place::Place;
use crate::lab::upload::ImageFile;
use crate::virtual_server::VirtualServer;

/// The operator, with what is at hand.
pub(super) struct Flow<'a> {
    pub(super) client: &'a Client,
    pub(super) board: &'a Board,
    pub(super) servers: &'a [VirtualServer],
}

/// What is deployed and who may log in.
pub(super) struct Guest {
    pub(super) image: Image,
    pub(super) method: Method,
    pub(super) file: ImageFile,
    pub(super) key: Key,
}

/// What came out of it.
pub(super) struct Deployed {
    pub(super) node: String,
    pub(super) address: String,
}

impl Flow<'_> {
    /// Site and rack, the rack's daemon by a join token, then the nodes.
    pub(super) async fn register(&self, installation: &mut Installation, config: &RackConfig) -> Result<()> {
        let task = self.board.begin("lab", "site and rack");
        self.client.create_site(SITE).await?;
        self.client.create_rack(RACK, SITE).await?;
        task.done(&format!("sites/{SITE}, racks/{RACK}"));

        let task = self.board.begin("lab", "rackd");
        installation.start_rack(RACK, config).await?;
        task.done("joined by a one-time token, serves");

        let task = self.board.begin("lab", "nodes");
        for server in self.servers {
            self.client.create_node(&NewNode::of(server, RACK, BMC_USER, BMC_PASSWORD)?).await?;
        }
        task.done(&format!("{} enrolled with BMC and port", self.servers.len()));
        Ok(())
    }

    /// Everything from the image to the answer on SSH.
    pub(super) async fn deploy(&self, guest: &Guest, place: &Place) -> Result<Deployed> {
        let booting = Semaphore::new(BOOTING_AT_A_TIME);
        let nodes = self.servers.iter().map(|server| self.make_available(node_name(server), &booting));
        tokio::try_join!(self.import(guest), try_join_all(nodes))?;

        let flavor = Flavor {
            name: FLAVOR.to_owned(),
            architecture: "x86_64".to_owned(),
            cpu_count: 1,
            memory_bytes: 512 << 20,
            disk_bytes: 2 << 30,
            ..Flavor::default()
        };
        self.client.create_flavor(flavor).await?;

        let instance = Instance {
            name: INSTANCE.to_owned(),
            flavor: format!("flavors/{FLAVOR}"),
            image: format!("images/{}", guest.image.name()),
            hostname: INSTANCE.to_owned(),
            ssh_keys: vec![guest.key.public.clone()],
            user_data: USER_DATA.as_bytes().to_vec(),
            method: DeployMethod::from(guest.method).into(),
            ready: ReadyGate::PhoneHome.into(),
            ready_seconds: 600,
            ..Instance::default()
        };
        let operation = self.client.create_instance(instance).await?;
        let done = self.follow(INSTANCE, "deploy", operation).await?;
        let addresses = done.result.map(|result| result.addresses).unwrap_or_default();
        let address = addresses.into_iter().next().context("the deploy ended without an address")?;
        if guest.image == Image::Debian {
            self.log_in(guest, place, &address).await?;
        }
        Ok(Deployed { node: done.node, address })
    }

    async fn import(&self, guest: &Guest) -> Result<()> {
        let task = self.board.begin("lab", "image");
        let name = guest.image.name();
        let line = task.line();
        let sent = move |done: u64, all: u64| line.show(&format!("{} of {} MiB", done >> 20, all >> 20));
        let image = self.client.import_image(name, &guest.file, sent).await?;
        let short = guest.file.sha256.get(..12).unwrap_or_default();
        task.done(&format!(
            "{}: {} MiB disk, {} MiB of data, sha256 {short}…",
            image.name,
            image.disk_bytes >> 20,
            image.stored_bytes >> 20
        ));
        Ok(())
    }

    /// manage, inspect, provide.
    async fn make_available(&self, node: String, booting: &Semaphore) -> Result<()> {
        self.act(&node, "manage", NodeVerb::Manage).await?;
        // Two emulated machines fill the machine's cores; a third only makes all three slow.
        let turn = booting.acquire().await?;
        self.act(&node, "inspect", NodeVerb::Inspect).await?;
        self.board.say(&format!("  {node} has {}", hardware(&self.client.node(&node).await?)));
        self.act(&node, "provide", NodeVerb::Provide).await?;
        drop(turn);
        Ok(())
    }

    async fn act(&self, node: &str, what: &str, verb: NodeVerb) -> Result<Operation> {
        let operation = self.client.act(node, verb).await?;
        self.follow(node, what, operation).await
    }

    async fn follow(&self, who: &str, what: &str, operation: Operation) -> Result<Operation> {
        let mut task: Task = self.board.begin(who, what);
        let done = self.client.wait(operation, |operation| task.operation(operation)).await?;
        task.done("");
        Ok(done)
    }

    async fn log_in(&self, guest: &Guest, place: &Place, address: &str) -> Result<()> {
        let task = self.board.begin(INSTANCE, "ssh");
        let deadline = Instant::now() + SSH_DEADLINE;
        let answer = loop {
            match guest.key.ask(place, address, &format!("hostname; cat {PROOF}")).await {
                Ok(answer) => break answer,
                Err(error) if Instant::now() > deadline => return Err(error.context("no answer on SSH")),
                Err(error) => task.detail(&format!("{error:#}")),
            }
        };
        let mut lines = answer.lines();
        if lines.next() != Some(INSTANCE) || lines.next() != Some(PROOF_TEXT) {
            bail!("expected host name {INSTANCE} and {PROOF_TEXT:?} from the user data, saw {answer:?}");
        }
        task.done(&format!("debian@{address} says hostname {INSTANCE}, and the user data is there"));
        Ok(())
    }
}

fn hardware(node: &Node) -> String {
    let Some(found) = &node.hardware else { return "no inspection result".to_owned() };
    let cpu = found.cpu.clone().unwrap_or_default();
    let system = found.system.clone().unwrap_or_default();
    let disks: Vec<_> =
        found.disks.iter().map(|d| format!("{} {} GiB", d.name, d.size_bytes >> 30)).collect();
    let nics: Vec<_> = found
        .nics
        .iter()
        .map(|n| format!("{} link {}", n.mac_address, if n.link_up { "up" } else { "down" }))
        .collect();
    format!(
        "{} × {}, {} MiB, {}, {}, serial {}, {:?}",
        cpu.thread_count,
        cpu.model,
        found.memory_bytes >> 20,
        disks.join(" "),
        nics.join(" "),
        system.serial_number,
        found.boot_mode(),
    )
}

pub(super) const SITE: &str = "here";
pub(super) const RACK: &str = "r1";
pub(super) const INSTANCE: &str = "anvil";
const FLAVOR: &str = "small";
const PROOF: &str = "/etc/farrier-demo";
const PROOF_TEXT: &str = "hello from the user data";
const USER_DATA: &str = "#cloud-config\nwrite_files:\n  - path: /etc/farrier-demo\n    content: |\n      hello from the user data\n";
const BOOTING_AT_A_TIME: usize = 2;
/// sshd is up before cloud-init phones home; a login under emulation takes seconds.
const SSH_DEADLINE: Duration = Duration::from_secs(90);
