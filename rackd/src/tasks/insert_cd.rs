use super::context::Context;
use super::power::by;
use super::step::{Step, StepError, Timeouts};
use farrier_bmc::{Capability, Deadline};
use std::time::Duration;

/// The boot CD into the drive that the BMC pretends, and the next boot from it, once. The BMC driver reads both back.
pub(super) struct InsertCd;
/// Out again: the machine must not find it at a later boot, and the BMC not read in vain.
pub(super) struct EjectCd;

#[async_trait::async_trait]
impl Step for InsertCd {
    fn name(&self) -> &'static str {
        "insert_cd"
    }
    /// Twice what a BMC's own job may take, and the BMC be away meanwhile.
    fn deadline(&self, timeouts: &Timeouts) -> Duration {
        timeouts.bmc * 3
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        insert(cx).await?;
        // The rest of the URL is a secret.
        let by = by(&cx.bmc().await?, Capability::VirtualMedia);
        let from = cx.rack.media_base().unwrap_or_default();
        cx.note(format!("{by}: the BMC is to read the boot CD from {from}")).await
    }
}

pub(super) async fn insert(cx: &Context<'_>) -> Result<(), StepError> {
    let base = cx.rack.media_base().unwrap_or_default();
    let url = format!("{base}/media/{}.iso", cx.media_key().await?);
    let bmc = cx.bmc().await?;
    // A second asking may be refused while the BMC is still at the first: it is given its time.
    bmc.insert_media(&url, patience(cx)).await?;
    // An iDRAC does it by a job of its own, which takes one to four minutes and is not begun twice.
    Ok(bmc.boot_media_once(cx.boot_mode()?, patience(cx)).await?)
}

pub(super) async fn eject(cx: &Context<'_>) -> Result<(), StepError> {
    cx.bmc().await?.eject_media(patience(cx)).await?;
    Ok(())
}

/// For what a BMC answers first and does then.
fn patience(cx: &Context<'_>) -> Deadline {
    Deadline::after(cx.rack.timeouts.bmc)
}

#[async_trait::async_trait]
impl Step for EjectCd {
    fn name(&self) -> &'static str {
        "eject_cd"
    }
    fn deadline(&self, timeouts: &Timeouts) -> Duration {
        timeouts.bmc * 2
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        eject(cx).await?;
        cx.withdraw_cd().await;
        cx.note(format!("{}: the drive is empty", by(&cx.bmc().await?, Capability::VirtualMedia))).await
    }
    /// The step that served it has served it again.
    async fn restore(&self, cx: &Context<'_>) -> Result<(), StepError> {
        cx.withdraw_cd().await;
        Ok(())
    }
}
