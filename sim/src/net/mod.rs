//! The rack's wires: a network namespace with bridges and a tap per machine.
//!
//! Names are unique (`frr-<pid>-<n>`), so racks of one process and of several live side by side;
//! inside a namespace the interfaces have short fixed names. Sockets belong to the namespace they
//! were made in for ever, whoever uses them: [`Netns::udp_bind`] and its siblings make them on a
//! thread that has entered it, and the caller goes on using them from where it is.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use thiserror::Error;

use crate::tool::{self, ToolError};

mod bridge;
mod enter;
mod owner;
pub mod wan;

pub use bridge::{Bridge, Tap};
pub use owner::sweep;

/// Why the rack's network could not be made or used.
#[derive(Debug, Error)]
pub enum NetError {
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("namespace {name}: {what}")]
    Io {
        name: String,
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("namespace {name}: the thread inside it died")]
    ThreadDied { name: String },
}

/// A network namespace; removed on drop, after ending every process that still runs inside.
#[derive(Debug)]
pub struct Netns {
    name: String,
    /// Held locked while this process lives; [`sweep`] tells the dead by it.
    owner: Option<owner::OwnerLock>,
}

impl Netns {
    /// Makes a namespace with its loopback up, after sweeping up what dead processes left.
    pub fn create() -> Result<Self, NetError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep();
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let owner = owner::OwnerLock::take(&name).map_err(|source| NetError::Io {
            name: name.clone(),
            what: "no owner file",
            source,
        })?;
        // From here on `Drop` cleans up, also when a later step fails.
        crate::cleanup::register(&name);
        let netns = Self { name, owner: Some(owner) };
        let dir = netns.dir();
        std::fs::create_dir_all(&dir).map_err(|source| NetError::Io {
            name: netns.name.clone(),
            what: "no directory",
            source,
        })?;
        tool::run("ip", ["netns", "add", &netns.name])?;
        netns.ip("link set lo up\n")?;
        // Duplicate address detection would hold back each IPv6 address for a second.
        netns.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        netns.sysctl("net/ipv4/ip_unprivileged_port_start", "0")?;
        Ok(netns)
    }

    /// `frr-<pid>-<n>`, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A directory that lives as long as the namespace and is swept up with it. Its path is short,
    /// for the sockets inside.
    pub fn dir(&self) -> PathBuf {
        dir_of(&self.name)
    }

    /// The file to `setns` into.
    pub fn path(&self) -> PathBuf {
        path_of(&self.name)
    }

    /// A command that will run inside. Its process id is the program's own: `nsenter` execs it.
    ///
    /// Not `ip netns exec`, which remounts /sys for the program. Whoever starts it must end it: until
    /// `nsenter` has entered, dropping the namespace does not find it. [`Netns::spawn`] has no such moment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.env("PATH", tool::SEARCH_PATH);
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs a batch of `ip` commands inside, one a line.
    pub fn ip(&self, batch: &str) -> Result<String, NetError> {
        let args = ["-netns", self.name.as_str(), "-batch", "-"];
        Ok(tool::run_with_input("ip", args, batch.as_bytes())?)
    }

    /// Sets a network sysctl of the namespace; `key` as a path below /proc/sys.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), NetError> {
        let path = PathBuf::from("/proc/sys").join(key);
        let value = value.to_owned();
        self.run_inside(move || std::fs::write(path, value))?.map_err(|source| NetError::Io {
            name: self.name.clone(),
            what: "sysctl",
            source,
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
        self.owner.take();
    }
}

/// Ends the processes inside namespace `name` and removes it with everything in it.
pub(crate) fn remove(name: &str) {
    owner::end_processes_inside(name);
    // Bridges and taps die with the namespace.
    if path_of(name).exists()
        && let Err(error) = tool::run("ip", ["netns", "delete", name])
        // A signal and a drop may both be at it.
        && path_of(name).exists()
    {
        tracing::warn!(netns = name, %error, "namespace left behind");
    }
    // Not there when the namespace could not even be named.
    let _ = std::fs::remove_dir_all(dir_of(name));
    owner::forget(name);
    crate::cleanup::forget(name);
}

fn path_of(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

fn dir_of(name: &str) -> PathBuf {
    PathBuf::from(DIRECTORIES).join(name)
}

/// Not /run, which is memory on most machines: disks of the machines are in here.
const DIRECTORIES: &str = "/var/tmp/farrier-lab";
/// All namespaces of the lab begin so.
const PREFIX: &str = "frr-";
