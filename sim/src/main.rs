//! `farrier-sim`: parts of the virtual rack by hand.

use clap::{Parser, Subcommand};
use farrier_sim::{bmc, pretend};

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
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match Cli::parse().command {
        Command::Bmc(args) => bmc::cli::run(args).await,
        Command::Pretend(args) => pretend::cli::run(args).await,
        Command::PretendImage(args) => pretend::cli::image(&args),
    }
}
