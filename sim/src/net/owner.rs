//! Who owns a namespace, so that what a killed process left behind can be told from what is used.
//!
//! A process id alone does not tell: ids are used again, and containers share /run but not ids. So
//! each namespace has a file that its maker holds locked; the kernel drops the lock with the
//! process.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{PREFIX, remove};
use crate::tool;

/// The lock that says "the maker of this namespace lives".
#[derive(Debug)]
pub(super) struct OwnerLock(#[allow(dead_code, reason = "held for its lock")] File);

impl OwnerLock {
    pub(super) fn take(name: &str) -> std::io::Result<Self> {
        std::fs::create_dir_all(DIR)?;
        loop {
            let file = open(name)?;
            file.lock()?;
            // A sweep in another process may have held, and removed, the file we just opened.
            let still_there = std::fs::metadata(PathBuf::from(DIR).join(name));
            if still_there.is_ok_and(|there| file.metadata().is_ok_and(|f| f.ino() == there.ino())) {
                return Ok(Self(file));
            }
        }
    }
}

/// Removes the namespaces, and the processes inside, of lab processes that are dead.
///
/// Never touches a namespace whose owner lives, nor one the lab did not make.
pub fn sweep() {
    let Ok(entries) = std::fs::read_dir(DIR) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) {
            continue;
        }
        let Ok(file) = OpenOptions::new().write(true).open(entry.path()) else {
            continue;
        };
        match file.try_lock() {
            Ok(()) => {
                tracing::info!(netns = name, "sweeping up after a dead process");
                remove(&name);
            }
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

/// Ends every process in namespace `name` by its id, and waits until they are gone.
pub(super) fn end_processes_inside(name: &str) {
    if !super::path_of(name).exists() {
        return;
    }
    // A process may start another while we look: look again until there is none.
    for _ in 0..5 {
        let Ok(pids) = tool::run("ip", ["netns", "pids", name]) else {
            return;
        };
        let pids: Vec<Pid> =
            pids.lines().filter_map(|l| l.trim().parse().ok()).filter_map(Pid::from_raw).collect();
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            if pid.as_raw_nonzero().get().unsigned_abs() != std::process::id() {
                kill_and_wait(pid);
            }
        }
    }
}

/// SIGKILL by a process descriptor (never hits a later process of the same number), then waits
/// until the process has ended.
fn kill_and_wait(pid: Pid) {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    if pidfd_send_signal(&process, Signal::KILL).is_ok() {
        wait_ended(&process, Duration::from_secs(5));
    }
}

/// Waits until the process behind `process` has ended; false when it has not within `limit`.
pub(crate) fn wait_ended(process: &std::os::fd::OwnedFd, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).ok();
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    matches!(rustix::event::poll(&mut fds, limit.as_ref()), Ok(n) if n > 0)
}

pub(super) fn forget(name: &str) {
    let _ = std::fs::remove_file(PathBuf::from(DIR).join(name));
}

fn open(name: &str) -> std::io::Result<File> {
    let path = PathBuf::from(DIR).join(name);
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

const DIR: &str = "/run/farrier-lab";
