//! Others, over the same BMCs: `ipmitool` once a read, and pyghmi.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::fleet::{Kind, Mix, PASSWORD, PORT, USER, address};
use crate::usage::{children_cpu, median};

pub(crate) fn run(
    count: usize,
    processes: usize,
    runs: usize,
    mix: Mix,
    python: Option<&Path>,
) -> Result<()> {
    let hosts: Vec<String> = (0..)
        .filter(|index| mix.of(*index) == Kind::Healthy)
        .take(count)
        .map(|index| address(index).ip().to_string())
        .collect();
    println!("\n| peer | reads | runs | wall s | CPU s | us CPU/read |\n|---|--:|--:|--:|--:|--:|");
    let name = format!("ipmitool, {processes} at once");
    row(&name, hosts.len(), runs, || ipmitool(&hosts, processes))?;
    let Some(python) = python else { return Ok(()) };
    let hosts = hosts.get(..PYGHMI.min(hosts.len())).unwrap_or_default();
    for (what, rounds) in [("session opened", 1), ("session opened, and ten reads more", 11)] {
        row(&format!("pyghmi, {what}"), hosts.len() * rounds, runs, || pyghmi(python, hosts, rounds))?;
    }
    // What Python and its modules cost before the first BMC.
    row("pyghmi, no BMC at all", 0, runs, || pyghmi(python, &[], 1))
}

pub(crate) fn row(name: &str, reads: usize, runs: usize, mut work: impl FnMut() -> Result<()>) -> Result<()> {
    let (mut wall, mut used) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let (begin, before) = (Instant::now(), children_cpu()?);
        work()?;
        wall.push(begin.elapsed().as_secs_f64());
        used.push((children_cpu()? - before).as_secs_f64());
    }
    let (wall, used) = (median(wall), median(used));
    let each = if reads == 0 { "–".to_owned() } else { format!("{:.0}", used / reads as f64 * 1e6) };
    println!("| {name} | {reads} | {runs} | {wall:.2} | {used:.2} | {each} |");
    Ok(())
}

/// So many at once, as a conductor's worker threads would.
fn ipmitool(hosts: &[String], processes: usize) -> Result<()> {
    for hosts in hosts.chunks(processes.max(1)) {
        let started = hosts.iter().map(|host| {
            Command::new("ipmitool")
                .args([
                    "-I",
                    "lanplus",
                    "-C",
                    "17",
                    "-H",
                    host,
                    "-p",
                    &PORT.to_string(),
                    "-U",
                    USER,
                    "-P",
                    PASSWORD,
                ])
                .args(["chassis", "power", "status"])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .context("ipmitool does not start")
        });
        for child in started.collect::<Result<Vec<_>>>()? {
            let done = child.wait_with_output()?;
            ensure!(
                done.status.success() && done.stdout.starts_with(b"Chassis Power is"),
                "ipmitool: {done:?}"
            );
        }
    }
    Ok(())
}

fn pyghmi(python: &Path, hosts: &[String], rounds: usize) -> Result<()> {
    let child = Command::new("timeout")
        .args(["300"])
        .arg(python)
        .args(["-c", SCRIPT, &rounds.to_string(), USER, PASSWORD, &PORT.to_string()])
        .stdin(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} does not start", python.display()))?;
    feed(child, &hosts.join("\n")).context("pyghmi, given five minutes")
}

/// Gives a program its input, and waits for its end.
pub(crate) fn feed(mut child: Child, input: &str) -> Result<()> {
    child.stdin.take().context("no input of python")?.write_all(input.as_bytes())?;
    let status = child.wait()?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

/// Sessions of one process: with two hundred pyghmi 1.6.19 does not come to an end.
const PYGHMI: usize = 50;

/// One after the other, each session kept. It ends without logging out, at which pyghmi hangs.
const SCRIPT: &str = r#"
import os, sys
from pyghmi.ipmi import command
rounds, user, password, port = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
hosts = sys.stdin.read().split()
bmcs = [command.Command(bmc=host, userid=user, password=password, port=port, keepalive=False) for host in hosts]
for _ in range(rounds):
    for bmc in bmcs:
        assert bmc.get_power()["powerstate"] in ("on", "off")
os._exit(0)
"#;
