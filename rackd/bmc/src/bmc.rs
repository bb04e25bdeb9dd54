//! The handle callers hold: capabilities of one BMC, whatever the driver.

use std::sync::Arc;
use std::time::Duration;

use crate::{
    BmcError, BmcIdentity, BootDevice, BootOverride, Deadline, Identify, Identity, Led, Power, PowerState,
};

/// Between two reads of the power state while waiting for it: BMCs take one to several seconds to
/// switch, and a read costs a round trip.
const POWER_POLL: Duration = Duration::from_millis(500);

/// One BMC. Cheap to clone. A capability the driver lacks answers [`BmcError::Unsupported`].
#[derive(Clone)]
pub struct Bmc {
    driver: &'static str,
    power: Option<Arc<dyn Power>>,
    boot_device: Option<Arc<dyn BootDevice>>,
    identity: Option<Arc<dyn Identity>>,
    identify: Option<Arc<dyn Identify>>,
}

impl Bmc {
    /// A handle with no capability; drivers add theirs.
    #[must_use]
    pub fn new(driver: &'static str) -> Self {
        Self { driver, power: None, boot_device: None, identity: None, identify: None }
    }

    /// Adds power.
    #[must_use]
    pub fn with_power(mut self, power: Arc<dyn Power>) -> Self {
        self.power = Some(power);
        self
    }

    /// Adds the boot device.
    #[must_use]
    pub fn with_boot_device(mut self, boot_device: Arc<dyn BootDevice>) -> Self {
        self.boot_device = Some(boot_device);
        self
    }

    /// Adds identity.
    #[must_use]
    pub fn with_identity(mut self, identity: Arc<dyn Identity>) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Adds the locator LED.
    #[must_use]
    pub fn with_identify(mut self, identify: Arc<dyn Identify>) -> Self {
        self.identify = Some(identify);
        self
    }

    /// The driver's name: `ipmi`, `fake`, …
    #[must_use]
    pub fn driver(&self) -> &'static str {
        self.driver
    }

    /// See [`Power::power_status`].
    pub async fn power_status(&self, deadline: Deadline) -> Result<PowerState, BmcError> {
        self.power()?.power_status(deadline).await
    }

    /// See [`Power::power_on`].
    pub async fn power_on(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.power()?.power_on(deadline).await
    }

    /// See [`Power::power_off`].
    pub async fn power_off(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.power()?.power_off(deadline).await
    }

    /// See [`Power::power_soft`].
    pub async fn power_soft(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.power()?.power_soft(deadline).await
    }

    /// See [`Power::power_cycle`].
    pub async fn power_cycle(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.power()?.power_cycle(deadline).await
    }

    /// See [`Power::power_reset`].
    pub async fn power_reset(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.power()?.power_reset(deadline).await
    }

    /// Check, do, read back until it is so. `false`: the BMC accepted the command, but the deadline
    /// passed before the state read back.
    pub async fn ensure_power(&self, wanted: PowerState, deadline: Deadline) -> Result<bool, BmcError> {
        let power = self.power()?;
        if power.power_status(deadline).await? == wanted {
            return Ok(true);
        }
        match wanted {
            PowerState::On => power.power_on(deadline).await?,
            PowerState::Off => power.power_off(deadline).await?,
        }
        while !deadline.is_past() {
            if power.power_status(deadline).await? == wanted {
                return Ok(true);
            }
            tokio::time::sleep(POWER_POLL.min(deadline.remaining())).await;
        }
        Ok(false)
    }

    /// See [`BootDevice::set_boot_device`].
    pub async fn set_boot_device(
        &self,
        wanted: BootOverride,
        deadline: Deadline,
    ) -> Result<BootOverride, BmcError> {
        self.boot()?.set_boot_device(wanted, deadline).await
    }

    /// See [`BootDevice::boot_device`].
    pub async fn boot_device(&self, deadline: Deadline) -> Result<BootOverride, BmcError> {
        self.boot()?.boot_device(deadline).await
    }

    /// See [`Identity::identity`].
    pub async fn identity(&self, deadline: Deadline) -> Result<BmcIdentity, BmcError> {
        self.identity.as_ref().ok_or(self.unsupported("identity"))?.identity(deadline).await
    }

    /// See [`Identify::identify`].
    pub async fn identify(&self, led: Led, deadline: Deadline) -> Result<(), BmcError> {
        self.identify.as_ref().ok_or(self.unsupported("locator LED"))?.identify(led, deadline).await
    }

    fn power(&self) -> Result<&dyn Power, BmcError> {
        self.power.as_deref().ok_or(self.unsupported("power control"))
    }

    fn boot(&self) -> Result<&dyn BootDevice, BmcError> {
        self.boot_device.as_deref().ok_or(self.unsupported("boot device"))
    }

    fn unsupported(&self, capability: &'static str) -> BmcError {
        BmcError::Unsupported { driver: self.driver, capability }
    }
}

impl std::fmt::Debug for Bmc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bmc").field("driver", &self.driver).finish_non_exhaustive()
    }
}
