use super::context::{Context, Meter};
use super::step::{Step, StepError, Timeouts};
use super::take_snapshot::volume;
use crate::snapshots::Progress;
use std::sync::Arc;
use std::time::Duration;

/// The picture as an image of the images service, checked there against its digest.
pub(super) struct UploadImage;

#[async_trait::async_trait]
impl Step for UploadImage {
    fn name(&self) -> &'static str {
        "upload_image"
    }
    fn deadline(&self, timeouts: &Timeouts) -> Duration {
        timeouts.write
    }
    fn power_off_after_failure(&self) -> bool {
        false
    }
    /// A large disk over a slow link takes hours.
    fn only_waits(&self) -> bool {
        true
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let (volume, image) = (volume(cx).await?, &cx.snapshot()?.image);
        let (snapshots, task) = (&cx.rack.snapshots, &cx.task.id);
        // It is there, unless the machine's power failed before the disk had its name.
        snapshots.take(task, &volume).await?;
        let meter = Meter::new(cx);
        let packed = snapshots.measure(task, &volume, telling(&meter, "reading it for its digest"));
        let packed = meter.beside(packed).await?;
        let sent = snapshots.upload(task, image, &packed, &volume, telling(&meter, "sending it"));
        let made = meter.beside(sent).await?;
        cx.task
            .edit(|task| {
                task.result.get_or_insert_default().written_bytes = made.file_bytes;
            })
            .await?;
        let (sent, disk) = (made.file_bytes >> 20, made.disk_bytes >> 20);
        cx.note(format!("{} of {disk} MiB, {sent} MiB sent", made.name)).await
    }
}

/// Reports progress from a thread that outlives the step when that is stopped.
fn telling(meter: &Meter<'_>, what: &'static str) -> Progress {
    let newest = Arc::clone(&meter.newest);
    Box::new(move |done, total| {
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        *newest.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some((number(done), number(total), what.to_owned()));
    })
}
