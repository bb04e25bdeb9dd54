//! `farrier-sim`: parts of the virtual rack by hand.

use clap::{Parser, Subcommand};
use farrier_sim::net::wan::Wan;
use farrier_sim::{bmc, pretend};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
#[command(version, about = "The virtual rack: simulated machines and BMCs")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run pretend BMCs that speak IPMI and Redfish, one or thousands, until interrupted
    Bmc(bmc::cli::Args),
    /// Run pretend nodes beside a rackd on the same loopback, until interrupted
    Pretend(pretend::cli::Args),
    /// Write an image that a pretend node can be deployed with
    PretendImage(pretend::cli::ImageArgs),
    /// Carry frames between two interfaces of this network namespace as a long, bad cable does, until interrupted
    Wan(WanArgs),
    /// Do nothing until told to end: the container that owns a network which others join and leave
    Hold,
}

#[derive(clap::Args)]
struct WanArgs {
    /// One end
    near: String,
    /// The other end
    far: String,
    /// Round trip, in milliseconds
    #[arg(long, default_value_t = 0)]
    round_trip: u64,
    /// Frames lost of a thousand, in each direction
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1000))]
    loss: u32,
    /// What is lost depends on it
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colours).init();
    match Cli::parse().command {
        Command::Bmc(args) => bmc::cli::run(args).await,
        Command::Pretend(args) => pretend::cli::run(args).await,
        Command::PretendImage(args) => pretend::cli::image(&args),
        Command::Wan(args) => wan(args).await,
        Command::Hold => hold().await,
    }
}

async fn wan(args: WanArgs) -> anyhow::Result<()> {
    let wan = Wan {
        round_trip: std::time::Duration::from_millis(args.round_trip),
        loss_per_mille: args.loss,
        seed: args.seed,
    };
    let shutdown = CancellationToken::new();
    let ends = shutdown.clone();
    let carrier = tokio::task::spawn_blocking(move || wan.carry(&args.near, &args.far, &ends));
    let ended = shutdown.clone().run_until_cancelled_owned(hold()).await;
    shutdown.cancel();
    carrier.await??;
    ended.unwrap_or(Ok(()))
}

async fn hold() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}
