//! The programs of this workspace, built when they are not.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::media::MediaStore;
use crate::tool;

/// Where each program is.
#[derive(Debug, Clone)]
pub struct Programs {
    by_name: BTreeMap<String, PathBuf>,
    agent: PathBuf,
}

impl Programs {
    /// Every binary of the workspace in the dev profile, and the agent as a ramdisk wants it. Seconds
    /// when nothing changed; cargo's own progress goes to standard error. Blocking.
    ///
    /// Always through cargo, so that a test never runs a program of yesterday.
    pub fn build() -> Result<Self> {
        Self::build_telling(|_| ())
    }

    /// The same; `tell` hears how far it is, each time that cargo is through with something.
    pub fn build_telling(tell: impl FnMut(&str)) -> Result<Self> {
        Self::build_with(&[], tell)
    }

    /// As [`Programs::build`], in the release profile: what a benchmark measures.
    pub fn release() -> Result<Self> {
        Self::build_with(&["--release"], |_| ())
    }

    fn build_with(profile: &[&str], mut tell: impl FnMut(&str)) -> Result<Self> {
        let by_name = cargo(&[&["build", "--workspace", "--bins"], profile].concat(), &[], &mut tell)?;
        let agent = ["build", "--profile", "ramdisk", "--package", "farrier-agent", "--bins"];
        let mut ramdisk = cargo(&agent, &[], |text| tell(&format!("the ramdisk's agent, {text}")))?;
        let agent = ramdisk.remove("farrier-agent").context("cargo built no farrier-agent")?;
        Ok(Self { by_name, agent })
    }

    /// The agent for the ramdisk of arm64 machines: by this compiler where it has their standard library
    /// (`rustup target add aarch64-unknown-linux-gnu`), else by Debian's.
    pub fn arm64_agent(store: &MediaStore) -> Result<PathBuf> {
        Self::build_arm64_agent(store, "ramdisk", &[])
    }

    /// The same code with less optimisation, larger and slower, and sooner there.
    pub fn arm64_agent_for_tests(store: &MediaStore) -> Result<PathBuf> {
        let quick = [("OPT_LEVEL", "1"), ("DEBUG", "false"), ("STRIP", "true")];
        Self::build_arm64_agent(store, "dev", &quick)
    }

    fn build_arm64_agent(store: &MediaStore, profile: &str, settings: &[(&str, &str)]) -> Result<PathBuf> {
        tool::install(ARM64_PACKAGES, |text| eprintln!("{text}"))?;
        // Apart from what another compiler has built, or this one with other settings.
        let mut env = vec![("CARGO_TARGET_DIR".to_owned(), workspace().join("target/arm64"))];
        if !has_target(ARM64)? {
            env.push(("RUSTC".to_owned(), store.arm64_compiler()?));
        }
        let name = profile.to_uppercase();
        env.extend(settings.iter().map(|(key, value)| (format!("CARGO_PROFILE_{name}_{key}"), value.into())));
        let args = ["build", "--locked", "--profile", profile, "--package", "farrier-agent", "--bins"];
        let mut built = cargo(&[&args[..], &["--target", ARM64]].concat(), &env, |_| ())?;
        built.remove("farrier-agent").context("cargo built no farrier-agent for arm64")
    }

    /// The programs that lie beside the test that runs: built by the same cargo command before it
    /// (`cargo build --workspace --bins`, as `cargo xtask test` does). The agent is the dev one.
    pub fn beside_tests() -> Result<Self> {
        let test = std::env::current_exe().context("this program has no path")?;
        let dir =
            test.parent().and_then(Path::parent).context("a test lies in target/<target>/<profile>/deps")?;
        let mut by_name = BTreeMap::new();
        for name in
            ["farrier-inventory", "farrier-scheduler", "farrier-images", "rackd", "farrier", "farrier-agent"]
        {
            let path = dir.join(name);
            ensure!(
                path.is_file(),
                "{}: missing; run `cargo build --workspace --bins` first",
                path.display()
            );
            by_name.insert(name.to_owned(), path);
        }
        let agent = dir.join("farrier-agent");
        Ok(Self { by_name, agent })
    }

    /// The path of a program, for example `rackd`.
    pub fn path(&self, name: &str) -> Result<&Path> {
        let known = || self.by_name.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        self.by_name
            .get(name)
            .map(PathBuf::as_path)
            .with_context(|| format!("no program {name} in this workspace; there are: {}", known()))
    }

    /// The agent that goes into the ramdisk.
    pub fn agent(&self) -> &Path {
        &self.agent
    }
}

/// Whether the compiler in use has the standard library of a target.
fn has_target(target: &str) -> Result<bool> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.current_dir(workspace()).args(["--print", "target-libdir", "--target", target]);
    let told = command.stderr(Stdio::inherit()).output().context("cannot run rustc")?;
    Ok(told.status.success() && Path::new(String::from_utf8_lossy(&told.stdout).trim()).is_dir())
}

fn cargo(
    args: &[&str],
    env: &[(String, PathBuf)],
    mut tell: impl FnMut(&str),
) -> Result<BTreeMap<String, PathBuf>> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command
        .current_dir(workspace())
        .args(args)
        .args(["--quiet", "--message-format", "json-render-diagnostics"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    // What cargo tells the programs it runs is about us. Build scripts (ring's) start again when it
    // changes, and with them half of the tree.
    for (name, _) in std::env::vars().filter(|(name, _)| ABOUT_US.iter().any(|part| name.starts_with(part))) {
        command.env_remove(name);
    }
    command.envs(env.iter().map(|(name, value)| (name, value)));
    let mut running = command.spawn().context("cannot run cargo")?;
    let said = running.stdout.take().context("cargo has no output")?;
    let (mut programs, mut parts) = (BTreeMap::new(), 0);
    // Cargo ends when it has said all, so it is read to its end before it is waited for.
    for line in BufReader::new(said).lines().map_while(std::io::Result::ok) {
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        let name = message.pointer("/target/name").and_then(Value::as_str);
        if let (Some("compiler-artifact"), Some(name)) = (message.get("reason").and_then(Value::as_str), name)
        {
            parts += 1;
            tell(&format!("cargo build: {parts} crates, last {name}"));
        }
        let path = message.pointer("/executable").and_then(Value::as_str);
        if let (Some(name), Some(path)) = (name, path) {
            programs.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    let done = running.wait().context("cannot wait for cargo")?;
    ensure!(done.success(), "cargo {} failed", args.join(" "));
    Ok(programs)
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

const ARM64: &str = "aarch64-unknown-linux-gnu";
/// A linker and a C compiler for it.
const ARM64_PACKAGES: &[tool::Package] = &[
    ("gcc-aarch64-linux-gnu", "/usr/bin/aarch64-linux-gnu-gcc", &[]),
    ("libc6-dev-arm64-cross", "/usr/aarch64-linux-gnu/lib/libc.a", &[]),
];

const ABOUT_US: &[&str] = &["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
