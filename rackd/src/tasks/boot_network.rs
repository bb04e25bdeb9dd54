use super::context::Context;
use super::power::by;
use super::step::{Step, StepError};
use farrier_bmc::{BootOverride, Capability, Device, MANUAL};

/// Every boot from the network: the machine has no disk of its own. The BMC driver reads it back.
pub(super) struct BootNetworkAlways;

#[async_trait::async_trait]
impl Step for BootNetworkAlways {
    fn name(&self) -> &'static str {
        "boot_network_always"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let wanted = BootOverride { device: Device::Network, persistent: true, mode: cx.boot_mode()? };
        set_boot_device(cx, wanted).await
    }
}

/// Sets it, and notes what was read back, or what somebody has to do.
pub(super) async fn set_boot_device(cx: &Context<'_>, wanted: BootOverride) -> Result<(), StepError> {
    let bmc = cx.bmc().await?;
    let seen = bmc.set_boot_device(wanted, cx.call()).await?;
    if bmc.driver() == MANUAL {
        let node = &cx.machine()?.name;
        return cx.note(format!("driver manual: have {node} boot from {wanted}; it is taken for done")).await;
    }
    cx.note(format!("{}: {}", by(&bmc, Capability::BootDevice), read_back(wanted, seen))).await
}

/// What the BMC keeps of a boot override; with what it does not keep, when that may matter later.
fn read_back(wanted: BootOverride, seen: BootOverride) -> String {
    if wanted == seen {
        return format!("reads back {seen}");
    }
    let told = format!("asked for {wanted}, reads back {seen}");
    if wanted.mode == seen.mode {
        return told;
    }
    // What fails then is found out half an hour later, by a ramdisk that does not call.
    format!(
        "{told}: WARNING: a machine whose firmware is not in that mode by itself does not boot; set it in its BIOS"
    )
}

/// Next boot from the network, once. The BMC driver reads it back.
pub(super) struct BootNetwork;

#[async_trait::async_trait]
impl Step for BootNetwork {
    fn name(&self) -> &'static str {
        "boot_network"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let wanted = BootOverride { device: Device::Network, persistent: false, mode: cx.boot_mode()? };
        set_boot_device(cx, wanted).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_bmc::BootMode;

    #[test]
    fn a_mode_that_the_bmc_does_not_keep_is_warned_of() {
        let wanted = BootOverride { device: Device::Network, persistent: true, mode: BootMode::Uefi };
        assert_eq!(read_back(wanted, wanted), "reads back network always, UEFI");
        let once = read_back(wanted, BootOverride { persistent: false, ..wanted });
        assert_eq!(once, "asked for network always, UEFI, reads back network once, UEFI");
        let bios = read_back(wanted, BootOverride { mode: BootMode::Bios, ..wanted });
        assert!(bios.contains("reads back network always, BIOS: WARNING"), "{bios}");
    }
}
