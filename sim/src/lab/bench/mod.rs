//! Benchmarks on the virtual rack: ours and a peer's in one run, so that the ratio counts and not the
//! machine. `cargo xtask bench NAME` builds everything in the release profile and comes here.
//!
//! One folder a benchmark. What they share: [`document`] puts a result into `docs/benchmarks.md`,
//! [`facts`] says on what it was measured, [`statistics`] makes one figure of several.

use std::process::ExitCode;

use clap::Subcommand;

mod deploy;
mod diskless;
mod document;
mod facts;
mod statistics;

/// Which benchmark.
#[derive(Debug, Subcommand)]
pub enum BenchArgs {
    /// Request to running system, beside dnsmasq + nginx + ipmitool driven by a script
    Deploy(deploy::DeployArgs),
    /// Machines without a disk: many at once, beside one
    Diskless(diskless::DisklessArgs),
}

/// Runs it; success only when every figure is there.
pub fn run(args: &BenchArgs) -> ExitCode {
    let ended = match args {
        BenchArgs::Deploy(args) => deploy::run(args),
        BenchArgs::Diskless(args) => diskless::run(args),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
