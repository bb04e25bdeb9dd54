//! The handle callers hold: capabilities of one BMC, whatever the driver.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::either::{Absent, Gave};
use crate::{
    Accounts, Bios, BiosSettings, BmcError, BmcIdentity, BootDevice, BootModeSetting, BootOrder,
    BootOverride, Capability, Console, Deadline, EventLog, Events, Firmware, Identify, Identity, Interrupt,
    Inventory, Led, Look, NotDone, Power, PowerDraw, PowerState, Present, Profile, ReadInventory,
    ReadNetwork, ReadPowerDraw, ReadSensors, Recognise, ResetBmc, SecureBoot, Sensors, SetNetwork,
    VirtualMedia, Vlans, Volumes, Watchdog,
};

/// One BMC. Cheap to clone. A capability that no driver gives answers [`BmcError::Unsupported`].
#[derive(Clone)]
pub struct Bmc {
    driver: &'static str,
    pub(crate) power: Given<dyn Power>,
    interrupt: Given<dyn Interrupt>,
    boot_device: Given<dyn BootDevice>,
    pub(crate) boot_mode: Given<dyn BootModeSetting>,
    pub(crate) boot_order: Given<dyn BootOrder>,
    identity: Given<dyn Identity>,
    inventory: Given<dyn ReadInventory>,
    sensors: Given<dyn ReadSensors>,
    power_draw: Given<dyn ReadPowerDraw>,
    pub(crate) event_log: Given<dyn EventLog>,
    pub(crate) events: Given<dyn Events>,
    pub(crate) console: Given<dyn Console>,
    /// The other driver's, where both have one.
    pub(crate) spare_console: Given<dyn Console>,
    identify: Given<dyn Identify>,
    reset: Given<dyn ResetBmc>,
    pub(crate) network: Given<dyn ReadNetwork>,
    pub(crate) network_settings: Given<dyn SetNetwork>,
    pub(crate) watchdog: Given<dyn Watchdog>,
    pub(crate) accounts: Given<dyn Accounts>,
    pub(crate) virtual_media: Given<dyn VirtualMedia>,
    bios: Given<dyn Bios>,
    pub(crate) secure_boot: Given<dyn SecureBoot>,
    pub(crate) firmware: Given<dyn Firmware>,
    pub(crate) profile: Given<dyn Profile>,
    vlans: Given<dyn Vlans>,
    volumes: Given<dyn Volumes>,
    recognise: Option<Arc<dyn Recognise>>,
    present: Option<Arc<dyn Present>>,
    /// Another driver for the same BMC, which is asked for what this one turns out to lack.
    pub(crate) other: Option<Arc<Self>>,
    pub(crate) absent: Arc<Absent>,
    pub(crate) gave: Arc<Gave>,
    /// Of one that stands in for the driver that this BMC is known by: why that one is not asked.
    stands_in: Option<Arc<str>>,
}

/// A capability and the driver that gives it, if one does.
pub(crate) type Given<T> = Option<(&'static str, Arc<T>)>;

impl Bmc {
    /// A handle with no capability; drivers add theirs.
    #[must_use]
    pub fn new(driver: &'static str) -> Self {
        Self {
            driver,
            power: None,
            interrupt: None,
            boot_device: None,
            boot_mode: None,
            boot_order: None,
            identity: None,
            inventory: None,
            sensors: None,
            power_draw: None,
            event_log: None,
            events: None,
            console: None,
            spare_console: None,
            identify: None,
            reset: None,
            network: None,
            network_settings: None,
            watchdog: None,
            accounts: None,
            virtual_media: None,
            bios: None,
            secure_boot: None,
            firmware: None,
            profile: None,
            vlans: None,
            volumes: None,
            recognise: None,
            present: None,
            other: None,
            absent: Arc::default(),
            gave: Arc::default(),
            stands_in: None,
        }
    }

    /// Adds power.
    #[must_use]
    pub fn with_power(mut self, power: Arc<dyn Power>) -> Self {
        self.power = Some((self.driver, power));
        self
    }

    /// Adds the diagnostic interrupt.
    #[must_use]
    pub fn with_interrupt(mut self, interrupt: Arc<dyn Interrupt>) -> Self {
        self.interrupt = Some((self.driver, interrupt));
        self
    }

    /// Adds the boot device.
    #[must_use]
    pub fn with_boot_device(mut self, boot_device: Arc<dyn BootDevice>) -> Self {
        self.boot_device = Some((self.driver, boot_device));
        self
    }

    /// Adds identity.
    #[must_use]
    pub fn with_identity(mut self, identity: Arc<dyn Identity>) -> Self {
        self.identity = Some((self.driver, identity));
        self
    }

    /// Adds the inventory.
    #[must_use]
    pub fn with_inventory(mut self, inventory: Arc<dyn ReadInventory>) -> Self {
        self.inventory = Some((self.driver, inventory));
        self
    }

    /// Adds the sensors.
    #[must_use]
    pub fn with_sensors(mut self, sensors: Arc<dyn ReadSensors>) -> Self {
        self.sensors = Some((self.driver, sensors));
        self
    }

    /// Adds the power draw.
    #[must_use]
    pub fn with_power_draw(mut self, power_draw: Arc<dyn ReadPowerDraw>) -> Self {
        self.power_draw = Some((self.driver, power_draw));
        self
    }

    /// Adds the locator LED.
    #[must_use]
    pub fn with_identify(mut self, identify: Arc<dyn Identify>) -> Self {
        self.identify = Some((self.driver, identify));
        self
    }

    /// Adds the BMC's own restart.
    #[must_use]
    pub fn with_bmc_reset(mut self, reset: Arc<dyn ResetBmc>) -> Self {
        self.reset = Some((self.driver, reset));
        self
    }

    /// Adds the BIOS settings.
    #[must_use]
    pub fn with_bios(mut self, bios: Arc<dyn Bios>) -> Self {
        self.bios = Some((self.driver, bios));
        self
    }

    /// Adds the NICs' VLANs.
    #[must_use]
    pub fn with_vlans(mut self, vlans: Arc<dyn Vlans>) -> Self {
        self.vlans = Some((self.driver, vlans));
        self
    }

    /// Adds volumes.
    #[must_use]
    pub fn with_volumes(mut self, volumes: Arc<dyn Volumes>) -> Self {
        self.volumes = Some((self.driver, volumes));
        self
    }

    /// Adds that it learns whose BMC it is.
    #[must_use]
    pub fn with_recognise(mut self, recognise: Arc<dyn Recognise>) -> Self {
        self.recognise = Some(recognise);
        self
    }

    /// The same under the name of the BMC's vendor, where the driver learns it; what another driver gives stays.
    ///
    /// # Errors
    /// The BMC cannot be asked.
    pub async fn recognised(self, deadline: Deadline) -> Result<Self, BmcError> {
        match &self.recognise {
            Some(recognise) => Ok(recognise.recognised(deadline).await?.or(self)),
            None => Ok(self),
        }
    }

    /// This one, and of another driver for the same BMC what this one lacks.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let second = other.clone();
        // IPMI's first, where both have one: its keystrokes have no escape in front, and no other program is started for it.
        let (console, spare_console) = match (other.console, self.console) {
            (Some(first), spare) => (Some(first), spare.or(other.spare_console)),
            (None, only) => (only, self.spare_console),
        };
        Self {
            driver: self.driver,
            power: self.power.or(other.power),
            interrupt: self.interrupt.or(other.interrupt),
            boot_device: self.boot_device.or(other.boot_device),
            boot_mode: self.boot_mode.or(other.boot_mode),
            boot_order: self.boot_order.or(other.boot_order),
            identity: self.identity.or(other.identity),
            inventory: self.inventory.or(other.inventory),
            sensors: self.sensors.or(other.sensors),
            power_draw: self.power_draw.or(other.power_draw),
            event_log: self.event_log.or(other.event_log),
            events: self.events.or(other.events),
            console,
            spare_console,
            identify: self.identify.or(other.identify),
            reset: self.reset.or(other.reset),
            network: self.network.or(other.network),
            network_settings: self.network_settings.or(other.network_settings),
            watchdog: self.watchdog.or(other.watchdog),
            accounts: self.accounts.or(other.accounts),
            virtual_media: self.virtual_media.or(other.virtual_media),
            bios: self.bios.or(other.bios),
            secure_boot: self.secure_boot.or(other.secure_boot),
            firmware: self.firmware.or(other.firmware),
            profile: self.profile.or(other.profile),
            vlans: self.vlans.or(other.vlans),
            volumes: self.volumes.or(other.volumes),
            recognise: self.recognise,
            present: self.present,
            other: second.other.clone().or(Some(Arc::new(second))),
            absent: self.absent,
            gave: self.gave,
            stands_in: self.stands_in,
        }
    }

    /// The same in place of a driver that does not answer now: what this one has not got may be had when that one does.
    #[must_use]
    pub(crate) fn standing_in(mut self, why: &str) -> Self {
        self.stands_in = Some(why.into());
        self
    }

    /// Whether it stands in for a driver that does not answer now: a handle to be given up for another soon.
    #[must_use]
    pub fn stands_in(&self) -> bool {
        self.stands_in.is_some()
    }

    /// The same BMC by IPMI alone, where that is the driver, or beside it.
    #[must_use]
    pub fn by_ipmi(&self) -> Option<&Self> {
        let is_it = |bmc: &Self| bmc.driver == "ipmi";
        if is_it(self) { Some(self) } else { self.other.as_deref().filter(|other| is_it(other)) }
    }

    /// Adds the question whether anybody is there.
    #[must_use]
    pub fn with_present(mut self, present: Arc<dyn Present>) -> Self {
        self.present = Some(present);
        self
    }

    /// See [`Present::present`].
    pub async fn present(&self, deadline: Deadline) -> Result<(), BmcError> {
        match &self.present {
            Some(present) => present.present(deadline).await,
            None => Err(BmcError::Unsupported { driver: self.driver, capability: "sign of presence" }),
        }
    }

    /// The driver that is asked first for a capability; `None`: none gives it.
    pub(crate) fn giver(&self, capability: Capability) -> Option<&'static str> {
        fn of<T: ?Sized>(given: &Given<T>) -> Option<&'static str> {
            given.as_ref().map(|(driver, _)| *driver)
        }
        match capability {
            Capability::Power => of(&self.power),
            Capability::Interrupt => of(&self.interrupt),
            Capability::BootDevice => of(&self.boot_device),
            Capability::BootMode => of(&self.boot_mode),
            Capability::BootOrder => of(&self.boot_order),
            Capability::Identity => of(&self.identity),
            Capability::Inventory => of(&self.inventory),
            Capability::Sensors => of(&self.sensors),
            Capability::PowerDraw => of(&self.power_draw),
            Capability::EventLog => of(&self.event_log),
            Capability::Events => of(&self.events),
            Capability::Console => of(&self.console),
            Capability::Identify => of(&self.identify),
            Capability::ResetBmc => of(&self.reset),
            Capability::Network => of(&self.network),
            Capability::SetNetwork => of(&self.network_settings),
            Capability::Watchdog => of(&self.watchdog),
            Capability::Accounts => of(&self.accounts),
            Capability::VirtualMedia => of(&self.virtual_media),
            Capability::Bios => of(&self.bios),
            Capability::SecureBoot => of(&self.secure_boot),
            Capability::Firmware => of(&self.firmware),
            Capability::Profile => of(&self.profile),
            Capability::Vlans => of(&self.vlans),
            Capability::Volumes => of(&self.volumes),
        }
    }

    /// The driver's name: `ipmi`, `redfish`, … See also [`Bmc::driver_of`].
    #[must_use]
    pub fn driver(&self) -> &'static str {
        self.driver
    }

    /// See [`Power::power_status`].
    pub async fn power_status(&self, deadline: Deadline) -> Result<PowerState, BmcError> {
        self.power()?.power_status(deadline).await
    }

    /// See [`Power::glance`].
    pub async fn look(&self, deadline: Deadline) -> Result<Look, BmcError> {
        self.power()?.glance(deadline).await
    }

    /// See [`Power::power_on`].
    pub async fn power_on(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.power()?.power_on(deadline).await
    }

    /// See [`Power::power_off`].
    pub async fn power_off(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.power()?.power_off(deadline).await
    }

    /// See [`Power::power_soft`]. Redfish of many BMCs does not offer it, nor a reset or a cycle, and IPMI of the same has it.
    pub async fn power_soft(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.either(Capability::Power, |bmc| async move {
            bmc.give(&bmc.power, Capability::Power)?.power_soft(deadline).await
        })
        .await
    }

    /// See [`Power::soft_off_takes`]; a BMC that does not say which product it is takes no longer than others.
    pub async fn soft_off_takes(&self, deadline: Deadline) -> Result<Duration, BmcError> {
        self.power()?.soft_off_takes(deadline).await
    }

    /// Check, do, read back until it is so. `false`: the BMC accepted the command, but the deadline
    /// passed before the state read back.
    pub async fn ensure_power(&self, wanted: PowerState, deadline: Deadline) -> Result<bool, BmcError> {
        self.command_power(wanted, deadline).await?;
        self.wait_power(wanted, deadline).await
    }

    /// Check, do: nothing where it is so, or on its way there.
    pub(crate) async fn command_power(&self, wanted: PowerState, deadline: Deadline) -> Result<(), BmcError> {
        let power = self.power()?;
        let Look { power: told, settling, .. } = power.look(deadline).await?;
        match (told == wanted, settling) {
            (true, false) | (false, true) => Ok(()),
            _ => match wanted {
                PowerState::On => power.power_on(deadline).await,
                PowerState::Off => power.power_off(deadline).await,
            },
        }
    }

    /// Reads the power state until it is as `wanted`, whoever switches. `false`: the deadline passed before.
    pub async fn wait_power(&self, wanted: PowerState, deadline: Deadline) -> Result<bool, BmcError> {
        let power = self.power()?;
        let begin = Instant::now();
        let mut answered = false;
        while !deadline.is_past() {
            match power.look(deadline).await {
                Ok(seen) if seen.power == wanted && !seen.settling => return Ok(true),
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
        self.either(Capability::BootDevice, |bmc| async move {
            bmc.boot()?.set_boot_device(wanted, deadline).await
        })
        .await
    }

    /// See [`BootDevice::boot_device`].
    pub async fn boot_device(&self, deadline: Deadline) -> Result<BootOverride, BmcError> {
        self.either(Capability::BootDevice, |bmc| async move { bmc.boot()?.boot_device(deadline).await })
            .await
    }

    /// See [`Interrupt::diagnostic_interrupt`].
    pub async fn diagnostic_interrupt(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.either(Capability::Interrupt, |bmc| async move {
            bmc.give(&bmc.interrupt, Capability::Interrupt)?.diagnostic_interrupt(deadline).await
        })
        .await
    }

    /// See [`Identity::identity`].
    pub async fn identity(&self, deadline: Deadline) -> Result<BmcIdentity, BmcError> {
        self.either(Capability::Identity, |bmc| async move {
            bmc.give(&bmc.identity, Capability::Identity)?.identity(deadline).await
        })
        .await
    }

    /// See [`Identify::identify`].
    pub async fn identify(&self, led: Led, deadline: Deadline) -> Result<(), BmcError> {
        self.either(Capability::Identify, |bmc| async move {
            bmc.give(&bmc.identify, Capability::Identify)?.identify(led, deadline).await
        })
        .await
    }

    /// See [`ReadInventory::inventory`].
    pub async fn inventory(&self, deadline: Deadline) -> Result<Inventory, BmcError> {
        self.either(Capability::Inventory, |bmc| async move {
            bmc.give(&bmc.inventory, Capability::Inventory)?.inventory(deadline).await
        })
        .await
    }

    /// See [`ReadSensors::sensors`].
    pub async fn sensors(&self, deadline: Deadline) -> Result<Sensors, BmcError> {
        self.either(Capability::Sensors, |bmc| async move {
            bmc.give(&bmc.sensors, Capability::Sensors)?.sensors(deadline).await
        })
        .await
    }

    /// See [`ReadPowerDraw::power_draw`].
    pub async fn power_draw(&self, deadline: Deadline) -> Result<PowerDraw, BmcError> {
        self.either(Capability::PowerDraw, |bmc| async move {
            bmc.give(&bmc.power_draw, Capability::PowerDraw)?.power_draw(deadline).await
        })
        .await
    }

    /// See [`ResetBmc::reset_bmc`].
    pub async fn reset_bmc(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.either(Capability::ResetBmc, |bmc| async move {
            bmc.give(&bmc.reset, Capability::ResetBmc)?.reset_bmc(deadline).await
        })
        .await
    }

    /// See [`Bios::bios`].
    pub async fn bios(&self, deadline: Deadline) -> Result<BiosSettings, BmcError> {
        self.either(Capability::Bios, |bmc| async move {
            bmc.give(&bmc.bios, Capability::Bios)?.bios(deadline).await
        })
        .await
    }

    /// See [`Bios::set_bios`].
    pub async fn set_bios(
        &self,
        changes: Vec<(String, String)>,
        deadline: Deadline,
    ) -> Result<BiosSettings, BmcError> {
        self.either(Capability::Bios, |bmc| {
            let changes = changes.clone();
            async move { bmc.give(&bmc.bios, Capability::Bios)?.set_bios(changes, deadline).await }
        })
        .await
    }

    /// See [`Vlans`].
    pub fn vlans(&self) -> Result<&dyn Vlans, BmcError> {
        self.give(&self.vlans, Capability::Vlans)
    }

    /// See [`Volumes`].
    pub fn volumes(&self) -> Result<&dyn Volumes, BmcError> {
        self.give(&self.volumes, Capability::Volumes)
    }

    /// The first driver's: what it tells and does is by that one, whoever did something else before.
    fn power(&self) -> Result<&dyn Power, BmcError> {
        self.gave.set(Capability::Power, None);
        self.give(&self.power, Capability::Power)
    }

    fn boot(&self) -> Result<&dyn BootDevice, BmcError> {
        self.give(&self.boot_device, Capability::BootDevice)
    }

    pub(crate) fn give<'a, T: ?Sized>(
        &self,
        given: &'a Given<T>,
        capability: Capability,
    ) -> Result<&'a T, BmcError> {
        let absent = || BmcError::Unsupported { driver: self.driver, capability: capability.as_str() };
        given.as_ref().map(|(_, give)| &**give).ok_or_else(|| self.lacks(absent()))
    }

    /// What a driver that stands in for another has not got is not known to be missing.
    pub(crate) fn lacks(&self, error: BmcError) -> BmcError {
        match (&self.stands_in, error) {
            (Some(reason), BmcError::Unsupported { driver, capability }) => {
                NotDone::StandIn { driver, capability, reason: reason.to_string() }.into()
            }
            (_, error) => error,
        }
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
