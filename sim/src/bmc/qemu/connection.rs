//! A QEMU that runs, and the way to it: one that somebody else has started, or one that is started here.

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};

use super::devices::{self, Device};
use crate::qmp::Qmp;

/// QEMU starts in half a second; a machine with all cores taken has needed ten.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// It needs a fraction of a second to end; after this it is taken to hang.
const QUIT_DEADLINE: Duration = Duration::from_secs(5);

/// Where a QEMU comes from.
#[derive(Debug)]
pub(super) enum Origin {
    /// Somebody has started it; it serves QMP at this socket.
    Running { qmp: PathBuf, serial: Option<PathBuf> },
    /// It is started by this command when the machine is switched on, with its sockets in a directory.
    Command { words: Vec<String>, dir: TempDir },
}

/// A QEMU that runs. One that was started here is killed when it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) qmp: Arc<Qmp>,
    pub(super) devices: Vec<Device>,
    child: Option<Child>,
}

impl Origin {
    /// Of a command.
    pub(super) fn command(words: Vec<String>) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("farrier-sim-").tempdir();
        Ok(Self::Command { words, dir: dir.context("no directory for QEMU's sockets")? })
    }

    /// Where it serves its serial port.
    pub(super) fn serial(&self) -> Option<PathBuf> {
        match self {
            Self::Running { serial, .. } => serial.clone(),
            Self::Command { dir, .. } => Some(dir.path().join("serial")),
        }
    }

    /// A machine that has not begun, or one that somebody has begun.
    pub(super) async fn connect(&self) -> Result<Connection> {
        let (qmp, child) = match self {
            Self::Running { qmp, .. } => (attach(qmp).await?, None),
            Self::Command { words, dir } => {
                let (qmp, child) = start(words, dir.path()).await?;
                (qmp, Some(child))
            }
        };
        let devices = devices::all(&qmp).await.context("QEMU does not tell its devices")?;
        Ok(Connection { qmp: Arc::new(qmp), devices, child })
    }
}

impl Connection {
    /// Whether it was started here, and ends with its machine's power.
    pub(super) fn is_ours(&self) -> bool {
        self.child.is_some()
    }

    /// Ends a QEMU that was started here; another one stays.
    pub(super) async fn end(mut self) {
        let Some(mut child) = self.child.take() else { return };
        // It writes back what its guest was told is on the disk. One that hangs is killed.
        let quit = async {
            let _closed = self.qmp.execute("quit", json!({})).await;
            child.wait().await
        };
        if tokio::time::timeout(QUIT_DEADLINE, quit).await.is_err()
            && let Err(error) = child.kill().await
        {
            tracing::warn!(%error, "qemu cannot be killed");
        }
    }
}

async fn attach(socket: &Path) -> Result<Qmp> {
    let at = socket.display();
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!("no QEMU serves QMP at {at}: expected one started with -qmp unix:{at},server=on,wait=off")
    })?;
    let qmp = Qmp::start(stream).await;
    let qmp = qmp.with_context(|| {
        format!("expected QMP at {at}; QEMU serves one program at a time there: does another one use it?")
    })?;
    // As `-no-shutdown`: a guest that switches itself off leaves a machine that can be switched on again.
    let stays = qmp.execute("set-action", json!({ "shutdown": "pause" })).await;
    stays.context("expected QEMU 6.0 or later: this one cannot stay when its guest switches itself off")?;
    Ok(qmp)
}

/// Held before its first instruction.
async fn start(words: &[String], dir: &Path) -> Result<(Qmp, Child)> {
    let (program, arguments) = words.split_first().context("expected QEMU's command line after --")?;
    let (control, serial) = (dir.join("qmp"), dir.join("serial"));
    for stale in [&control, &serial] {
        // There is none at the first start.
        let _ = std::fs::remove_file(stale);
    }
    // We listen and QEMU connects: no guessing when it is ready.
    let listener = UnixListener::bind(&control).context("no socket for QMP")?;
    let chardev = |id: &str, path: &Path, rest: &str| {
        let mut text = OsString::from(format!("socket,id={id},path="));
        text.push(path);
        text.push(rest);
        text
    };
    let mut command = Command::new(program);
    command.args(arguments).arg("-S");
    command.arg("-chardev").arg(chardev(CONTROL, &control, ""));
    command.args(["-mon", &format!("chardev={CONTROL},mode=control")]);
    command.arg("-chardev").arg(chardev(SERIAL, &serial, ",server=on,wait=off"));
    command.args(["-serial", &format!("chardev:{SERIAL}")]);
    // Standard output is for the table of BMCs.
    let said = std::io::stderr().as_fd().try_clone_to_owned().context("no standard error")?;
    command.stdin(Stdio::null()).stdout(Stdio::from(said)).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("{program} cannot be started"))?;
    let stream = tokio::select! {
        accepted = listener.accept() => accepted.context("QEMU's connection")?.0,
        ended = child.wait() => bail!("{program} has ended at once with {}: see what it said", ended?),
        () = tokio::time::sleep(START_DEADLINE) => {
            bail!("{program} does not connect to its QMP socket within {START_DEADLINE:?}: is it a QEMU?")
        }
    };
    match Qmp::start(stream).await {
        Ok(qmp) => Ok((qmp, child)),
        // A bad device ends QEMU after it has opened its sockets.
        Err(error) => {
            // It may have ended by itself.
            let _ = child.kill().await;
            Err(error).with_context(|| format!("{program} has ended: see what it said"))
        }
    }
}

const CONTROL: &str = "farrier-qmp";
const SERIAL: &str = "farrier-serial";
