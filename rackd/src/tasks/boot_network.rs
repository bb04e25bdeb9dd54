use super::context::Context;
use super::step::{Step, StepError};
use farrier_bmc::{BootOverride, Device};

/// Every boot from the network: the machine has no disk of its own. The BMC driver reads it back.
pub(super) struct BootNetworkAlways;

#[async_trait::async_trait]
impl Step for BootNetworkAlways {
    fn name(&self) -> &'static str {
        "boot_network_always"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let wanted = BootOverride { device: Device::Network, persistent: true, mode: cx.boot_mode()? };
        let seen = cx.bmc().await?.set_boot_device(wanted, cx.call()).await?;
        cx.note(read_back(wanted, seen)).await
    }
}

/// What the BMC keeps of a boot override; with what it does not keep, when that may matter later.
pub(super) fn read_back(wanted: BootOverride, seen: BootOverride) -> String {
    let words = |o: BootOverride| {
        let times = if o.persistent { "always" } else { "once" };
        format!("{:?} {times}, {:?}", o.device, o.mode).to_lowercase()
    };
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
        let seen = cx.bmc().await?.set_boot_device(wanted, cx.call()).await?;
        cx.note(read_back(wanted, seen)).await
    }
}
