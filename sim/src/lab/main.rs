//! `farrier-lab`: a whole Farrier on a virtual rack, by hand. `cargo xtask demo` and `cargo xtask bench` run it.

use std::process::ExitCode;

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
    let filter = tracing_subscriber::EnvFilter::try_from_env("FARRIER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    farrier_sim::cleanup::on_signals();
    match Cli::parse().command {
        Command::Demo(args) => demo(&args),
        Command::Bench(args) => bench(&args),
        Command::Ramdisk(args) => ramdisk(&args),
    }
}
