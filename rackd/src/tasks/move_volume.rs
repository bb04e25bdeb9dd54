use super::context::Context;
use super::step::{Step, StepError};

/// The disk is the other machine's from here on: this one's sessions end, and its secret opens nothing any more.
pub(super) struct MoveVolume;

#[async_trait::async_trait]
impl Step for MoveVolume {
    fn name(&self) -> &'static str {
        MOVE_VOLUME
    }
    fn power_off_after_failure(&self) -> bool {
        false
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let (fence, node) = (cx.fence()?, &cx.machine()?.name);
        cx.rack.volumes.give(&fence.instance, node, &fence.onto).await?;
        cx.note(format!("the disk of {} is {}'s", fence.instance, fence.onto)).await
    }
}

/// After it there is no way back: whoever judges what a stopped task left asks for it.
pub(super) const MOVE_VOLUME: &str = "move_volume";
