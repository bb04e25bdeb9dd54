//! `cargo xtask bench bmc`: reading the power of thousands of BMCs, some of them bad, beside `ipmitool` as a subprocess
//! and pyghmi.
//!
//! The BMCs are one process, `bmc-bench serve`, on addresses of 127/8; whoever reads is another, so that its processor
//! time and memory are its own. Ours runs on one thread.

mod fleet;
mod idle;
mod ours;
mod peers;
mod usage;
mod web;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use fleet::{Fleet, Mix};

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
    /// Services that speak Redfish.
    #[arg(long, default_value_t = 1000)]
    redfish: usize,
    /// Services that sushy reads too.
    #[arg(long, default_value_t = 50)]
    redfish_peers: usize,
    /// Which BMCs are bad in the sweep over all.
    #[arg(long, value_enum, default_value_t = Mix::Tenth)]
    mix: Mix,
    /// Sweeps of each kind, of which the median is told.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only what a Redfish BMC that nobody asks costs in memory.
    #[arg(long)]
    only_redfish_memory: bool,
    /// A Python that has pyghmi and sushy; without it they are left out.
    #[arg(long)]
    python: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Part {
    /// The BMCs, until standard input ends.
    Serve { count: usize, redfish: usize },
    /// What idle Redfish BMCs cost in memory: a process of its own, whose allocator has kept nothing of other work. Their
    /// certificates come by standard input.
    Idle,
}

fn main() -> Result<()> {
    let options = Options::parse();
    match options.part {
        Some(Part::Serve { count, redfish }) => return fleet::serve(count, redfish, options.mix),
        Some(Part::Idle) => return idle::run(),
        None => {}
    }
    farrier_sim::bmc::fleet::allow_open_files(options.count + options.redfish)?;
    if options.only_redfish_memory {
        let fleet = Fleet::start(0, options.redfish, options.mix)?;
        idle::measure(&fleet.pins)?;
        return fleet.stop();
    }
    let fleet = Fleet::start(options.count, options.redfish, options.mix)?;
    ours::run(options.count, options.peers, options.runs, options.mix)?;
    peers::run(options.peers, options.processes, options.runs, options.mix, options.python.as_deref())?;
    web::ours(&fleet.pins, options.runs)?;
    idle::measure(&fleet.pins)?;
    if let Some(python) = &options.python {
        web::sushy(python, options.redfish_peers.min(options.redfish), options.runs)?;
    }
    fleet.stop()
}
