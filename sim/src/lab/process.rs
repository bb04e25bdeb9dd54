//! One process of an installation: started, watched, killed, started again.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

/// A process with its log; ended on drop.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, with everything it says appended to `log`.
    pub(super) fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("{}: cannot be opened", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        tracing::debug!(process = name, pid = child.id(), "started");
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error with the end of its log, when the process has ended.
    pub(super) fn ensure_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.ended(status)),
        }
    }

    fn ended(&self, status: ExitStatus) -> anyhow::Error {
        let said = tail(&self.log, TAIL);
        anyhow::anyhow!("{} ended with {status}; {} ends with:\n{said}", self.name, self.log.display())
    }

    /// Waits until it has ended without being told to.
    pub(super) async fn ended_by_itself(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                let said = tail(&self.log, TAIL);
                anyhow::bail!(
                    "{} still runs after {}s; its log ends with:\n{said}",
                    self.name,
                    limit.as_secs()
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// SIGKILL, and gone when this returns.
    pub(super) fn kill(&mut self) {
        // Fails only for a process that has already been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM; SIGKILL when it has not ended within `limit`. Gives how it ended.
    pub(super) async fn end(&mut self, limit: Duration) -> Result<ExitStatus> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
            && self.child.try_wait()?.is_none()
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tracing::warn!(process = self.name, "did not end in time, killed");
        self.kill();
        Ok(self.child.wait()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last `lines` lines of a file; empty when it cannot be read.
pub fn tail(path: &Path, lines: usize) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

/// Lines of a log that usually hold the cause.
const TAIL: usize = 25;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_early_end_shows_what_was_said() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such luck >&2; exit 3"]);
        let mut process = Process::start("sh", command, &dir.path().join("log")).unwrap();
        let status = process.ended_by_itself(Duration::from_secs(30)).await.unwrap();
        assert!(!status.success());
        let error = process.ensure_running().unwrap_err().to_string();
        assert!(error.contains("no such luck"), "{error}");
    }

    #[tokio::test]
    async fn a_process_that_ignores_sigterm_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]);
        let log = dir.path().join("log");
        let mut process = Process::start("sh", command, &log).unwrap();
        while !tail(&log, 1).contains("ready") {
            process.ensure_running().unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let status = process.end(Duration::from_millis(50)).await.unwrap();
        assert!(!status.success());
        assert!(process.ensure_running().is_err());
    }
}
