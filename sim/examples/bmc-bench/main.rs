//! `cargo xtask bench bmc`: reading the power of thousands of BMCs, some of them bad, beside `ipmitool` as a subprocess
//! and pyghmi.
//!
//! The BMCs are one process, `bmc-bench serve`, on addresses of 127/8; whoever reads is another, so that its processor
//! time and memory are its own. Ours runs on one thread.

mod fleet;
mod ours;
mod peers;
mod usage;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use fleet::Fleet;

#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    part: Option<Part>,
    /// BMCs for our sweeps.
    #[arg(long, default_value_t = 10_000)]
    count: usize,
    /// BMCs that are read by the peers too.
    #[arg(long, default_value_t = 200)]
    peers: usize,
    /// ipmitool processes at once.
    #[arg(long, default_value_t = 8)]
    processes: usize,
    /// Sweeps of each kind, of which the median is told.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// A Python that has pyghmi; without it pyghmi is left out.
    #[arg(long)]
    python: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Part {
    /// The BMCs, until standard input ends.
    Serve { count: usize },
}

fn main() -> Result<()> {
    let options = Options::parse();
    usage::allow_open_files(options.count)?;
    if let Some(Part::Serve { count }) = options.part {
        return fleet::serve(count);
    }
    let fleet = Fleet::start(options.count)?;
    ours::run(options.count, options.peers, options.runs)?;
    peers::run(options.peers, options.processes, options.runs, options.python.as_deref())?;
    fleet.stop()
}
