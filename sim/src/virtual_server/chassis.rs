//! The power button and the boot flags of a QEMU machine.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::serial::QemuSerial;
use crate::bmc::{
    BootDeviceSelector, BootFlags, Chassis, ChassisError, ChassisIdentify, PowerAction, PowerState,
    SerialPort,
};
use crate::machine::{self, BootDevice, Firmware, Machine, MachineError};

/// A [`Machine`] as its BMC has it in hand.
///
/// Without valid flags the machine boots by its own set-up: disk first, then network, with the
/// firmware of its specification. Valid flags choose the firmware too, as on servers with both.
pub struct QemuChassis {
    machine: Arc<Machine>,
    kept: Mutex<Kept>,
}

struct Kept {
    flags: BootFlags,
    identify: ChassisIdentify,
}

/// What the firmware does with flags: this boot, and the boots after it that no BMC asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    firmware: Firmware,
    now: BootDevice,
    later: BootDevice,
}

impl QemuChassis {
    /// No flags, LED off. Power is the machine's own.
    #[must_use]
    pub fn new(machine: Arc<Machine>) -> Self {
        let kept = Kept { flags: BootFlags::NONE, identify: ChassisIdentify::Off };
        Self { machine, kept: Mutex::new(kept) }
    }

    /// The locator LED.
    #[must_use]
    pub fn identify_state(&self) -> ChassisIdentify {
        self.kept().identify
    }

    fn plan(&self) -> Plan {
        Plan::of(self.kept().flags, self.machine.spec().firmware)
    }

    /// From no power.
    async fn start(&self, plan: Plan) -> Result<(), MachineError> {
        self.machine.set_boot(plan.now, Some(plan.firmware)).await?;
        self.machine.power_on().await?;
        if plan.later != plan.now {
            // QEMU hands the order out as it was when a boot began, so this boot keeps its own; a
            // guest that reboots by itself must not find a flag that was for once.
            self.machine.set_boot(plan.later, None).await?;
        }
        Ok(())
    }

    async fn restart(&self, plan: Plan) -> Result<(), MachineError> {
        let firmware = self.machine.boot().await.1;
        // SeaBIOS answers a reset with one of its own, so nobody can tell when a boot has begun, nor
        // when to take back a flag that was for once; and another firmware is another process.
        if plan.later != plan.now || plan.firmware != firmware {
            self.machine.power_off().await?;
            return self.start(plan).await;
        }
        self.machine.set_boot(plan.now, None).await?;
        self.machine.reset().await
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    fn of(flags: BootFlags, own: Firmware) -> Self {
        let set_up = BootDevice::Disk;
        if !flags.valid {
            return Self { firmware: own, now: set_up, later: set_up };
        }
        let now = match flags.device {
            BootDeviceSelector::PXE => BootDevice::Network,
            BootDeviceSelector::DISK | BootDeviceSelector::REMOTE_DISK => BootDevice::Disk,
            BootDeviceSelector::CDROM => BootDevice::Cd,
            // Nobody is at the set-up screen.
            _ => set_up,
        };
        let firmware = if flags.efi { Firmware::Uefi } else { Firmware::Bios };
        Self { firmware, now, later: if flags.persistent { now } else { set_up } }
    }
}

#[async_trait]
impl Chassis for QemuChassis {
    async fn power(&self) -> PowerState {
        match self.machine.power_state().await {
            machine::PowerState::On => PowerState::On,
            machine::PowerState::Off => PowerState::Off,
        }
    }

    async fn set_power(&self, action: PowerAction) -> Result<(), ChassisError> {
        let on = self.power().await == PowerState::On;
        let plan = self.plan();
        let done = match action {
            PowerAction::On if on => Ok(()),
            PowerAction::On => self.start(plan).await,
            PowerAction::Off => self.machine.power_off().await,
            PowerAction::Soft => self.machine.power_soft().await,
            PowerAction::Cycle | PowerAction::Reset | PowerAction::Interrupt if !on => {
                return Err(ChassisError::PresentState);
            }
            PowerAction::Interrupt => self.machine.diagnostic_interrupt().await,
            PowerAction::Reset => self.restart(plan).await,
            PowerAction::Cycle => match self.machine.power_off().await {
                Ok(()) => self.start(plan).await,
                Err(error) => Err(error),
            },
        };
        done.map_err(|error| ChassisError::Failed(error.into()))
    }

    async fn boot_flags(&self) -> BootFlags {
        self.kept().flags
    }

    async fn set_boot_flags(&self, flags: BootFlags) -> Result<(), ChassisError> {
        self.kept().flags = flags;
        Ok(())
    }

    async fn set_media(&self, url: Option<&str>) -> Result<(), ChassisError> {
        self.machine.set_cd(url).await.map_err(|error| ChassisError::Failed(error.into()))
    }

    async fn identify(&self, identify: ChassisIdentify) {
        self.kept().identify = identify;
    }

    fn serial(&self) -> Option<Arc<dyn SerialPort>> {
        Some(Arc::new(QemuSerial(Arc::clone(&self.machine))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_for_once_is_gone_at_the_next_boot_and_a_persistent_one_is_not() {
        let flags = |device, persistent, efi| BootFlags { valid: true, persistent, efi, device };
        let plan = |flags| Plan::of(flags, Firmware::Bios);
        let (disk, network) = (BootDevice::Disk, BootDevice::Network);
        assert_eq!(plan(BootFlags::NONE), Plan { firmware: Firmware::Bios, now: disk, later: disk });
        assert_eq!(
            plan(flags(BootDeviceSelector::PXE, false, true)),
            Plan { firmware: Firmware::Uefi, now: network, later: disk }
        );
        assert_eq!(
            plan(flags(BootDeviceSelector::PXE, true, false)),
            Plan { firmware: Firmware::Bios, now: network, later: network }
        );
        assert_eq!(
            plan(flags(BootDeviceSelector::DISK, true, true)),
            Plan { firmware: Firmware::Uefi, now: disk, later: disk }
        );
    }
}
