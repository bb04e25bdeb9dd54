//! `cargo xtask bench NAME`: measurements, each beside a peer in the same run, in the release profile.
//!
//! One file a benchmark: what it needs, and what it runs.

use anyhow::Result;
use clap::Subcommand;

mod block;

/// Which benchmark; `cargo xtask bench NAME --help` lists its options.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// The iSCSI target, beside tgt
    #[command(disable_help_flag = true)]
    Block(Options),
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
        Bench::Block(options) => block::run(&options.options),
    }
}
