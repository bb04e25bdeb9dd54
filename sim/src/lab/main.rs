//! `farrier-lab`: a whole Farrier on a virtual rack, by hand. `cargo xtask demo` and `cargo xtask bench` run it.

use std::process::ExitCode;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use clap::{Parser, Subcommand};
use farrier_sim::lab::{BenchArgs, DemoArgs, RamdiskArgs, bench, demo, ramdisk};

#[derive(Parser)]
#[command(version, about = "A whole Farrier on a virtual rack")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// From nothing to a deployed server, through the public API
    Demo(DemoArgs),
    /// Measurements, beside a peer
    #[command(subcommand)]
    Bench(BenchArgs),
    /// Kernel and ramdisk for the machines of a real rack
    Ramdisk(RamdiskArgs),
}

fn main() -> ExitCode {
    let wanted = std::env::var("FARRIER_LOG").ok().and_then(|wanted| wanted.parse::<Targets>().ok());
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    farrier_sim::cleanup::on_signals();
    match Cli::parse().command {
        Command::Demo(args) => demo(&args),
        Command::Bench(args) => bench(&args),
        Command::Ramdisk(args) => ramdisk(&args),
    }
}
