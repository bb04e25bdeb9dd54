//! `cargo xtask bench netboot`: `rackd --standalone` beside other people's servers, each alone in the same network
//! namespace at the end of the same cable, under the same load.
//!
//! `netboot-bench --rackd PROGRAM [--seconds N] [--runs N] [--only dhcp|tftp|crowd|delay|http|storm|links]`

mod crowd;
mod dhcp;
mod files;
mod links;
mod place;
mod servers;
mod storm;

use std::path::PathBuf;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
struct Options {
    /// Our program, in the release profile.
    #[arg(long)]
    rackd: PathBuf,
    /// atftpd, another TFTP server with windows; without it the others are measured.
    #[arg(long)]
    atftpd: Option<PathBuf>,
    /// Length of one DHCP try.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Transfers of each kind, of which the median is told.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// `farrier-sim`, whose bad cable the files also go over; without it that part is left out.
    #[arg(long)]
    sim: Option<PathBuf>,
    /// Of those cables only the ones with this round trip in milliseconds.
    #[arg(long)]
    round_trip: Option<u64>,
    /// How many machines power on at once.
    #[arg(long, default_value_t = 1000)]
    machines: u16,
    /// This process is the machines: the benchmark's own.
    #[arg(long, hide = true)]
    play_machines: bool,
    /// Nobody else has the mounts that it sees: the names of its network namespaces are to go with it.
    #[arg(long, hide = true)]
    own_mounts: bool,
    /// Only this part.
    #[arg(long)]
    only: Option<String>,
    /// Where leases and files are; a real disk, since leases are synced to it.
    #[arg(long, default_value = "/var/tmp")]
    directory: PathBuf,
}

/// The first process of a namespace hears no signal that it does not ask for.
fn end_by_signals() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (interrupt, terminate) = {
        let _here = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        let (mut interrupt, mut terminate) = (interrupt, terminate);
        let code = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            }
        });
        std::process::exit(code);
    });
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if options.play_machines {
        return storm::play(options.machines);
    }
    end_by_signals()?;
    if options.own_mounts {
        place::keep_names_here()?;
    }
    let place = place::Place::new(&options.directory)?;
    let wants = |part: &str| options.only.as_deref().is_none_or(|only| only == part);
    let tftp = servers::Tftp { rackd: &options.rackd, atftpd: options.atftpd.as_deref() };
    if wants("dhcp") {
        dhcp::run(&place, &options.rackd, options.seconds)?;
    }
    if wants("tftp") {
        files::tftp(&place, &tftp, options.runs)?;
    }
    if wants("crowd") {
        crowd::run(&place, &tftp)?;
    }
    if let Some(sim) = options.sim.as_ref().filter(|_| wants("delay")) {
        crowd::delayed(&options.directory, &tftp, sim)?;
        crowd::far(&options.directory, &tftp, sim)?;
    }
    if wants("http") {
        files::http(&place, &options.rackd, options.runs)?;
        crowd::http(&place, &options.rackd, options.runs)?;
    }
    if wants("storm") {
        storm::run(&place, &options.rackd, options.machines)?;
    }
    if let Some(sim) = options.sim.as_ref().filter(|_| wants("links")) {
        links::run(&options.directory, &options.rackd, sim, options.round_trip)?;
    }
    Ok(())
}
