use super::context::Context;
use super::step::{Step, StepError, Timeouts};
use crate::volumes::Volume;
use farrier_block::Backing as _;
use std::time::Duration;

/// A picture of the machine's disk, which goes on being written. It is what a power cut now would leave.
pub(super) struct TakeSnapshot;

#[async_trait::async_trait]
impl Step for TakeSnapshot {
    fn name(&self) -> &'static str {
        "take_snapshot"
    }
    fn deadline(&self, timeouts: &Timeouts) -> Duration {
        timeouts.write
    }
    fn power_off_after_failure(&self) -> bool {
        false
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let volume = volume(cx).await?;
        // Before any work: what is too large will not be taken at its end either.
        let (size, most) = (volume.overlay.size(), cx.snapshot()?.max_bytes);
        if u64::try_from(most).is_ok_and(|most| most > 0 && size > most) {
            return Err(StepError::fatal(format!(
                "the disk has {}: expected at most {most} bytes, which is the largest image that the images service takes; raise its --max-image-bytes",
                farrier_model::size::exact(size)
            )));
        }
        cx.rack.snapshots.take(&cx.task.id, &volume).await?;
        let own = volume.overlay.usage().map_or(0, |usage| usage.allocated);
        cx.note(format!("{} MiB of the disk's {} MiB are its own", own >> 20, size >> 20)).await
    }
}

/// The volume that the task's machine lives on.
pub(super) async fn volume(cx: &Context<'_>) -> Result<Volume, StepError> {
    let (instance, node) = (&cx.snapshot()?.instance, &cx.machine()?.name);
    Ok(cx.rack.volumes.volume(instance, node, |digest| cx.rack.cache.path(digest)).await?)
}
