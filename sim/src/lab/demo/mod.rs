//! The demo: from an empty machine to a deployed server that answers on SSH, and nothing but the public
//! API in between.
//!
//! Read [`run`] for the order, `flow.rs` for what an operator does, `board.rs` for what a person sees.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, ValueEnum};
use farrier_proto::types::DeployMethod;

use self::board::Board;
use self::flow::{Flow, Guest};
use super::config::RackConfig;
use super::guest::Image;
use super::installation::Installation;
use super::place::{Place, run_on};
use super::programs::Programs;
use super::upload::{ImageFile, compress};
use crate::bmc::Secret;
use crate::machine::Firmware;
use crate::media::{KernelFlavour, MediaStore, Ramdisk};
use crate::rack::Rack;
use crate::tool;
use crate::virtual_server::{ServerOptions, VirtualServer};

mod board;
mod ending;
mod flow;
mod ssh;
mod timeline;

/// Options of the demo.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Servers in the rack: the first boots by UEFI, the others by BIOS
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
    nodes: u8,
    /// Leave everything running at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Write the timeline to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Operating system to deploy
    #[arg(long, value_enum, default_value_t = Image::Debian)]
    image: Image,
    /// How it gets onto the machine
    #[arg(long, value_enum, default_value_t = Method::Direct)]
    method: Method,
}

/// Deploy methods, as the CLI names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Method {
    /// The ramdisk streams the image over HTTP to the local disk
    Direct,
    /// The ramdisk copies the image from an iSCSI disk of the rack
    Iscsi,
    /// Nothing is copied: the machine boots from an iSCSI disk of the rack
    Diskless,
}

impl From<Method> for DeployMethod {
    fn from(method: Method) -> Self {
        match method {
            Method::Direct => DeployMethod::Direct,
            Method::Iscsi => DeployMethod::Iscsi,
            Method::Diskless => DeployMethod::Diskless,
        }
    }
}

/// Runs the demo; success only when the deployed system itself has answered.
pub fn run(args: &DemoArgs) -> ExitCode {
    let board = Arc::new(Board::new(args.json.clone()));
    // Before half an hour of work, whether its end can be written.
    let ended =
        board.check_json().and_then(|()| prepare(args, &board)).and_then(|ready| ready.run(args, &board));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let unwritten =
                board.write_json(false).err().map(|error| format!("; {error:#}")).unwrap_or_default();
            board.say(&format!("\nThe demo failed: {error:#}{unwritten}"));
            ExitCode::FAILURE
        }
    }
}

/// Everything that is made before anything runs.
struct Ready {
    programs: Programs,
    ramdisk: Ramdisk,
    image: ImageFile,
}

fn prepare(args: &DemoArgs, board: &Board) -> Result<Ready> {
    let task = board.begin("lab", "Debian packages");
    let installed = tool::install_missing(|text| task.detail(text))?;
    task.done(&match installed.len() {
        0 => "all there".to_owned(),
        n => format!("{n} installed"),
    });

    let mut task = board.begin("lab", "programs");
    task.detail("cargo build (some minutes where nothing is built)");
    let programs = Programs::build_telling(|text| task.show(text))?;
    task.done("built");

    let task = board.begin("lab", "boot media");
    let store = MediaStore::of_workspace()?;
    task.detail("ramdisk with the agent");
    let ramdisk = store.ramdisk(programs.agent(), KernelFlavour::Cloud)?;
    task.detail("operating system image (a minute or two when it is new)");
    let guest = args.image.build(&store)?;
    task.detail("compressing the image");
    let image = ImageFile::raw(&compress(&guest.path)?)?;
    task.done(&format!("ramdisk {} MiB, disk {} MiB", mib(&ramdisk.initrd)?, guest.size >> 20));
    Ok(Ready { programs, ramdisk, image })
}

fn mib(path: &std::path::Path) -> Result<u64> {
    Ok(path.metadata()?.len() >> 20)
}

impl Ready {
    /// Builds the rack and runs all the rest inside its namespace.
    fn run(self, args: &DemoArgs, board: &Arc<Board>) -> Result<()> {
        let task = board.begin("lab", "virtual rack");
        let rack = Rack::build()?;
        task.done(rack.netns().name());
        let runtime = rack.netns().runtime(2)?;
        let (args, board) = (args.clone(), board.clone());
        run_on(runtime, async move { self.run_inside(&args, &board, rack).await })
    }

    async fn run_inside(self, args: &DemoArgs, board: &Board, rack: Rack) -> Result<()> {
        let servers = (1..=args.nodes).map(|n| server(&rack, n)).collect::<Result<Vec<_>>>()?;
        let task = board.begin("lab", "services");
        let mut installation =
            Installation::start(Place::inside(rack.netns()), &self.programs, &rack.dir().join("farrier"))
                .await?;
        task.done("inventory, scheduler and images serve");
        let client = installation.client()?;
        let config = RackConfig::of_rack(&rack, &self.ramdisk);
        let key = ssh::Key::make(rack.dir())?;
        let guest = Guest { image: args.image, method: args.method, file: self.image, key };
        let flow = Flow { client: &client, board, servers: &servers };
        let ended = async {
            flow.register(&mut installation, &config).await?;
            let prefix = Place::inside(rack.netns());
            tokio::select! {
                ended = flow.deploy(&guest, &prefix) => ended,
                died = installation.died() => Err(died),
            }
        }
        .await;
        match ended {
            Ok(deployed) => {
                board.write_json(true)?;
                ending::success(board, &installation, &guest, &deployed, args.keep);
                if args.keep {
                    // The BMCs live in this process: it has to stay. Signals end it and clean up.
                    ending::how_to_stop(board);
                    std::future::pending::<()>().await;
                }
                board.say("ending everything");
                for server in servers {
                    server.shutdown().await?;
                }
                installation.shutdown().await
            }
            Err(error) => {
                board.write_json(false)?;
                ending::failure(board, &installation, &client, &servers, &error).await;
                if args.keep {
                    ending::how_to_stop(board);
                    std::future::pending::<()>().await;
                }
                Err(error)
            }
        }
    }
}

fn server(rack: &Rack, number: u8) -> Result<VirtualServer> {
    let firmware = if number == 1 { Firmware::Uefi } else { Firmware::Bios };
    let options = ServerOptions {
        user: BMC_USER.to_owned(),
        password: Secret::new(BMC_PASSWORD),
        ..ServerOptions::default()
    };
    Ok(VirtualServer::start(rack, number, firmware, options)?)
}

fn node_name(server: &VirtualServer) -> String {
    server.name.replace('m', "n")
}

const BMC_USER: &str = "admin";
const BMC_PASSWORD: &str = "farrier-lab";
