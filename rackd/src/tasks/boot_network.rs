use super::context::Context;
use super::step::{Step, StepError};
use farrier_bmc::{BootOverride, Device, MANUAL};

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
        let (node, what) = (&cx.machine()?.name, words(wanted));
        return cx.note(format!("driver manual: have {node} boot from {what}; it is taken for done")).await;
    }
    cx.note(read_back(wanted, seen)).await
}

fn words(o: BootOverride) -> String {
    let times = if o.persistent { "always" } else { "once" };
    format!("{:?} {times}, {:?}", o.device, o.mode).to_lowercase()
}

/// What the BMC keeps of a boot override; with what it does not keep, when that may matter later.
fn read_back(wanted: BootOverride, seen: BootOverride) -> String {
    if wanted == seen {
        return format!("reads back {}", words(seen));
    }
    format!("asked for {}, reads back {}", words(wanted), words(seen))
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
