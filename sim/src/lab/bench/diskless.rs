//! `cargo xtask bench diskless`: pretend machines without a disk, one alone and many at once, from a request to the
//! system's call, with an image that the rack does not have yet; and what of it crosses the link to the rack.
//!
//! Everything but the machines is real: services, BMC wire, HTTP, iSCSI. There is no firmware and no kernel in the
//! figures, so that they say what the rack costs.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use farrier_proto::inventory::Flavor;
use farrier_proto::rack::{ReadyGate, Step};
use farrier_proto::scheduler::{Instance, Operation};
use farrier_proto::types::{BootInterface, BootMode, DeployMethod, NodeVerb};
use futures::future::try_join_all;
use tokio::net::UdpSocket;

use super::document;
use super::facts::{Facts, load};
use super::statistics::Summary;
use crate::lab::client::{Client, NewNode};
use crate::lab::config::RackConfig;
use crate::lab::installation::{Installation, Service};
use crate::lab::operation::seconds;
use crate::lab::place::Place;
use crate::lab::programs::Programs;
use crate::lab::upload::ImageFile;
use crate::link::{Link, Quality};
use crate::pretend::{PretendNode, PretendOptions, mac, write_image};

/// Options of the benchmark.
#[derive(Debug, Clone, Args)]
pub struct DisklessArgs {
    /// Machines at once
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=200))]
    nodes: u16,
    /// Size of the image
    #[arg(long, default_value_t = 512, value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..))]
    image_mib: u64,
    /// What each machine reads of it before it calls
    #[arg(long, default_value_t = 96, value_name = "MIB")]
    read_mib: u64,
    /// Speed of the link to the rack; without it as quick as this machine
    #[arg(long, value_name = "MIB PER SECOND")]
    link: Option<u64>,
    /// Put the result into docs/benchmarks.md
    #[arg(long)]
    write: bool,
}

/// Runs it.
pub(super) fn run(args: &DisklessArgs) -> Result<()> {
    ensure!(args.read_mib <= args.image_mib / 2, "--read-mib: expected at most half of the image");
    let programs = Programs::release()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let text = runtime.block_on(measure(args, &programs))?;
    println!("{text}");
    if args.write {
        document::write("diskless", &text)?;
    }
    Ok(())
}

async fn measure(args: &DisklessArgs, programs: &Programs) -> Result<String> {
    let dir = tempfile::tempdir()?;
    let mut bench = Bench::start(args, programs, dir.path()).await?;
    let ended = rounds(args, &mut bench, dir.path()).await;
    let ended = ended.with_context(|| bench.installation.tails(30))?;
    for node in bench.nodes {
        node.shutdown().await;
    }
    bench.installation.shutdown().await?;
    Ok(ended)
}

async fn rounds(args: &DisklessArgs, bench: &mut Bench, dir: &Path) -> Result<String> {
    let facts = Facts::gather(&[("rustc", "--version")]);
    let load = load();
    for (name, seed) in [("one", 1), ("many", 2)] {
        let path = dir.join(format!("{name}.raw"));
        write_image(&path, args.image_mib << 20, seed)?;
        bench.client.import_image(name, &ImageFile::raw(&path)?, |_, _| ()).await?;
        std::fs::remove_file(&path)?;
    }
    let rounds = [
        bench.round("1 machine", "one", 1).await?,
        bench.round(&format!("{} at once", args.nodes), "many", args.nodes).await?,
        bench.round(&format!("{} at once, image in the cache", args.nodes), "many", args.nodes).await?,
    ];
    let link = args.link.map_or("as quick as the loopback".to_owned(), |mib| format!("{mib} MiB/s"));
    let mut text = format!(
        "{} Load average {load:.1}. `cargo xtask bench diskless --nodes {} --image-mib {} --read-mib {}`: an image of {} MiB, \
         of which each machine reads {} MiB before it calls; the link from the images service to the rack is {link}.\n\n|",
        facts.render(),
        args.nodes,
        args.image_mib,
        args.read_mib,
        args.image_mib,
        args.read_mib
    );
    for round in &rounds {
        text += &format!(" | {}", round.name);
    }
    text += &format!(" |\n|---{}|\n", "|--:".repeat(rounds.len()));
    for (name, cell) in ROWS {
        let cells: Vec<String> = rounds.iter().map(cell).collect();
        text += &format!("| {name} | {} |\n", cells.join(" | "));
    }
    Ok(text)
}

type Row = (&'static str, fn(&Round) -> String);

const ROWS: &[Row] = &[
    ("request → system's call, s: median (min–max)", |round| figure(round.up)),
    ("of it `make_volume` (the clone), ms: median (min–max)", |round| figure(round.clone)),
    ("of it power on → system's call, s: median (min–max)", |round| figure(round.boot)),
    ("over the link when the last had called, MiB", |round| mib(round.carried)),
    ("over the link when the image was whole, MiB", |round| mib(round.carried_whole)),
    ("read by the machines, MiB", |round| mib(round.read)),
    ("`drop_volumes` of taking back, ms: median (min–max)", |round| figure(round.drop)),
];

fn figure(summary: Summary) -> String {
    format!("{:.2} ({:.2}–{:.2})", summary.median, summary.min, summary.max)
}

fn mib(bytes: u64) -> String {
    (bytes >> 20).to_string()
}

/// Machines deployed at once and taken back.
struct Round {
    name: String,
    up: Summary,
    clone: Summary,
    boot: Summary,
    drop: Summary,
    carried: u64,
    carried_whole: u64,
    read: u64,
}

struct Bench {
    installation: Installation,
    client: Client,
    link: Link,
    nodes: Vec<PretendNode>,
    read_bytes: u64,
}

impl Bench {
    /// Everything runs, the machines are available, and the rack has no image.
    async fn start(args: &DisklessArgs, programs: &Programs, dir: &Path) -> Result<Self> {
        let place = Place::loopback()?;
        let host = place.host();
        let mut installation = Installation::start(place, programs, &dir.join("installation")).await?;
        let client = installation.client()?;
        let images = installation.endpoints().images.trim_start_matches("https://").parse()?;
        let quality = args.link.map_or(Quality::Free, |mib| Quality::Slow(mib << 20));
        let link = Link::to(images, quality).await?;
        client.create_site("here").await?;
        client.create_rack(RACK, "here").await?;
        for name in ["kernel", "initrd"] {
            std::fs::write(dir.join(name), name)?;
        }
        let mut config = RackConfig::pretend(host, &dir.join("kernel"), &dir.join("initrd"));
        config.images = Some(format!("https://{}", link.address));
        let pool = config.segments.first().context("a rack without a segment")?.pool.clone();
        let (first, last) = pool.split_once('-').context("a pool without a range")?;
        let pool = (first.parse()?, last.parse()?);
        installation.start_rack(RACK, &config).await?;
        client.create_flavor(Flavor { name: "any".into(), ..Flavor::default() }).await?;
        let mut nodes = Vec::new();
        for index in 0..args.nodes {
            let name = format!("n{index}");
            let socket = UdpSocket::bind((host, 0)).await?;
            let mut options = PretendOptions::new(&name, mac(index), socket, dir.join(&name), pool);
            options.diskless = true;
            options.san_reads = reads(args);
            options.http = Some(SocketAddr::from((host, HTTP_PORT)));
            let node = PretendNode::start(options).await?;
            let new = NewNode {
                name,
                rack: RACK.to_owned(),
                bmc_address: node.bmc_address().to_string(),
                bmc_user: "admin".to_owned(),
                bmc_password: "pretend".to_owned(),
                redfish: None,
                boot_mode: BootMode::Bios,
                boot_interface: BootInterface::Unspecified,
                mac: node.mac_address(),
                switch_port: String::new(),
            };
            client.create_node(&new).await?;
            nodes.push(node);
        }
        let bench = Self { installation, client, link, nodes, read_bytes: args.read_mib << 20 };
        for verb in [NodeVerb::Manage, NodeVerb::Inspect, NodeVerb::Provide] {
            try_join_all(bench.nodes.iter().map(async |node| {
                bench.client.wait(bench.client.act(node.name(), verb).await?, |_| ()).await
            }))
            .await?;
        }
        Ok(bench)
    }

    async fn round(&mut self, name: &str, image: &str, count: u16) -> Result<Round> {
        eprintln!("{name}");
        let before = self.link.carried();
        let deployed = try_join_all((0..count).map(async |number| {
            let instance = Instance {
                name: format!("i{number}"),
                flavor: "flavors/any".to_owned(),
                image: format!("images/{image}"),
                method: DeployMethod::Diskless.into(),
                ready: ReadyGate::PhoneHome.into(),
                ready_seconds: 1800,
                ..Instance::default()
            };
            self.client.wait(self.client.create_instance(instance).await?, |_| ()).await
        }))
        .await?;
        let carried = self.link.carried() - before;
        self.until_whole(image).await?;
        let carried_whole = self.link.carried() - before;
        let taken_back = try_join_all((0..count).map(async |number| {
            self.client.wait(self.client.delete_instance(&format!("i{number}")).await?, |_| ()).await
        }))
        .await?;
        self.installation.ensure_running()?;
        let up = |operation: &Operation| {
            seconds(&operation.create_time, &step(operation, "wait_system")?.end_time)
        };
        let boot = |operation: &Operation| {
            let (on, up) = (step(operation, "start_system")?, step(operation, "wait_system")?);
            seconds(&on.start_time, &up.end_time)
        };
        Ok(Round {
            name: name.to_owned(),
            up: summary(&deployed, up)?,
            clone: summary(&deployed, |operation| milliseconds(operation, "make_volume"))?,
            boot: summary(&deployed, boot)?,
            drop: summary(&taken_back, |operation| milliseconds(operation, "drop_volumes"))?,
            carried,
            carried_whole,
            read: self.read_bytes * u64::from(count),
        })
    }

    /// The background fill ends by itself while somebody holds the image.
    async fn until_whole(&mut self, image: &str) -> Result<()> {
        let digest = self.client.image(image).await?.manifest_sha256;
        let path = self.installation.data(Service::Rackd).join(format!("images/{digest}.raw"));
        while !path.exists() {
            self.installation.ensure_running()?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

fn summary(operations: &[Operation], of: impl Fn(&Operation) -> Option<f64>) -> Result<Summary> {
    let values: Option<Vec<f64>> = operations.iter().map(of).collect();
    values.and_then(Summary::of).context("an operation without the step's times")
}

fn milliseconds(operation: &Operation, name: &str) -> Option<f64> {
    let step = step(operation, name)?;
    Some(seconds(&step.start_time, &step.end_time)? * 1e3)
}

fn step<'a>(operation: &'a Operation, name: &str) -> Option<&'a Step> {
    operation.steps.iter().find(|step| step.name == name)
}

/// A boot reads here and there: pieces of 4 MiB, evenly over the image, the first at its beginning.
fn reads(args: &DisklessArgs) -> Vec<Range<u64>> {
    let pieces = (args.read_mib / PIECE_MIB).max(1);
    let stride = args.image_mib / pieces;
    (0..pieces)
        .map(|piece| ((piece * stride) << 20)..((piece * stride + args.read_mib / pieces) << 20))
        .collect()
}

const PIECE_MIB: u64 = 4;
const RACK: &str = "r1";
/// rackd's in a lab.
const HTTP_PORT: u16 = 8080;
