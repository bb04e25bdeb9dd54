//! Running programs from the root of the source tree.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// The root of the source tree.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    program(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
}

/// A program that runs in the root.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root()).stdin(Stdio::null());
    // What cargo tells the programs it runs is about us. Build scripts (ring's) start again when it changes, and with
    // them half of the tree: also below nextest, which runs cargo in its turn.
    for (name, _) in std::env::vars().filter(|(name, _)| ABOUT_US.iter().any(|part| name.starts_with(part))) {
        command.env_remove(name);
    }
    command
}

/// Runs it to its end, its output on ours.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = render(command);
    let status = command.status().with_context(|| format!("cannot run {line}"))?;
    ensure!(status.success(), "{line}: {status}");
    Ok(())
}

/// Runs it to its end and gives its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = render(command);
    let done = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {line}"))?;
    ensure!(done.status.success(), "{line}: {}", done.status);
    String::from_utf8(done.stdout).with_context(|| format!("{line}: no text"))
}

fn render(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

const ABOUT_US: &[&str] = &["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
