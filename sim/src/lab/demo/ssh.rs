//! A key for the occasion, and logging in with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::lab::place::Place;
use crate::tool;

/// An SSH key pair in files.
pub(super) struct Key {
    pub(super) path: PathBuf,
    /// One line, as in `authorized_keys`.
    pub(super) public: String,
}

impl Key {
    pub(super) fn make(dir: &Path) -> Result<Self> {
        let path = dir.join("demo_key");
        let file = path.to_string_lossy().into_owned();
        tool::run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "farrier-demo", "-f", &file])?;
        let public = std::fs::read_to_string(path.with_extension("pub"))?.trim().to_owned();
        Ok(Self { path, public })
    }

    /// The arguments of `ssh` up to the command.
    pub(super) fn arguments(&self, address: &str) -> Vec<String> {
        let mut all = vec!["-i".to_owned(), self.path.display().to_string()];
        // The machine is minutes old and its address is used again by the next: there is nobody to know.
        for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"] {
            all.extend(["-o".to_owned(), option.to_owned()]);
        }
        all.push(format!("debian@{address}"));
        all
    }

    /// Runs `command` on the machine; gives its standard output.
    pub(super) async fn ask(&self, place: &Place, address: &str, command: &str) -> Result<String> {
        let mut ssh = place.command(Path::new("ssh"));
        ssh.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"])
            .args(self.arguments(address))
            .arg(command);
        let mut ssh = tokio::process::Command::from(ssh);
        ssh.stdin(std::process::Stdio::null()).kill_on_drop(true);
        let done = tokio::time::timeout(DEADLINE, ssh.output()).await.context("ssh takes too long")??;
        if !done.status.success() {
            bail!("ssh: {}", String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }
}

const DEADLINE: Duration = Duration::from_secs(60);
