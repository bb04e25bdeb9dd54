use super::context::Context;
use super::step::{Step, StepError};
use farrier_bmc::{BootOverride, Device};

/// Next boot from the network, once. The BMC driver reads it back.
pub(super) struct BootNetwork;

#[async_trait::async_trait]
impl Step for BootNetwork {
    fn name(&self) -> &'static str {
        "boot_network"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let wanted = BootOverride { device: Device::Network, persistent: false, mode: cx.boot_mode()? };
        cx.bmc().await?.set_boot_device(wanted, cx.call()).await?;
        Ok(())
    }
}
