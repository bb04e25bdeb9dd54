use super::context::Context;
use super::step::{Step, StepError, Timeouts};
use farrier_proto::agent::session_response::{Command, Erase, Inspected, erase::Depth};
use farrier_proto::rack::task_spec::Work;
use std::time::Duration;

/// Every disk erased and read back: the proof without which a node is never offered.
pub(super) struct EraseDisks;

#[async_trait::async_trait]
impl Step for EraseDisks {
    fn name(&self) -> &'static str {
        "erase_disks"
    }
    fn deadline(&self, timeouts: &Timeouts) -> Duration {
        timeouts.write
    }
    /// Large disks take hours.
    fn only_waits(&self) -> bool {
        true
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let full = matches!(&cx.task.spec.work, Some(Work::Clean(clean)) if clean.full);
        let depth = if full { Depth::Full } else { Depth::Metadata };
        let inspected = cx.machine()?.hardware.as_ref().map(|seen| Inspected { disks: seen.disks.clone() });
        let done = cx.agent(Command::Erase(Erase { depth: depth.into(), inspected })).await?;
        cx.task.edit(|task| task.result.get_or_insert_default().disks = done.disks).await?;
        cx.note(done.detail).await
    }
}
