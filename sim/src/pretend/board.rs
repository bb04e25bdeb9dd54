//! The main board: power, boot flags, and the one boot that runs while there is power.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use farrier_agent::limits::Limits;
use farrier_agent::machine::{PretendDisk, PretendMachine};
use farrier_proto::types::Hardware;
use tokio::task::JoinHandle;

use super::boot;
use super::lan::Lan;
use super::mishaps::Fate;
use super::observe::{Diary, Event};
use super::power::Supply;
use super::san::San;
use crate::bmc::{
    BootFlags, Chassis, ChassisError, ChassisIdentify, PowerAction, PowerState, Pretended, SerialPort,
};

/// A pretend machine, powered or not.
pub(super) struct Board {
    pub(super) name: String,
    pub(super) mac: [u8; 6],
    source: Mutex<Ipv4Addr>,
    pub(super) lan: Option<Lan>,
    pub(super) dir: PathBuf,
    pub(super) disk: Option<PretendDisk>,
    pub(super) san_reads: Vec<Range<u64>>,
    pub(super) hardware: Hardware,
    pub(super) efi_vars: Option<PathBuf>,
    pub(super) retry: Duration,
    pub(super) limits: Limits,
    pub(super) fate: Arc<Fate>,
    pub(super) diary: Arc<Diary>,
    pub(super) http: Mutex<Option<SocketAddr>>,
    /// Instance that has called home: cloud-init does so once an instance.
    pub(super) at_home: Mutex<Option<String>>,
    /// The iSCSI disk of its last boot.
    pub(super) san: Mutex<Option<San>>,
    state: Mutex<State>,
    /// The boot's task, joined by whoever ends it. Held over a whole power action: one at a time.
    boot: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

struct State {
    /// The boot under way; its power is the machine's.
    supply: Option<Arc<Supply>>,
    flags: BootFlags,
    identify: ChassisIdentify,
    /// URL of what is in the virtual CD drive.
    media: Option<String>,
}

/// What a [`Board`] is made from.
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) mac: [u8; 6],
    pub(super) source: Ipv4Addr,
    pub(super) disk: Option<PretendDisk>,
    pub(super) san_reads: Vec<Range<u64>>,
    pub(super) hardware: Hardware,
    pub(super) efi_vars: Option<PathBuf>,
    pub(super) retry: Duration,
    pub(super) limits: Limits,
    pub(super) http: Option<SocketAddr>,
    pub(super) lan: Option<Lan>,
    pub(super) dir: PathBuf,
}

impl Board {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { name, mac, source, disk, san_reads, hardware, efi_vars, retry, limits, http, lan, dir } =
            parts;
        Self {
            name,
            mac,
            source: Mutex::new(source),
            lan,
            dir,
            disk,
            san_reads,
            hardware,
            efi_vars,
            retry,
            limits,
            fate: Arc::default(),
            diary: Arc::default(),
            http: Mutex::new(http),
            at_home: Mutex::default(),
            san: Mutex::default(),
            state: Mutex::new(State {
                supply: None,
                flags: BootFlags::NONE,
                identify: ChassisIdentify::Off,
                media: None,
            }),
            boot: tokio::sync::Mutex::default(),
        }
    }

    /// The machine as one boot's agent sees it. Blocking.
    pub(super) fn machine(&self) -> std::io::Result<PretendMachine> {
        let machine = PretendMachine::new(&self.name, "", self.disk.iter().cloned().collect())?;
        let machine = machine.with_hardware(self.hardware.clone());
        Ok(match &self.efi_vars {
            Some(dir) => machine.with_efi_vars(dir),
            None => machine,
        })
    }

    /// Its address.
    pub(super) fn source(&self) -> Ipv4Addr {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// DHCP gave it one.
    pub(super) fn set_source(&self, ip: Ipv4Addr) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = ip;
    }

    pub(super) fn http(&self) -> Option<SocketAddr> {
        *self.http.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// URL of what is in the virtual CD drive.
    pub(super) fn media(&self) -> Option<String> {
        self.state().media.clone()
    }

    /// Ends whatever runs; does not wait for its task.
    pub(super) fn pull_the_plug(&self) {
        let supply = self.state().supply.take();
        if let Some(supply) = supply {
            supply.cut();
            self.diary.note(Event::PowerCut);
        }
    }

    /// Ends whatever runs and waits for it.
    pub(super) async fn off(&self) {
        let mut boot = self.boot.lock().await;
        self.end(&mut boot).await;
    }

    async fn end(&self, boot: &mut Option<JoinHandle<()>>) {
        self.pull_the_plug();
        if let Some(task) = boot.take()
            && let Err(error) = task.await
        {
            tracing::error!(node = self.name, %error, "a pretend boot ended badly");
        }
    }

    async fn start(self: &Arc<Self>, boot: &mut Option<JoinHandle<()>>) {
        // A boot that switched itself off has left its task.
        self.end(boot).await;
        let supply = Arc::new(Supply::new(Arc::clone(&self.fate), Arc::clone(&self.diary)));
        let flags = {
            let mut state = self.state();
            state.supply = Some(Arc::clone(&supply));
            state.flags
        };
        self.diary.note(Event::PowerOn);
        let board = Arc::clone(self);
        *boot = Some(tokio::spawn(async move {
            let cut = supply.cut.clone();
            if cut.run_until_cancelled(boot::run(&board, &supply, flags)).await.is_some() {
                board.switched_itself_off(&supply);
            }
        }));
    }

    fn switched_itself_off(&self, supply: &Arc<Supply>) {
        let mut state = self.state();
        // The BMC may have been quicker.
        if state.supply.as_ref().is_some_and(|now| Arc::ptr_eq(now, supply)) {
            state.supply = None;
            drop(state);
            supply.cut();
            self.diary.note(Event::SwitchedOff);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The board as its BMC has it in hand.
pub(super) struct Hands(pub(super) Arc<Board>);

#[async_trait]
impl Chassis for Hands {
    async fn power(&self) -> PowerState {
        if self.0.state().supply.is_some() { PowerState::On } else { PowerState::Off }
    }

    async fn set_power(&self, action: PowerAction) -> Result<(), ChassisError> {
        let board = &self.0;
        let mut boot = board.boot.lock().await;
        let supply = board.state().supply.clone();
        match (action, supply) {
            (PowerAction::On, Some(_)) => {}
            (PowerAction::On, None) => board.start(&mut boot).await,
            (PowerAction::Off, _) => board.end(&mut boot).await,
            (PowerAction::Soft, Some(_)) if board.fate.now().ignores_button => {
                board.diary.note(Event::Struck("ignores_button"));
            }
            (PowerAction::Soft, Some(supply)) => supply.button.cancel(),
            (PowerAction::Soft, None) => {}
            (PowerAction::Cycle | PowerAction::Reset, Some(_)) => board.start(&mut boot).await,
            (PowerAction::Interrupt, Some(_)) => board.diary.note(Event::Interrupted),
            (PowerAction::Cycle | PowerAction::Reset | PowerAction::Interrupt, None) => {
                return Err(ChassisError::PresentState);
            }
        }
        Ok(())
    }

    async fn boot_flags(&self) -> BootFlags {
        self.0.state().flags
    }

    async fn set_boot_flags(&self, flags: BootFlags) -> Result<(), ChassisError> {
        self.0.state().flags = flags;
        Ok(())
    }

    async fn set_media(&self, url: Option<&str>) -> Result<(), ChassisError> {
        self.0.state().media = url.map(str::to_owned);
        Ok(())
    }

    async fn identify(&self, identify: ChassisIdentify) {
        self.0.state().identify = identify;
    }

    async fn identified(&self) -> Option<ChassisIdentify> {
        Some(self.0.state().identify)
    }

    fn serial(&self) -> Option<Arc<dyn SerialPort>> {
        Some(Arc::new(Pretended(Arc::clone(&self.0.diary.console))))
    }
}
