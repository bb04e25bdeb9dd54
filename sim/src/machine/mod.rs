//! A server, played by QEMU under emulation: what a BMC switches on and off.
//!
//! A machine that is off has no process. One that is on has exactly one, and when the guest powers
//! itself off the process ends: [`Machine::power_state`] asks the process, not a variable.

use std::collections::VecDeque;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::json;
use thiserror::Error;
use tokio::sync::{Mutex, watch};

use crate::qmp::QmpError;
use crate::tool::ToolError;

mod args;
mod process;
mod spec;

pub use spec::{Architecture, BootDevice, DiskBus, DiskSpec, Firmware, MachineSpec, NicSpec};

use process::Process;

/// Whether a machine has power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerState {
    On,
    Off,
}

/// Why a machine did not do what it was told.
#[derive(Debug, Error)]
pub enum MachineError {
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("machine {name}: {what}")]
    Io {
        name: String,
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("machine {name}: the directory {dir} makes socket paths too long")]
    PathTooLong { name: String, dir: String },
    #[error("machine {name}: QEMU ended at once: {said}")]
    EndedEarly { name: String, said: String },
    #[error("machine {name}: QEMU does not connect to its control socket")]
    NoQmp { name: String },
    #[error("machine {name}")]
    Qmp {
        name: String,
        #[source]
        source: QmpError,
    },
    #[error("machine {name}: still on after {limit:?}")]
    StillOn { name: String, limit: Duration },
    #[error("machine {name}: no {marker:?} on the serial port within {limit:?}; it ended with: {tail}")]
    NoMarker { name: String, marker: String, limit: Duration, tail: String },
}

/// A server. Every method may be called in any power state, from any task; dropping it pulls the
/// plug and leaves no process.
#[derive(Debug)]
pub struct Machine {
    spec: MachineSpec,
    state: Mutex<State>,
}

/// One time that a machine had power.
#[derive(Debug, Clone)]
pub struct Run {
    /// When somebody pressed the button; the firmware starts a fraction of a second later.
    pub asked: SystemTime,
    ended: watch::Receiver<Option<SystemTime>>,
}

impl Run {
    /// When the power went, by whatever means; `None` while it is on.
    pub fn off(&self) -> Option<SystemTime> {
        *self.ended.borrow()
    }
}

#[derive(Debug)]
struct State {
    process: Option<Process>,
    /// The last [`RUNS`], oldest first.
    runs: VecDeque<Run>,
    boot: BootDevice,
    firmware: Firmware,
    /// URL of the disc in the drive.
    cd: Option<String>,
}

impl Machine {
    /// Screws a machine together: makes its disks, leaves it off.
    pub fn new(spec: MachineSpec) -> Result<Self, MachineError> {
        let io = |what: &'static str| {
            let name = spec.name.clone();
            move |source| MachineError::Io { name, what, source }
        };
        if spec.serial_socket().as_os_str().len() > 107 {
            let dir = spec.dir.display().to_string();
            return Err(MachineError::PathTooLong { name: spec.name.clone(), dir });
        }
        for (index, disk) in spec.disks.iter().enumerate() {
            let path = spec.disk_path(index);
            if !path.exists() {
                let file = std::fs::File::create(path).map_err(io("disk"))?;
                file.set_len(disk.size).map_err(io("disk"))?;
            }
        }
        let state = State {
            process: None,
            runs: VecDeque::new(),
            boot: spec.boot,
            firmware: spec.firmware,
            cd: None,
        };
        Ok(Self { spec, state: Mutex::new(state) })
    }

    pub fn spec(&self) -> &MachineSpec {
        &self.spec
    }

    /// The true state: whether a QEMU process runs.
    pub async fn power_state(&self) -> PowerState {
        match self.state.lock().await.running() {
            Some(_) => PowerState::On,
            None => PowerState::Off,
        }
    }

    /// Switches on; a machine that is on stays as it is. Returns when the firmware starts.
    pub async fn power_on(&self) -> Result<(), MachineError> {
        let mut state = self.state.lock().await;
        if state.running().is_some() {
            return Ok(());
        }
        let asked = SystemTime::now();
        // What is left of a run that ended by itself.
        state.process = None;
        if args::is_uefi(&self.spec, state.firmware) && !self.spec.uefi_variables().exists() {
            std::fs::copy(args::uefi(&self.spec).1, self.spec.uefi_variables()).map_err(|source| {
                self.io("UEFI variables (apt-get install ovmf qemu-efi-aarch64)", source)
            })?;
        }
        for (index, structure) in self.spec.smbios.iter().enumerate() {
            std::fs::write(self.spec.smbios_file(index), structure)
                .map_err(|source| self.io("SMBIOS structure", source))?;
        }
        let arguments = args::arguments(&self.spec, state.firmware, state.boot, state.cd.as_deref());
        let process = Process::start(&self.spec, &arguments).await?;
        if state.runs.len() >= RUNS {
            state.runs.pop_front();
        }
        state.runs.push_back(Run { asked, ended: process.watch_end() });
        state.process = Some(process);
        tracing::info!(machine = self.spec.name, boot = ?state.boot, "power on");
        Ok(())
    }

    /// Pulls the plug; a machine that is off stays so. Returns when the process is gone.
    pub async fn power_off(&self) -> Result<(), MachineError> {
        let mut state = self.state.lock().await;
        let Some(process) = state.process.take() else {
            return Ok(());
        };
        let mut ended = process.watch_end();
        // `quit` lets QEMU write back what the guest had been told is on the disk. A QEMU that
        // hangs, or has just ended, does not answer: then the process is killed.
        let quit = async {
            let _ = process.qmp.execute("quit", json!({})).await;
            let _ = ended.wait_for(Option::is_some).await;
        };
        if tokio::time::timeout(QUIT_DEADLINE, quit).await.is_err() {
            process.kill();
            let _ = ended.wait_for(Option::is_some).await;
        }
        tracing::info!(machine = self.spec.name, "power off");
        Ok(())
    }

    /// Presses the power button (ACPI): asks the guest to shut down, and returns at once.
    /// See [`Machine::wait_off`]. A machine that is off stays so.
    pub async fn power_soft(&self) -> Result<(), MachineError> {
        self.execute_when_on("system_powerdown", json!({})).await
    }

    /// Presses the reset button: the firmware starts again, by the boot order set last.
    /// A machine that is off stays so.
    pub async fn reset(&self) -> Result<(), MachineError> {
        self.execute_when_on("system_reset", json!({})).await
    }

    /// Off for a moment, then on: the firmware set last takes effect.
    pub async fn power_cycle(&self) -> Result<(), MachineError> {
        self.power_off().await?;
        self.power_on().await
    }

    /// Sends a non-maskable interrupt, as IPMI's "pulse diagnostic interrupt" does.
    pub async fn diagnostic_interrupt(&self) -> Result<(), MachineError> {
        self.execute_when_on("inject-nmi", json!({})).await
    }

    /// Pulls the serial line to BREAK for a moment. A machine that is off does not notice.
    pub async fn serial_break(&self) -> Result<(), MachineError> {
        self.execute_when_on("chardev-send-break", json!({"id": args::SERIAL})).await
    }

    /// Sets where the firmware looks first, from the next start or reset on, until set again.
    ///
    /// `firmware` changes BIOS to UEFI or back from the next *power-on*; `None` leaves it.
    pub async fn set_boot(&self, boot: BootDevice, firmware: Option<Firmware>) -> Result<(), MachineError> {
        let mut state = self.state.lock().await;
        if let Some(process) = state.running() {
            let order = args::boot_indexes(&self.spec, boot);
            // Two devices may not hold one index, not even for a moment: clear them all first.
            let all = args::bootable(&self.spec);
            let cleared = all.iter().map(|id| (id, -1));
            let wanted = order.iter().map(|(id, n)| (id, i64::try_from(*n).unwrap_or(-1)));
            for (id, index) in cleared.chain(wanted) {
                let set = json!({
                    "path": format!("/machine/peripheral/{id}"),
                    "property": "bootindex",
                    "value": index,
                });
                process.qmp.execute("qom-set", set).await.map_err(|source| self.qmp(source))?;
            }
        }
        state.boot = boot;
        if let Some(firmware) = firmware {
            state.firmware = firmware;
        }
        Ok(())
    }

    /// Puts what is at a URL into the CD drive, which QEMU then reads from there sector by sector; `None` takes it out.
    /// A machine without a drive has none to put it into, and does not notice.
    pub async fn set_cd(&self, url: Option<&str>) -> Result<(), MachineError> {
        let mut state = self.state.lock().await;
        if let Some(process) = state.running().filter(|_| self.spec.cd_drive) {
            let (command, arguments) = match url {
                Some(url) => (
                    "blockdev-change-medium",
                    json!({"id": args::CD, "filename": url, "format": "raw", "read-only-mode": "read-only"}),
                ),
                None => ("eject", json!({"id": args::CD, "force": true})),
            };
            process.qmp.execute(command, arguments).await.map_err(|source| self.qmp(source))?;
        }
        state.cd = url.map(str::to_owned);
        Ok(())
    }

    /// Where the firmware looks first.
    pub async fn boot(&self) -> (BootDevice, Firmware) {
        let state = self.state.lock().await;
        (state.boot, state.firmware)
    }

    /// The process id of QEMU while the machine is on.
    pub async fn pid(&self) -> Option<u32> {
        self.state.lock().await.running().map(|process| process.pid)
    }

    /// When the machine was switched on and went off, oldest first; the last few times only.
    pub async fn runs(&self) -> Vec<Run> {
        self.state.lock().await.runs.iter().cloned().collect()
    }

    /// Waits until the machine is off, as after [`Machine::power_soft`].
    pub async fn wait_off(&self, limit: Duration) -> Result<(), MachineError> {
        let Some(mut ended) = self.state.lock().await.running().map(Process::watch_end) else {
            return Ok(());
        };
        match tokio::time::timeout(limit, ended.wait_for(Option::is_some)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(MachineError::StillOn { name: self.spec.name.clone(), limit }),
        }
    }

    /// How many bytes the serial port has written so far: a position for
    /// [`Machine::wait_serial`].
    pub fn serial_position(&self) -> usize {
        std::fs::metadata(self.spec.serial_log())
            .ok()
            .and_then(|m| usize::try_from(m.len()).ok())
            .unwrap_or(0)
    }

    /// Waits until `marker` is in the serial log at or after byte `from`; gives the position
    /// behind it.
    pub async fn wait_serial(
        &self,
        from: usize,
        marker: &str,
        limit: Duration,
    ) -> Result<usize, MachineError> {
        let found = async {
            let mut look = tokio::time::interval(LOOK_INTERVAL);
            loop {
                look.tick().await;
                if let Some(at) = find(&self.serial_from(from), marker) {
                    return from + at + marker.len();
                }
            }
        };
        match tokio::time::timeout(limit, found).await {
            Ok(position) => Ok(position),
            Err(_) => Err(MachineError::NoMarker {
                name: self.spec.name.clone(),
                marker: marker.to_owned(),
                limit,
                tail: crate::tool::tail(&String::from_utf8_lossy(&self.serial_from(from)), 8),
            }),
        }
    }

    fn serial_from(&self, from: usize) -> Vec<u8> {
        read_from(&self.spec.serial_log(), from)
    }

    async fn execute_when_on(&self, command: &str, arguments: serde_json::Value) -> Result<(), MachineError> {
        let mut state = self.state.lock().await;
        let Some(process) = state.running() else {
            return Ok(());
        };
        match process.qmp.execute(command, arguments).await {
            Ok(_) => Ok(()),
            // The guest powered itself off while we asked: the button of a machine without power.
            Err(QmpError::Closed) => Ok(()),
            Err(source) => Err(self.qmp(source)),
        }
    }

    fn io(&self, what: &'static str, source: std::io::Error) -> MachineError {
        MachineError::Io { name: self.spec.name.clone(), what, source }
    }

    fn qmp(&self, source: QmpError) -> MachineError {
        MachineError::Qmp { name: self.spec.name.clone(), source }
    }
}

impl State {
    fn running(&mut self) -> Option<&Process> {
        self.process.as_ref().filter(|process| process.is_running())
    }
}

fn read_from(path: &Path, from: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    // No log yet: nothing was written.
    if let Ok(mut file) = std::fs::File::open(path)
        && file.seek(SeekFrom::Start(from as u64)).is_ok()
    {
        let _ = file.read_to_end(&mut bytes);
    }
    bytes
}

fn find(haystack: &[u8], needle: &str) -> Option<usize> {
    haystack.windows(needle.len().max(1)).position(|window| window == needle.as_bytes())
}

/// QEMU needs a fraction of a second to quit; after this it is taken to hang.
const QUIT_DEADLINE: Duration = Duration::from_secs(5);
/// How often the serial log is read while waiting: small beside what a benchmark tells apart, large beside
/// a read.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// A deploy and its taking back are four.
const RUNS: usize = 16;
