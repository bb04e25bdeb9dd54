//! `farrier-sim`: parts of the virtual rack by hand.

use clap::{Parser, Subcommand};
use farrier_sim::{bmc, pretend};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(version, about = "The virtual rack: simulated machines and BMCs")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one IPMI BMC with a chassis in memory, until interrupted
    Bmc(bmc::cli::Args),
    /// Run pretend nodes beside a rackd on the same loopback, until interrupted
    Pretend(pretend::cli::Args),
    /// Write an image that a pretend node can be deployed with
    PretendImage(pretend::cli::ImageArgs),
    /// Do nothing until told to end: the container that owns a network which others join and leave
    Hold,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match Cli::parse().command {
        Command::Bmc(args) => bmc::cli::run(args).await,
        Command::Pretend(args) => pretend::cli::run(args).await,
        Command::PretendImage(args) => pretend::cli::image(&args),
        Command::Hold => hold().await,
    }
}

async fn hold() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}
