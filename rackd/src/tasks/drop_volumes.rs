use super::context::Context;
use super::step::{Step, StepError};

/// The volumes of the machine go, after it is off: nobody writes to them any more.
pub(super) struct DropVolumes;

#[async_trait::async_trait]
impl Step for DropVolumes {
    fn name(&self) -> &'static str {
        "drop_volumes"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let dropped = cx.rack.volumes.drop_volumes(&cx.machine()?.name).await?;
        if dropped.is_empty() { Ok(()) } else { cx.note(format!("removed: {}", dropped.join(", "))).await }
    }
}
