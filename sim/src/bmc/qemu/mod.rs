//! An operator's own QEMU as a machine with a BMC: `farrier-sim bmc --qmp` and `farrier-sim bmc -- qemu-system-x86_64 …`.
//!
//! - [`Origin::Command`]: the machine has a process while it has power. Off ends it; a guest that powers itself off has.
//! - [`Origin::Running`]: QEMU stays, whatever the power is. Off stops the machine and resets it, so that it stands before its
//!   firmware's first instruction; on lets it go. What its guest had not written is lost, as without power.
//!
//! Firmware is the command line's: a boot flag's "UEFI" is kept and told, and chooses nothing.

mod connection;
mod devices;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, Notify, broadcast};
use tokio_util::task::AbortOnDropHandle;

use super::redfish::Facts;
use super::serial::{Line, SerialPort, connect_unix};
use super::{BootDeviceSelector, BootFlags, Chassis, ChassisError, ChassisIdentify, PowerAction, PowerState};
use crate::qmp::{Event, Qmp, QmpError};
use connection::{Connection, Origin};
use devices::Kind;

/// QEMU resets a machine in milliseconds.
const RESET_DEADLINE: Duration = Duration::from_secs(20);
/// For a QEMU that was gone; what answers no sooner is taken to be gone still.
const AGAIN_DEADLINE: Duration = Duration::from_secs(2);
/// SeaBIOS answers a reset with one of its own, at once, and nothing tells when firmware has read the boot order for good: an
/// order for once is taken back so long after the last reset. No guest is up and down again within it; BMCs give their
/// firmware a minute (IPMI 2.0 §28.12).
const SETTLED: Duration = Duration::from_secs(5);

/// A QEMU machine. Cheap to share; [`Qemu::end`] ends what was started here.
pub struct Qemu {
    shared: Arc<Shared>,
    kept: StdMutex<Kept>,
}

struct Shared {
    origin: Origin,
    /// Held while a button works, so that nobody sees a power in between.
    state: Mutex<State>,
    /// The power may have changed.
    stirs: Notify,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    /// Tells of what happens by itself.
    listener: Option<AbortOnDropHandle<()>>,
    /// Takes an order that was for once back.
    settling: Option<AbortOnDropHandle<()>>,
    /// URL of the disc in the drive.
    media: Option<String>,
    /// A CD drive is what the machine has.
    has_drive: bool,
}

struct Kept {
    flags: BootFlags,
    identify: ChassisIdentify,
}

impl Qemu {
    /// One that runs already: its QMP socket, and the one of its serial port.
    ///
    /// # Errors
    /// None serves QMP there.
    pub async fn running(qmp: PathBuf, serial: Option<PathBuf>) -> Result<Self> {
        Self::of(Origin::Running { qmp, serial }).await
    }

    /// One that is started when it is switched on, and off until then.
    ///
    /// # Errors
    /// The command line is no good QEMU's.
    pub async fn command(words: Vec<String>) -> Result<Self> {
        Self::of(Origin::command(words)?).await
    }

    /// Asks it once what it has.
    async fn of(origin: Origin) -> Result<Self> {
        let shared = Arc::new(Shared { origin, state: Mutex::default(), stirs: Notify::new() });
        shared.connect(&mut *shared.state.lock().await).await?;
        let kept = Kept { flags: BootFlags::NONE, identify: ChassisIdentify::Off };
        Ok(Self { shared, kept: StdMutex::new(kept) })
    }

    /// What QEMU knows of the machine, in `base`. A machine that is started here is off after this.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub async fn facts(&self, base: Facts) -> Result<Facts> {
        let mut state = self.shared.state.lock().await;
        let connection = self.shared.connect(&mut state).await?;
        let facts = devices::facts(&connection.qmp, &connection.devices, base).await?;
        if connection.is_ours() {
            state.disconnect().await;
        }
        Ok(facts)
    }

    /// Ends a QEMU that was started here; another one stays as it is.
    pub async fn end(&self) {
        self.shared.state.lock().await.disconnect().await;
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What firmware tries first at the next start, and at those after it that no BMC asks for.
    fn plan(&self) -> (Option<Kind>, Option<Kind>) {
        let flags = self.kept().flags;
        let now = match flags.device {
            _ if !flags.valid => None,
            BootDeviceSelector::PXE => Some(Kind::Network),
            BootDeviceSelector::DISK | BootDeviceSelector::REMOTE_DISK => Some(Kind::Disk),
            BootDeviceSelector::CDROM => Some(Kind::Cd),
            // Nobody is at the set-up screen.
            _ => None,
        };
        (now, now.filter(|_| flags.persistent))
    }

    async fn press(&self, action: PowerAction) -> Result<(), ChassisError> {
        let mut state = self.shared.state.lock().await;
        let on = self.shared.power(&mut state).await == PowerState::On;
        let plan = self.plan();
        let done = match action {
            PowerAction::On if on => Ok(()),
            PowerAction::On => self.shared.start(&mut state, plan).await,
            PowerAction::Off | PowerAction::Soft if !on => Ok(()),
            PowerAction::Off => self.shared.stop(&mut state).await,
            PowerAction::Cycle | PowerAction::Reset | PowerAction::Interrupt if !on => {
                return Err(ChassisError::PresentState);
            }
            PowerAction::Soft => state.execute("system_powerdown").await,
            PowerAction::Interrupt => state.execute("inject-nmi").await,
            PowerAction::Reset => self.shared.start(&mut state, plan).await,
            PowerAction::Cycle => match self.shared.stop(&mut state).await {
                Ok(()) => self.shared.start(&mut state, plan).await,
                Err(error) => Err(error),
            },
        };
        done.map_err(ChassisError::Failed)
    }
}

impl Shared {
    /// The QEMU that is there, or a new one.
    async fn connect<'a>(self: &Arc<Self>, state: &'a mut State) -> Result<&'a Connection> {
        let connection = match state.connection.take() {
            Some(connection) => connection,
            None => {
                let connection = self.origin.connect().await?;
                let listener = listen(connection.qmp.events(), Arc::downgrade(self));
                state.listener = Some(AbortOnDropHandle::new(tokio::spawn(listener)));
                state.has_drive = connection.devices.iter().any(|device| device.kind == Kind::Cd);
                // Somebody else may have switched it on.
                self.stirs.notify_one();
                connection
            }
        };
        Ok(state.connection.insert(connection))
    }

    /// From the firmware's first instruction.
    async fn start(self: &Arc<Self>, state: &mut State, plan: (Option<Kind>, Option<Kind>)) -> Result<()> {
        let (now, later) = plan;
        state.settling = None;
        let disc = state.media.clone().filter(|_| state.connection.is_none());
        let connection = self.connect(state).await?;
        let (qmp, devices) = (Arc::clone(&connection.qmp), connection.devices.clone());
        if let Some(url) = disc
            && let Err(error) = exchange(connection, Some(&url)).await
        {
            // As before a drive whose disc cannot be read.
            tracing::warn!(url, error = format!("{error:#}"), "the machine starts without its disc");
        }
        devices::set_order(&qmp, &devices, now).await?;
        let events = qmp.events();
        reset(&qmp).await?;
        qmp.execute("cont", json!({})).await?;
        if now != later {
            state.settling = Some(AbortOnDropHandle::new(tokio::spawn(async move {
                settled(events).await;
                if let Err(error) = devices::set_order(&qmp, &devices, later).await {
                    tracing::warn!(%error, "an order for one boot cannot be taken back");
                }
            })));
        }
        Ok(())
    }

    async fn stop(&self, state: &mut State) -> Result<()> {
        state.settling = None;
        let Some(connection) = &state.connection else { return Ok(()) };
        if connection.is_ours() {
            state.disconnect().await;
            return Ok(());
        }
        connection.qmp.execute("stop", json!({})).await?;
        reset(&connection.qmp).await
    }

    /// The truth: whether a QEMU runs its machine.
    async fn power(self: &Arc<Self>, state: &mut State) -> PowerState {
        if state.connection.is_none() && matches!(self.origin, Origin::Running { .. }) {
            // Whoever has it may have started it again.
            let again = tokio::time::timeout(AGAIN_DEADLINE, self.connect(state)).await;
            if let Ok(Err(error)) = again {
                tracing::debug!(error = format!("{error:#}"), "qemu is not there");
            }
        }
        let was_there = state.connection.is_some();
        let power = state.power().await;
        if was_there && state.connection.is_none() {
            // Who listened to it has ended with it.
            self.stirs.notify_one();
        }
        power
    }
}

impl State {
    async fn power(&mut self) -> PowerState {
        let Some(connection) = &self.connection else { return PowerState::Off };
        match connection.qmp.execute("query-status", json!({})).await {
            Ok(status) if status.get("running") == Some(&Value::Bool(true)) => PowerState::On,
            Ok(_) => PowerState::Off,
            Err(QmpError::Closed) => {
                self.disconnect().await;
                PowerState::Off
            }
            // It hangs, and it has not ended.
            Err(error) => {
                tracing::warn!(%error, "qemu does not tell its state");
                PowerState::On
            }
        }
    }

    async fn execute(&self, command: &str) -> Result<()> {
        let connection = self.connection.as_ref().context("QEMU is gone")?;
        connection.qmp.execute(command, json!({})).await?;
        Ok(())
    }

    async fn disconnect(&mut self) {
        (self.listener, self.settling) = (None, None);
        if let Some(connection) = self.connection.take() {
            connection.end().await;
        }
    }
}

/// Says when the power may have changed, until QEMU is gone.
async fn listen(mut events: broadcast::Receiver<Event>, shared: Weak<Shared>) {
    loop {
        let event = events.recv().await;
        let Some(shared) = shared.upgrade() else { return };
        match event {
            Ok(event) if !CHANGES.contains(&event.name.as_str()) => {}
            Ok(_) | Err(RecvError::Lagged(_)) => shared.stirs.notify_one(),
            Err(RecvError::Closed) => return shared.stirs.notify_one(),
        }
    }
}

/// The machine stands before its firmware's first instruction, or runs it.
async fn reset(qmp: &Qmp) -> Result<()> {
    let mut events = qmp.events();
    qmp.execute("system_reset", json!({})).await?;
    // QEMU answers before it has done it.
    match tokio::time::timeout(RESET_DEADLINE, next_reset(&mut events)).await {
        Ok(true) => Ok(()),
        Ok(false) => bail!("QEMU has ended"),
        Err(_) => {
            Err(anyhow!("expected a reset of the machine, QEMU has done none within {RESET_DEADLINE:?}"))
        }
    }
}

/// Waits until the last reset is so long ago that firmware has read the boot order.
async fn settled(mut events: broadcast::Receiver<Event>) {
    while let Ok(true) = tokio::time::timeout(SETTLED, next_reset(&mut events)).await {}
}

/// `false`: QEMU has ended.
async fn next_reset(events: &mut broadcast::Receiver<Event>) -> bool {
    loop {
        match events.recv().await {
            Ok(event) if event.name == "RESET" => return true,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return false,
        }
    }
}

/// What is at a URL into the first CD drive, or out of it; QEMU reads it from there, sector by sector.
async fn exchange(connection: &Connection, url: Option<&str>) -> Result<()> {
    let drive = connection.devices.iter().find(|device| device.kind == Kind::Cd).context(NO_DRIVE)?;
    let (command, arguments) = match url {
        Some(url) => (
            "blockdev-change-medium",
            json!({ "id": drive.path, "filename": url, "format": "raw", "read-only-mode": "read-only" }),
        ),
        None => ("eject", json!({ "id": drive.path, "force": true })),
    };
    connection.qmp.execute(command, arguments).await?;
    Ok(())
}

#[async_trait]
impl Chassis for Qemu {
    async fn power(&self) -> PowerState {
        let mut state = self.shared.state.lock().await;
        self.shared.power(&mut state).await
    }

    async fn set_power(&self, action: PowerAction) -> Result<(), ChassisError> {
        self.press(action).await
    }

    async fn boot_flags(&self) -> BootFlags {
        self.kept().flags
    }

    async fn set_boot_flags(&self, flags: BootFlags) -> Result<(), ChassisError> {
        self.kept().flags = flags;
        Ok(())
    }

    async fn set_media(&self, url: Option<&str>) -> Result<(), ChassisError> {
        let mut state = self.shared.state.lock().await;
        let exchanged = async {
            // A path of this host is nobody's to ask for by Redfish.
            let web = |url: &str| ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
            ensure!(
                url.is_none_or(web),
                "expected a disc at http:// or https://, which is what QEMU is told to read"
            );
            ensure!(state.has_drive || url.is_none(), NO_DRIVE);
            match &state.connection {
                Some(connection) if state.has_drive => exchange(connection, url).await,
                // At the machine's next start.
                _ => Ok(()),
            }
        };
        exchanged.await.map_err(ChassisError::Failed)?;
        state.media = url.map(str::to_owned);
        Ok(())
    }

    async fn identify(&self, identify: ChassisIdentify) {
        self.kept().identify = identify;
    }

    async fn identified(&self) -> Option<ChassisIdentify> {
        Some(self.kept().identify)
    }

    fn serial(&self) -> Option<Arc<dyn SerialPort>> {
        let socket = self.shared.origin.serial()?;
        Some(Arc::new(Serial { socket, shared: Arc::clone(&self.shared) }))
    }

    async fn stirred(&self) {
        self.shared.stirs.notified().await;
    }
}

/// Its serial port: a socket that QEMU serves to one at a time.
struct Serial {
    socket: PathBuf,
    shared: Arc<Shared>,
}

#[async_trait]
impl SerialPort for Serial {
    async fn connect(&self) -> io::Result<Line> {
        connect_unix(&self.socket).await
    }

    async fn send_break(&self) {
        let state = self.shared.state.lock().await;
        let Some(connection) = &state.connection else { return };
        let sent = async {
            let socket = self.socket.to_string_lossy();
            let device = devices::chardev_at(&connection.qmp, &socket).await?;
            let device = device.with_context(|| format!("QEMU serves nothing at {socket}"))?;
            connection.qmp.execute("chardev-send-break", json!({ "id": device })).await?;
            anyhow::Ok(())
        };
        if let Err(error) = sent.await {
            tracing::warn!(error = format!("{error:#}"), "no break sent");
        }
    }
}

/// QMP events after which the power may be another.
const CHANGES: [&str; 3] = ["SHUTDOWN", "STOP", "RESUME"];
const NO_DRIVE: &str =
    "expected a CD drive, the machine has none: give QEMU -cdrom, or a device ide-cd or scsi-cd";
