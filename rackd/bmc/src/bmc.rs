//! The handle callers hold: capabilities of one BMC, whatever the driver.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::{
    BmcError, BmcEvents, BmcIdentity, BootDevice, BootOverride, Console, ConsoleLine, Deadline, EventLog,
    Identify, Identity, Inventory, Led, Power, PowerState, ReadInventory, ReadSensors, Sensors,
};

/// One BMC. Cheap to clone. A capability the driver lacks answers [`BmcError::Unsupported`].
#[derive(Clone)]
pub struct Bmc {
    driver: &'static str,
    power: Option<Arc<dyn Power>>,
    boot_device: Option<Arc<dyn BootDevice>>,
    identity: Option<Arc<dyn Identity>>,
    identify: Option<Arc<dyn Identify>>,
    inventory: Option<Arc<dyn ReadInventory>>,
    console: Option<Arc<dyn Console>>,
    event_log: Option<Arc<dyn EventLog>>,
    sensors: Option<Arc<dyn ReadSensors>>,
}

impl Bmc {
    /// A handle with no capability; drivers add theirs.
    #[must_use]
    pub fn new(driver: &'static str) -> Self {
        Self {
            driver,
            power: None,
            boot_device: None,
            identity: None,
            identify: None,
            inventory: None,
            console: None,
            event_log: None,
            sensors: None,
        }
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

    /// Adds the inventory.
    #[must_use]
    pub fn with_inventory(mut self, inventory: Arc<dyn ReadInventory>) -> Self {
        self.inventory = Some(inventory);
        self
    }

    /// Adds the serial console.
    #[must_use]
    pub fn with_console(mut self, console: Arc<dyn Console>) -> Self {
        self.console = Some(console);
        self
    }

    /// Adds the event log.
    #[must_use]
    pub fn with_event_log(mut self, event_log: Arc<dyn EventLog>) -> Self {
        self.event_log = Some(event_log);
        self
    }

    /// Adds the sensors.
    #[must_use]
    pub fn with_sensors(mut self, sensors: Arc<dyn ReadSensors>) -> Self {
        self.sensors = Some(sensors);
        self
    }

    /// The driver's name: `ipmi`, `redfish`, …
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
        self.wait_power(wanted, deadline).await
    }

    /// Reads the power state until it is as `wanted`, whoever switches. `false`: the deadline passed before.
    pub async fn wait_power(&self, wanted: PowerState, deadline: Deadline) -> Result<bool, BmcError> {
        let power = self.power()?;
        let begin = Instant::now();
        let mut answered = false;
        while !deadline.is_past() {
            match power.power_status(deadline).await {
                Ok(state) if state == wanted => return Ok(true),
                Ok(_) => answered = true,
                // The deadline fell into a read; the reads before it say what there is to say.
                Err(_) if answered && deadline.is_past() => break,
                Err(error) => return Err(error),
            }
            tokio::time::sleep(power_pause(begin.elapsed()).min(deadline.remaining())).await;
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

    /// See [`ReadInventory::inventory`].
    pub async fn inventory(&self, deadline: Deadline) -> Result<Inventory, BmcError> {
        self.inventory.as_ref().ok_or(self.unsupported("inventory"))?.inventory(deadline).await
    }

    /// See [`Console::open_console`].
    pub async fn open_console(&self, take_over: bool, deadline: Deadline) -> Result<ConsoleLine, BmcError> {
        self.console
            .as_ref()
            .ok_or(self.unsupported("serial console"))?
            .open_console(take_over, deadline)
            .await
    }

    /// See [`EventLog::event_log`].
    pub async fn event_log(&self, last: usize, deadline: Deadline) -> Result<BmcEvents, BmcError> {
        self.events()?.event_log(last, deadline).await
    }

    /// See [`EventLog::clear_event_log`].
    pub async fn clear_event_log(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.events()?.clear_event_log(deadline).await
    }

    /// See [`ReadSensors::sensors`].
    pub async fn sensors(&self, deadline: Deadline) -> Result<Sensors, BmcError> {
        self.sensors.as_ref().ok_or(self.unsupported("sensors"))?.sensors(deadline).await
    }

    fn events(&self) -> Result<&dyn EventLog, BmcError> {
        self.event_log.as_deref().ok_or(self.unsupported("event log"))
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

/// Between two reads of the power state, after so long a wait: BMCs take from a tenth of a second to several
/// seconds to switch, and a read costs a round trip. So nobody waits half as long again as he must, and a
/// slow BMC is asked a dozen times in its first five seconds.
fn power_pause(waited: Duration) -> Duration {
    (waited / 2).clamp(FIRST_PAUSE, LAST_PAUSE)
}

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Answers `off` so many times; the next read has no answer until the deadline.
    struct Fading(AtomicU32);

    #[async_trait::async_trait]
    impl Power for Fading {
        async fn power_status(&self, deadline: Deadline) -> Result<PowerState, BmcError> {
            if self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                return Ok(PowerState::Off);
            }
            tokio::time::sleep_until(deadline.instant()).await;
            Err(BmcError::StillQueued { addr: ([127, 0, 0, 1], 623).into() })
        }
        async fn power_on(&self, _: Deadline) -> Result<(), BmcError> {
            Ok(())
        }
        async fn power_off(&self, _: Deadline) -> Result<(), BmcError> {
            Ok(())
        }
        async fn power_soft(&self, _: Deadline) -> Result<(), BmcError> {
            Ok(())
        }
        async fn power_cycle(&self, _: Deadline) -> Result<(), BmcError> {
            Ok(())
        }
        async fn power_reset(&self, _: Deadline) -> Result<(), BmcError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_deadline_inside_a_read_is_no_error_of_a_bmc_that_had_answered() {
        let wait = |answers, wanted| {
            let bmc = Bmc::new("fake").with_power(Arc::new(Fading(AtomicU32::new(answers))));
            async move { bmc.wait_power(wanted, Deadline::after(Duration::from_millis(200))).await }
        };
        assert_eq!(wait(1, PowerState::Off).await, Ok(true));
        assert_eq!(wait(1, PowerState::On).await, Ok(false));
        assert!(matches!(wait(0, PowerState::On).await, Err(BmcError::StillQueued { .. })));
    }

    #[test]
    fn power_is_seen_soon_after_it_changes_and_a_slow_bmc_is_not_pressed() {
        let mut reads = Vec::new();
        let mut now = Duration::ZERO;
        while now < Duration::from_secs(60) {
            reads.push(now);
            now += power_pause(now);
        }
        for pair in reads.windows(2) {
            let allowed = (pair[0] / 2).max(FIRST_PAUSE);
            assert!(pair[1] - pair[0] <= allowed, "{pair:?}");
        }
        let within = |seconds| reads.iter().filter(|at| **at < Duration::from_secs(seconds)).count();
        assert!(within(5) <= 14 && within(60) <= 70, "{} {}", within(5), within(60));
    }
}
