//! `farrier-sim`: parts of the virtual rack by hand.

use clap::{Parser, Subcommand};
use farrier_sim::bmc;

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
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match Cli::parse().command {
        Command::Bmc(args) => bmc::cli::run(args).await,
    }
}
