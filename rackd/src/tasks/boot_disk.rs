use super::boot_network::read_back;
use super::context::Context;
use super::step::{Step, StepError};
use farrier_bmc::{BootOverride, Device};

/// From now on boot from the disk. The BMC driver reads it back.
pub(super) struct BootDisk;

#[async_trait::async_trait]
impl Step for BootDisk {
    fn name(&self) -> &'static str {
        "boot_disk"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let wanted = BootOverride { device: Device::Disk, persistent: true, mode: cx.boot_mode()? };
        let seen = cx.bmc().await?.set_boot_device(wanted, cx.call()).await?;
        cx.note(read_back(wanted, seen)).await
    }
}
