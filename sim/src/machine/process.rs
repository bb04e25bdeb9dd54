//! One run of QEMU, from switching on to its end, however that comes.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::net::UnixListener;
use tokio::sync::watch;

use super::MachineError;
use super::spec::MachineSpec;
use crate::qmp::Qmp;
use crate::tool;

/// A QEMU process. Dropping it kills the process and waits until it is gone and reaped.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) qmp: Qmp,
    pub(super) pid: u32,
    guard: Guard,
}

impl Process {
    /// Starts QEMU with `args` and returns once it listens to QMP, which is when the guest runs.
    pub(super) async fn start(spec: &MachineSpec, args: &[String]) -> Result<Self, MachineError> {
        let failed = |what: &'static str| {
            let name = spec.name.clone();
            move |source| MachineError::Io { name, what, source }
        };
        let socket = spec.qmp_socket();
        remove_stale(&socket);
        remove_stale(&spec.serial_socket());
        let listener = UnixListener::bind(&socket).map_err(failed("QMP socket"))?;
        let log =
            OpenOptions::new().create(true).append(true).open(spec.qemu_log()).map_err(failed("QEMU log"))?;
        let log_start = log.metadata().map(|m| m.len()).unwrap_or(0);
        let mut guard = Guard::spawn(spec, args, log)?;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = guard.ended() => return Err(ended_early(spec, log_start)),
            () = tokio::time::sleep(START_DEADLINE) => return Err(MachineError::NoQmp { name: spec.name.clone() }),
        };
        let (stream, _) = accepted.map_err(failed("QMP connection"))?;
        match Qmp::start(stream).await {
            Ok(qmp) => Ok(Self { qmp, pid: guard.pid, guard }),
            // A bad device property ends QEMU after it has opened its sockets.
            Err(_) => {
                guard.kill();
                guard.ended().await;
                Err(ended_early(spec, log_start))
            }
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.guard.ended.borrow().is_none()
    }

    /// A receiver that hears when the process has ended and was reaped.
    pub(super) fn watch_end(&self) -> watch::Receiver<Option<SystemTime>> {
        self.guard.ended.clone()
    }

    pub(super) fn kill(&self) {
        self.guard.kill();
    }
}

/// The process alone, without its QMP connection.
#[derive(Debug)]
struct Guard {
    pid: u32,
    /// Signals go through it: a number might belong to another process by now, this never does.
    descriptor: OwnedFd,
    /// When the process was reaped.
    ended: watch::Receiver<Option<SystemTime>>,
    /// Waits for the process, so that it is reaped whoever ends it and whether or not an
    /// asynchronous runtime still turns.
    waiter: Option<std::thread::JoinHandle<()>>,
}

impl Guard {
    fn spawn(spec: &MachineSpec, args: &[String], log: File) -> Result<Self, MachineError> {
        let io = |what: &'static str| {
            let name = spec.name.clone();
            move |source| MachineError::Io { name, what, source }
        };
        let (qemu, _) = spec.architecture.qemu();
        let mut command = match &spec.netns {
            Some(netns) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", netns.display())).arg("--").arg(qemu);
                command
            }
            None => Command::new(qemu),
        };
        command.env("PATH", tool::SEARCH_PATH).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().map_err(|source| {
            let program = command.get_program().to_string_lossy().into_owned();
            MachineError::Tool(tool::spawn_error(&program, source))
        })?;
        let pid = child.id();
        let descriptor = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
            .map_err(|errno| {
                // Not yet reaped, so the number is still ours to kill by.
                let _ = child.kill();
                let _ = child.wait();
                io("process descriptor")(errno.into())
            })?;
        let (sender, ended) = watch::channel(None);
        let waiter = std::thread::Builder::new()
            .name("lab-qemu-wait".into())
            .spawn(move || {
                let status = child.wait();
                tracing::debug!(pid, ?status, "qemu ended");
                sender.send_replace(Some(SystemTime::now()));
            })
            .map_err(io("waiting thread"))?;
        Ok(Self { pid, descriptor, ended, waiter: Some(waiter) })
    }

    fn kill(&self) {
        // It may have ended by itself.
        let _ = pidfd_send_signal(&self.descriptor, Signal::KILL);
    }

    async fn ended(&mut self) {
        // An error means that the waiting thread is gone, and so is the process.
        let _ = self.ended.wait_for(Option::is_some).await;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.kill();
        if let Some(waiter) = self.waiter.take() {
            // Milliseconds: the kernel takes a killed process down at once.
            let _ = waiter.join();
        }
    }
}

fn ended_early(spec: &MachineSpec, log_start: u64) -> MachineError {
    let log = std::fs::read(spec.qemu_log()).unwrap_or_default();
    let start = usize::try_from(log_start).unwrap_or(0);
    let said = String::from_utf8_lossy(log.get(start..).unwrap_or_default()).into_owned();
    let (qemu, package) = spec.architecture.qemu();
    let said = if said.contains("No such file") && said.contains(qemu) {
        format!("{said} (apt-get install {package})")
    } else {
        said
    };
    MachineError::EndedEarly { name: spec.name.clone(), said: tool::tail(&said, 8) }
}

fn remove_stale(socket: &std::path::Path) {
    // Absent on the first power-on.
    let _ = std::fs::remove_file(socket);
}

/// QEMU starts in half a second; a machine with all cores taken has needed ten.
const START_DEADLINE: Duration = Duration::from_secs(60);
