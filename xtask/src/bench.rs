//! `cargo xtask bench NAME`: measurements, each beside a peer in the same run, in the release profile.
//!
//! One file a benchmark: what it needs, and what it runs. Those on the virtual rack are programs of the lab
//! (`sim/src/lab/bench`).

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Subcommand;

use crate::shell::{self, cargo};
use crate::tools;

mod block;
mod bmc;
mod deploy;
mod diskless;
mod netboot;

/// Which benchmark; `cargo xtask bench NAME --help` lists its options.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Request to running system, beside dnsmasq + nginx + ipmitool driven by a script
    #[command(disable_help_flag = true)]
    Deploy(Options),
    /// Machines without a disk: many at once, beside one
    #[command(disable_help_flag = true)]
    Diskless(Options),
    /// The iSCSI target, beside tgt and nginx
    #[command(disable_help_flag = true)]
    Block(Options),
    /// DHCP, TFTP and HTTP, beside Kea, ISC dhcpd, dnsmasq, tftpd-hpa and nginx
    #[command(disable_help_flag = true)]
    Netboot(Options),
    /// Reading the power of thousands of BMCs, beside ipmitool and pyghmi
    #[command(disable_help_flag = true)]
    Bmc(Options),
}

/// Handed on to the program that measures.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Options of the benchmark
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Deploy(options) => deploy::run(&options.options),
        Bench::Diskless(options) => diskless::run(&options.options),
        Bench::Block(options) => block::run(&options.options),
        Bench::Netboot(options) => netboot::run(&options.options),
        Bench::Bmc(options) => bmc::run(&options.options),
    }
}

/// Builds everything in the release profile and becomes `farrier-lab bench NAME`.
fn lab(name: &str, options: &[String]) -> Result<()> {
    eprintln!("building in the release profile (the first time takes minutes)");
    shell::run(cargo().args(["build", "--release", "--workspace", "--bins"]))?;
    let lab = tools::release_dir()?.join("farrier-lab");
    // Not a child: Ctrl-C and exit code are the benchmark's own.
    let error = Command::new(&lab).args(["bench", name]).args(options).exec();
    Err(error).with_context(|| format!("cannot run {}", lab.display()))
}
