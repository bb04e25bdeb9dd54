//! Which vendor's BMC this is, told once somebody needs to know.

use std::sync::Arc;

use async_trait::async_trait;

use super::console::RedfishConsole;
use super::driver::RedfishBmc;
use super::link::Link;
use super::vendor::{self, Vendor};
use crate::actor::Call;
use crate::auto::Recognise;
use crate::{Bmc, BmcError, Deadline};

#[async_trait]
impl Recognise for RedfishBmc {
    async fn recognised(&self, deadline: Deadline) -> Result<Bmc, BmcError> {
        let vendor = self.call(deadline, |link, call| Box::pin(link.vendor(call))).await?;
        Ok(handle(Arc::new(self.clone()), vendor.driver))
    }
}

impl Link {
    /// Reads the root where it has not been read; then nothing is sent.
    pub(super) async fn vendor(&mut self, call: &mut Call) -> Result<&'static Vendor, BmcError> {
        Ok(self.root(call).await?.vendor)
    }
}

/// What this driver can, under a vendor's name.
pub(super) fn handle(driver: Arc<RedfishBmc>, name: &'static str) -> Bmc {
    let bmc = Bmc::new(name)
        .knowing(driver.kept.absent.clone())
        .with_power(driver.clone())
        .with_boot_device(driver.clone())
        .with_boot_mode(driver.clone())
        .with_boot_order(driver.clone())
        .with_identity(driver.clone())
        .with_identify(driver.clone())
        .with_interrupt(driver.clone())
        .with_bmc_reset(driver.clone())
        .with_network(driver.clone())
        .with_network_settings(driver.clone())
        .with_accounts(driver.clone())
        .with_virtual_media(driver.clone())
        .with_event_log(driver.clone())
        .with_events(driver.clone())
        .with_sensors(driver.clone())
        .with_power_draw(driver.clone())
        .with_bios(driver.clone())
        .with_secure_boot(driver.clone())
        .with_firmware(driver.clone())
        .with_recognise(driver.clone())
        .with_inventory(driver.clone());
    let bmc = match driver.ssh.clone() {
        Some((address, ssh, login)) => {
            let bmc_of = Arc::clone(&driver);
            bmc.with_console(Arc::new(RedfishConsole { bmc: bmc_of, address, ssh, login }))
        }
        None => bmc,
    };
    if vendor::of_driver(name).profiles { bmc.with_profile(driver) } else { bmc }
}
