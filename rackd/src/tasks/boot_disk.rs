use super::boot_network::set_boot_device;
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
        set_boot_device(cx, wanted).await
    }
}
