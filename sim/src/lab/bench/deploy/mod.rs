//! `cargo xtask bench deploy`: from a request to a running system, by Farrier and by the stock chain.
//!
//! Two racks of the same servers (same QEMU, firmware, memory, disk, simulated BMC), one for each chain, in
//! one process: the deploys alternate, one at a time, and the order turns every time. Both boot the same
//! kernel with the same drivers and arguments and write the same image. Read `measure` for the order,
//! [`stock`] for what the peer is, [`marks`] for what is measured.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use self::farrier::Farrier;
use self::marks::Marks;
use self::report::{Chain, Measured, Report};
use self::stock::Stock;
use super::document;
use super::facts::{Facts, load};
use crate::bmc::Secret;
use crate::lab::guest::Image;
use crate::lab::place::run_on;
use crate::lab::process::tail;
use crate::lab::programs::Programs;
use crate::lab::upload::{ImageFile, compress};
use crate::machine::{Firmware, MachineError, Run};
use crate::media::{GuestImage, KernelFlavour, MediaStore, Ramdisk};
use crate::rack::Rack;
use crate::tool;
use crate::virtual_server::{ServerOptions, VirtualServer};

mod farrier;
mod marks;
mod report;
mod stock;

/// Options of the benchmark.
#[derive(Debug, Clone, Args)]
pub struct DeployArgs {
    /// Deploys of each chain on each firmware, after one that does not count
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    runs: u8,
    /// Operating system to deploy
    #[arg(long, value_enum, default_value_t = Image::Mini)]
    image: Image,
    /// Firmware of the servers
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Bios, Kind::Uefi])]
    firmware: Vec<Kind>,
    /// Write every deploy's instants to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Put the result into docs/benchmarks.md
    #[arg(long)]
    write: bool,
}

/// [`Firmware`] on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Bios,
    Uefi,
}

impl Kind {
    fn firmware(self) -> Firmware {
        match self {
            Kind::Bios => Firmware::Bios,
            Kind::Uefi => Firmware::Uefi,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Bios => "BIOS",
            Kind::Uefi => "UEFI",
        }
    }
}

/// A server that is deployed again and again.
struct Subject {
    server: VirtualServer,
}

impl Subject {
    fn new(rack: &Rack, number: u8, kind: Kind) -> Result<Self> {
        let options = ServerOptions {
            user: USER.to_owned(),
            password: Secret::new(PASSWORD),
            ..ServerOptions::default()
        };
        Ok(Self { server: VirtualServer::start(rack, number, kind.firmware(), options)? })
    }

    /// The ramdisk's run and the system's, which are all that a deploy has: two power cycles.
    async fn last_two_runs(&self, request: SystemTime) -> Result<(Run, Run)> {
        let mut runs = self.server.machine.runs().await;
        runs.retain(|run| run.asked >= request);
        let count = runs.len();
        let [ramdisk, system] = <[Run; 2]>::try_from(runs)
            .ok()
            .with_context(|| format!("expected two power cycles in a deploy, saw {count}"))?;
        Ok((ramdisk, system))
    }
}

/// Runs it.
pub(super) fn run(args: &DeployArgs) -> Result<()> {
    let ready = prepare(args)?;
    let ours = Rack::build()?;
    let theirs = Rack::build()?;
    let runtime = ours.netns().runtime(2)?;
    let asked = args.clone();
    let report = run_on(runtime, async move { ready.run(&asked, &ours, &theirs).await })?;
    let text = report.markdown();
    println!("{text}");
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report.json())? + "\n";
        std::fs::write(path, json).with_context(|| path.display().to_string())?;
    }
    if args.write {
        document::write(&format!("deploy {}", args.image.name()), &text)?;
    }
    Ok(())
}

/// Everything that is made before anything runs.
struct Ready {
    programs: Programs,
    guest: GuestImage,
    file: ImageFile,
    agent: Ramdisk,
    script: Ramdisk,
}

fn prepare(args: &DeployArgs) -> Result<Ready> {
    tool::install_missing(|text| eprintln!("{text}"))?;
    tool::install(stock::PACKAGES, |text| eprintln!("{text}"))?;
    eprintln!("programs in the release profile");
    let programs = Programs::release()?;
    eprintln!("boot media");
    let store = MediaStore::of_workspace()?;
    let agent = store.ramdisk(programs.agent(), KernelFlavour::Cloud)?;
    let script = store.script_ramdisk(stock::INIT, KernelFlavour::Cloud)?;
    let guest = args.image.build(&store)?;
    let file = ImageFile::raw(&compress(&guest.path)?)?;
    Ok(Ready { programs, guest, file, agent, script })
}

impl Ready {
    async fn run(self, args: &DeployArgs, ours: &Rack, theirs: &Rack) -> Result<Report> {
        let commands = [farrier::PROGRAMS, stock::PROGRAMS].concat();
        let facts = Facts::gather(&commands);
        eprintln!("installation and stock servers");
        let mut farrier = Farrier::start(ours, &self.programs, &self.agent, args.image, &self.file).await?;
        let mut stock = Stock::start(theirs, &self.script, args.image, &self.guest).await?;
        let mut measured = Vec::new();
        for (kind, number) in args.firmware.iter().zip(1..) {
            let pair = Pair {
                kind: *kind,
                farrier: Subject::new(ours, number, *kind)?,
                stock: Subject::new(theirs, number, *kind)?,
            };
            let done = pair.measure(args.runs, &mut farrier, &mut stock, &mut measured).await;
            done.with_context(|| pair.story(&farrier, &stock))?;
            pair.farrier.server.shutdown().await?;
            pair.stock.server.shutdown().await?;
        }
        farrier.shutdown().await?;
        stock.shutdown().await?;
        let size = |ramdisk: &Ramdisk| Ok::<_, std::io::Error>(ramdisk.initrd.metadata()?.len());
        Ok(Report {
            image: args.image.name(),
            command: command(args),
            facts,
            ramdisk_bytes: [(Chain::Farrier, size(&self.agent)?), (Chain::Stock, size(&self.script)?)],
            measured,
        })
    }
}

/// The same server twice.
struct Pair {
    kind: Kind,
    farrier: Subject,
    stock: Subject,
}

impl Pair {
    /// The deploys, one at a time, the order turned every time. The first of each chain does not count: it
    /// fills the rack's image cache, the host's page cache and the firmware's variables.
    async fn measure(
        &self,
        runs: u8,
        farrier: &mut Farrier,
        stock: &mut Stock,
        measured: &mut Vec<Measured>,
    ) -> Result<()> {
        farrier.enrol(&self.farrier).await?;
        for run in 0..=runs {
            let order = [Chain::Farrier, Chain::Stock];
            let order = if run % 2 == 0 { order } else { [Chain::Stock, Chain::Farrier] };
            for chain in order {
                let load = load();
                let (marks, steps) = match chain {
                    Chain::Farrier => {
                        let done = farrier.deploy(&self.farrier).await.context("Farrier's deploy")?;
                        farrier.take_back().await?;
                        done
                    }
                    Chain::Stock => {
                        let marks = stock.deploy(&self.stock).await.context("the stock chain's deploy")?;
                        stock.take_back(&self.stock).await?;
                        (marks, Vec::new())
                    }
                };
                marks.ensure_in_order()?;
                tell(self.kind, run, chain, &marks);
                if run > 0 {
                    measured.push(Measured { chain, firmware: self.kind.name(), load, marks, steps });
                }
            }
        }
        Ok(())
    }

    /// All that helps to see why it failed.
    fn story(&self, farrier: &Farrier, stock: &Stock) -> String {
        let console = |subject: &Subject| tail(&subject.server.machine.spec().serial_log(), 30);
        format!(
            "{}{}── Farrier's console\n{}\n── stock console\n{}\n",
            farrier.tails(),
            stock.tails(),
            console(&self.farrier),
            console(&self.stock)
        )
    }
}

fn tell(kind: Kind, run: u8, chain: Chain, marks: &Marks) {
    let note = if run == 0 { "warm-up".to_owned() } else { format!("run {run}") };
    let figures: Vec<String> =
        marks::FIGURES.iter().map(|figure| format!("{:.2}", (figure.of)(marks))).collect();
    eprintln!("{} {note:<8} {:<8} {}", kind.name(), chain.name(), figures.join(" "));
}

/// When it was there, and where the console was read to.
async fn stamp(
    wait: impl Future<Output = Result<usize, MachineError>>,
) -> Result<(SystemTime, usize), MachineError> {
    let at = wait.await?;
    Ok((SystemTime::now(), at))
}

/// The command that does it again.
fn command(args: &DeployArgs) -> String {
    let firmware: Vec<String> = args
        .firmware
        .iter()
        .filter_map(|kind| Some(kind.to_possible_value()?.get_name().to_owned()))
        .collect();
    let image = args.image.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    format!("cargo xtask bench deploy --runs {} --image {image} --firmware {}", args.runs, firmware.join(","))
}

const RACK: &str = "r1";
const USER: &str = "admin";
const PASSWORD: &str = "farrier-lab";
/// Longest wait for anything that a machine does: a Debian under emulation on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);
