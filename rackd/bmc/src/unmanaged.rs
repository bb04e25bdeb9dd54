//! Drivers of machines without a BMC. `manual`: somebody presses the buttons, and is asked to; that he did is taken for
//! granted, since nothing can be read back. `fake`: nothing is there, and everything succeeds; for trying flows out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::{
    Bmc, BmcError, BmcIdentity, BootDevice, BootMode, BootOverride, Deadline, Device, Identify, Identity,
    Interrupt, Led, Power, PowerState, ResetBmc,
};

/// The driver of a machine whose buttons somebody presses.
pub const MANUAL: &str = "manual";
/// The driver of a machine that is not there.
pub const FAKE: &str = "fake";

/// What machines without a BMC are taken for, by node. In memory: after a restart they are taken for off.
#[derive(Debug, Clone, Default)]
pub struct Unmanaged {
    machines: Arc<Mutex<HashMap<String, Machine>>>,
}

#[derive(Debug, Clone, Copy)]
struct Machine {
    power: PowerState,
    boot: BootOverride,
}

const NEW: Machine = Machine {
    power: PowerState::Off,
    boot: BootOverride { device: Device::None, persistent: false, mode: BootMode::Uefi },
};

impl Unmanaged {
    /// Power and the boot device, as somebody was asked to have them.
    #[must_use]
    pub fn manual(&self, node: &str) -> Bmc {
        let one = self.one(node, MANUAL);
        Bmc::new(MANUAL).with_power(one.clone()).with_boot_device(one.clone()).with_identity(one)
    }

    /// Everything that changes something, on nothing.
    #[must_use]
    pub fn fake(&self, node: &str) -> Bmc {
        let one = self.one(node, FAKE);
        Bmc::new(FAKE)
            .with_power(one.clone())
            .with_boot_device(one.clone())
            .with_interrupt(one.clone())
            .with_identify(one.clone())
            .with_bmc_reset(one.clone())
            .with_identity(one)
    }

    fn one(&self, node: &str, driver: &'static str) -> Arc<One> {
        Arc::new(One { machines: Arc::clone(&self.machines), node: node.to_owned(), driver })
    }
}

struct One {
    machines: Arc<Mutex<HashMap<String, Machine>>>,
    node: String,
    driver: &'static str,
}

impl One {
    fn with<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        // A holder that panicked left a whole value: all are copied.
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        change(machines.entry(self.node.clone()).or_insert(NEW))
    }

    fn switch(&self, state: PowerState) -> Result<(), BmcError> {
        self.with(|machine| {
            if state == PowerState::On && !machine.boot.persistent {
                machine.boot = NEW.boot;
            }
            machine.power = state;
        });
        Ok(())
    }
}

#[async_trait]
impl Power for One {
    async fn power_status(&self, _: Deadline) -> Result<PowerState, BmcError> {
        Ok(self.with(|machine| machine.power))
    }

    async fn power_on(&self, _: Deadline) -> Result<(), BmcError> {
        self.switch(PowerState::On)
    }

    async fn power_off(&self, _: Deadline) -> Result<(), BmcError> {
        self.switch(PowerState::Off)
    }

    async fn power_soft(&self, _: Deadline) -> Result<(), BmcError> {
        self.switch(PowerState::Off)
    }

    async fn power_cycle(&self, _: Deadline) -> Result<(), BmcError> {
        self.switch(PowerState::On)
    }

    async fn power_reset(&self, _: Deadline) -> Result<(), BmcError> {
        self.switch(PowerState::On)
    }
}

#[async_trait]
impl BootDevice for One {
    async fn set_boot_device(&self, wanted: BootOverride, _: Deadline) -> Result<BootOverride, BmcError> {
        self.with(|machine| machine.boot = wanted);
        Ok(wanted)
    }

    async fn boot_device(&self, _: Deadline) -> Result<BootOverride, BmcError> {
        Ok(self.with(|machine| machine.boot))
    }
}

#[async_trait]
impl Identity for One {
    async fn identity(&self, _: Deadline) -> Result<BmcIdentity, BmcError> {
        Ok(BmcIdentity {
            manufacturer: "none".to_owned(),
            product: "none".to_owned(),
            firmware: "none".to_owned(),
            protocol: self.driver.to_owned(),
            guid: None,
            serial: String::new(),
        })
    }
}

#[async_trait]
impl Identify for One {
    async fn identify(&self, _: Led, _: Deadline) -> Result<(), BmcError> {
        Ok(())
    }
}

#[async_trait]
impl Interrupt for One {
    async fn diagnostic_interrupt(&self, _: Deadline) -> Result<(), BmcError> {
        Ok(())
    }
}

#[async_trait]
impl ResetBmc for One {
    async fn reset_bmc(&self, _: Deadline) -> Result<(), BmcError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Capability;
    use std::time::Duration;

    #[tokio::test]
    async fn what_was_asked_for_is_remembered_by_node() {
        let hub = Unmanaged::default();
        let soon = Deadline::after(Duration::from_secs(60));
        let once = BootOverride { device: Device::Network, persistent: false, mode: BootMode::Bios };
        hub.fake("n1").set_boot_device(once, soon).await.unwrap();
        assert_eq!(hub.fake("n1").boot_device(soon).await, Ok(once));
        assert_eq!(hub.fake("n1").ensure_power(PowerState::On, soon).await, Ok(true));
        assert_eq!(hub.fake("n1").boot_device(soon).await.unwrap().device, Device::None, "used up");
        assert_eq!(hub.manual("n2").power_status(soon).await, Ok(PowerState::Off));
        let reset = hub.manual("n2").reset_bmc(soon).await.unwrap_err();
        assert_eq!(
            reset,
            BmcError::Unsupported { driver: MANUAL, capability: Capability::ResetBmc.as_str() }
        );
    }
}
