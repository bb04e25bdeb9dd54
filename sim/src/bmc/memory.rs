//! A chassis that is only a few variables, for tests and pretend nodes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use farrier_ipmi::command::{BootFlags, ChassisIdentify};

use super::serial::{PretendSerial, Pretended, SerialPort};
use super::{Chassis, ChassisError, PowerAction, PowerState};

/// Actions and boots that it remembers: thousands of it live in one process for long.
const REMEMBERED: usize = 1024;

/// Remembers what was done to it.
#[derive(Debug)]
pub struct MemoryChassis {
    state: Mutex<State>,
    serial: Arc<PretendSerial>,
    /// What it says on its serial port when it starts.
    banner: &'static str,
}

#[derive(Debug)]
struct State {
    power: PowerState,
    flags: BootFlags,
    identify: ChassisIdentify,
    actions: VecDeque<PowerAction>,
    boots: VecDeque<BootFlags>,
}

impl MemoryChassis {
    /// Off, no flags, LED off.
    #[must_use]
    pub fn new() -> Self {
        Self::saying("")
    }

    /// The same, and it says this on its serial port when it starts.
    #[must_use]
    pub fn saying(banner: &'static str) -> Self {
        let state = State {
            power: PowerState::Off,
            flags: BootFlags::NONE,
            identify: ChassisIdentify::Off,
            actions: VecDeque::new(),
            boots: VecDeque::new(),
        };
        Self { state: Mutex::new(state), serial: Arc::default(), banner }
    }

    /// The machine's end of its serial port.
    #[must_use]
    pub fn serial_port(&self) -> &PretendSerial {
        &self.serial
    }

    /// The power actions that arrived, refused ones included, in order; the last thousand.
    #[must_use]
    pub fn actions(&self) -> Vec<PowerAction> {
        self.state().actions.iter().copied().collect()
    }

    /// The flags each boot read, in order.
    #[must_use]
    pub fn boots(&self) -> Vec<BootFlags> {
        self.state().boots.iter().copied().collect()
    }

    /// The locator LED.
    #[must_use]
    pub fn identify_state(&self) -> ChassisIdentify {
        self.state().identify
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remember<T>(all: &mut VecDeque<T>, one: T) {
    if all.len() == REMEMBERED {
        all.pop_front();
    }
    all.push_back(one);
}

impl Default for MemoryChassis {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Chassis for MemoryChassis {
    async fn power(&self) -> PowerState {
        self.state().power
    }

    async fn set_power(&self, action: PowerAction) -> Result<(), ChassisError> {
        let mut state = self.state();
        remember(&mut state.actions, action);
        if action.boots(state.power) {
            let flags = state.flags;
            remember(&mut state.boots, flags);
            self.serial.say(self.banner);
        }
        state.power = match (action, state.power) {
            (PowerAction::Cycle | PowerAction::Reset | PowerAction::Interrupt, PowerState::Off) => {
                return Err(ChassisError::PresentState);
            }
            (PowerAction::Interrupt, PowerState::On) => PowerState::On,
            (PowerAction::On | PowerAction::Cycle | PowerAction::Reset, _) => PowerState::On,
            (PowerAction::Off | PowerAction::Soft, _) => PowerState::Off,
        };
        Ok(())
    }

    async fn boot_flags(&self) -> BootFlags {
        self.state().flags
    }

    async fn set_boot_flags(&self, flags: BootFlags) -> Result<(), ChassisError> {
        self.state().flags = flags;
        Ok(())
    }

    async fn identify(&self, identify: ChassisIdentify) {
        self.state().identify = identify;
    }

    async fn identified(&self) -> Option<ChassisIdentify> {
        Some(self.state().identify)
    }

    fn serial(&self) -> Option<Arc<dyn SerialPort>> {
        Some(Arc::new(Pretended(Arc::clone(&self.serial))))
    }
}
