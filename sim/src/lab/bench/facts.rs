//! On what it was measured: without it a figure is worth nothing.

use std::process::Command;

use serde::Serialize;

use crate::tool::SEARCH_PATH;

/// The machine, and what ran on it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Facts {
    date: String,
    commit: String,
    machine: String,
    versions: Vec<String>,
}

impl Facts {
    /// `programs`: name and the argument that makes it say its version.
    pub(super) fn gather(programs: &[(&str, &str)]) -> Self {
        Self {
            date: first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            commit: commit(),
            machine: machine(),
            versions: programs.iter().map(|(program, ask)| first_line(program, &[ask])).collect(),
        }
    }

    pub(super) fn render(&self) -> String {
        let Self { date, commit, machine, versions } = self;
        format!("{date}, commit {commit}, release profile. {machine}. {}.", versions.join("; "))
    }
}

/// The one-minute load average: whoever shares the machine is in every figure.
pub(super) fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(f64::NAN)
}

fn commit() -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let id = first_line("git", &["-C", root, "rev-parse", "--short=10", "HEAD"]);
    let changes = first_line("git", &["-C", root, "status", "--porcelain", "--untracked-files=no"]);
    if changes.is_empty() { id } else { format!("{id} with changes") }
}

fn machine() -> String {
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown CPU".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib >> 20);
    let kernel = first_line("uname", &["-sr"]);
    format!("{cores} cores of {cpu}, {memory} GiB, {kernel}, QEMU without KVM (TCG)")
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

/// Programs tell their version on either output; one that is not there has none.
fn first_line(program: &str, args: &[&str]) -> String {
    let Ok(done) = Command::new(program).args(args).env("PATH", SEARCH_PATH).output() else {
        return format!("no {program}");
    };
    let said = [done.stdout, done.stderr].concat();
    String::from_utf8_lossy(&said).lines().next().unwrap_or_default().trim().to_owned()
}
