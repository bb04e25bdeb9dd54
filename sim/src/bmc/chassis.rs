//! What a BMC has its hands on.

use std::sync::Arc;

use async_trait::async_trait;
use farrier_ipmi::command::{BootFlags, ChassisIdentify};

use super::EventLog;
use super::serial::SerialPort;

/// Power as Get Chassis Status tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerState {
    /// Main power is on, whatever the operating system does.
    On,
    /// Soft off.
    Off,
}

/// What Chassis Control asks for (IPMI 2.0 §28.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerAction {
    /// On; nothing if it is on.
    On,
    /// Off at once; nothing if it is off.
    Off,
    /// Ask the operating system to shut down.
    Soft,
    /// Off, then on.
    Cycle,
    /// Hard reset.
    Reset,
    /// Diagnostic interrupt (NMI); the power stays.
    Interrupt,
}

impl PowerAction {
    /// Whether the firmware starts anew, and with it reads the boot flags.
    #[must_use]
    pub fn boots(self, before: PowerState) -> bool {
        match self {
            Self::On => before == PowerState::Off,
            Self::Cycle | Self::Reset => before == PowerState::On,
            Self::Off | Self::Soft | Self::Interrupt => false,
        }
    }
}

/// The chassis could not; becomes an IPMI completion code.
#[derive(Debug, thiserror::Error)]
pub enum ChassisError {
    /// Not in this state, e.g. cycling a chassis that is off (completion code D5h).
    #[error("not possible in the present state")]
    PresentState,
    /// Anything else (completion code FFh).
    #[error("chassis failed")]
    Failed(#[source] anyhow::Error),
}

/// A machine with a power button and a place for boot flags.
///
/// **Contract:** `set_power` reads `boot_flags` for itself before it returns when it boots the
/// machine; the BMC clears one-time flags right after. Methods may be called again while a former
/// call's answer is lost on the wire, as real BMCs experience it.
#[async_trait]
pub trait Chassis: Send + Sync + 'static {
    /// The power state now.
    async fn power(&self) -> PowerState;
    /// What it says of its power, true or not.
    async fn told_power(&self) -> PowerState {
        self.power().await
    }
    /// Carries the action out; done when this returns, except [`PowerAction::Soft`].
    async fn set_power(&self, action: PowerAction) -> Result<(), ChassisError>;
    /// The boot flags stored.
    async fn boot_flags(&self) -> BootFlags;
    /// Stores boot flags.
    async fn set_boot_flags(&self, flags: BootFlags) -> Result<(), ChassisError>;
    /// Puts what is at a URL into the machine's virtual CD drive, or takes it out.
    async fn set_media(&self, _url: Option<&str>) -> Result<(), ChassisError> {
        Ok(())
    }
    /// Sets the locator LED.
    async fn identify(&self, identify: ChassisIdentify);
    /// What the locator LED was told last; `None`: the chassis does not say.
    async fn identified(&self) -> Option<ChassisIdentify> {
        None
    }
    /// The machine's serial port, where it has one.
    fn serial(&self) -> Option<Arc<dyn SerialPort>> {
        None
    }
    /// Waits until the power may have changed without a button; for ever, where it cannot. May be cancelled.
    async fn stirred(&self) {
        std::future::pending().await
    }
}

/// Presses the button; flags for once are gone after the boot that read them, as BMCs do it. Whether the machine
/// booted.
pub(super) async fn press(chassis: &dyn Chassis, action: PowerAction) -> Result<bool, ChassisError> {
    let boots = action.boots(chassis.power().await);
    chassis.set_power(action).await?;
    if boots {
        let flags = chassis.boot_flags().await;
        if flags.valid && !flags.persistent {
            chassis.set_boot_flags(BootFlags::NONE).await?;
        }
    }
    Ok(boots)
}

/// The same, and what came of it is written down.
pub(super) async fn press_and_log(
    chassis: &dyn Chassis,
    log: &EventLog,
    action: PowerAction,
) -> Result<bool, ChassisError> {
    log.sees(chassis.power().await);
    let boots = press(chassis, action).await?;
    log.pressed(action, chassis.power().await);
    Ok(boots)
}

/// Writes down what becomes of a machine's power without a button, for ever.
pub(super) async fn follow(chassis: Arc<dyn Chassis>, log: EventLog) {
    log.sees(chassis.power().await);
    loop {
        chassis.stirred().await;
        log.noticed(chassis.power().await);
    }
}
