//! `farrier`, the command line: every noun of the API as a subcommand.
//!
//! It knows the wire contract and nothing behind it: no store, no rule of the life cycle, no rack
//! protocol. Start with [`args`] (what can be typed), then [`cmd`] (one file a noun), [`output`] (data
//! on stdout) and [`failure`] (what went wrong, and which exit code says so).
//!
//! **Invariant:** stdout carries data only; everything a person is told goes to stderr, by [`talk`].

#![deny(clippy::print_stderr, reason = "panics where nobody reads: `talk` does not")]

pub mod args;
pub mod ca;
pub mod client;
pub mod cmd;
pub mod context;
mod csv;
pub mod failure;
pub mod names;
pub mod output;
pub mod progress;
pub mod prompt;
pub mod talk;
pub mod upload;

use args::Cli;
use context::Environment;
use std::process::ExitCode;

/// Runs one command and reports its failure on stderr.
pub async fn run(cli: Cli, env: Environment) -> ExitCode {
    let (colour, node) = (cli.global.color.on_stderr(&env), cli.global.node.clone());
    // On an interrupt the work goes on: it is the centre's, not this process's.
    let outcome = tokio::select! {
        outcome = cmd::dispatch(cli, &env) => outcome,
        _ = tokio::signal::ctrl_c() => {
            progress::clear();
            talk::say("interrupted: work that was started goes on; see `farrier operation list --running`");
            return ExitCode::from(failure::Exit::INTERRUPTED);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let failure = match node {
                Some(node) => failure.about_node(&node),
                None => failure,
            };
            talk::say(failure.render(colour).trim_end_matches('\n'));
            ExitCode::from(failure.exit.code())
        }
    }
}
