//! `cargo xtask`: everything that is done with this source tree, by one name each.
//!
//! Thin on purpose: it decides what to run and runs it. The demo itself is `sim/src/lab/demo`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod docs;
mod lab;
mod shell;
mod test;
mod tidy;
mod tools;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Farrier's tasks")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// From nothing to a deployed server on this machine; `cargo xtask demo --help` lists the options
    #[command(disable_help_flag = true)]
    Demo {
        /// Options of the demo
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Kernel and ramdisk for the machines of a real rack; `cargo xtask ramdisk --help` lists the options
    #[command(disable_help_flag = true)]
    Ramdisk {
        /// Options
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Measurements, each beside a peer
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Everything that must pass before a change is merged
    Test(test::Args),
    /// The house rules: who imports whom, paths in the documents, the API's shape, long files
    Tidy,
    /// Writes the generated documents again
    Docs,
}

fn main() -> ExitCode {
    let done: Result<()> = match Cli::parse().task {
        Task::Demo { options } => lab::run("demo", &options),
        Task::Ramdisk { options } => lab::run("ramdisk", &options),
        Task::Bench(bench) => bench::run(&bench),
        Task::Test(args) => test::run(&args),
        Task::Tidy => tidy::run(),
        Task::Docs => docs::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
