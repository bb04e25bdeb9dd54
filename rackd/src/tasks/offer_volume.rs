use super::context::Context;
use super::step::{Step, StepError};
use crate::volumes::Access;

/// The volume as an iSCSI target that only this machine may log in to.
pub(super) struct OfferVolume;

#[async_trait::async_trait]
impl Step for OfferVolume {
    fn name(&self) -> &'static str {
        "offer_volume"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let access = offer(cx).await?;
        cx.note(format!("{} for {}", access.target, access.initiator)).await
    }
    fn lasts(&self) -> bool {
        true
    }
    async fn restore(&self, cx: &Context<'_>) -> Result<(), StepError> {
        offer(cx).await.map(|_| ())
    }
}

async fn offer(cx: &Context<'_>) -> Result<Access, StepError> {
    let (instance, node) = (&cx.deploy()?.instance, &cx.machine()?.name);
    Ok(cx.rack.volumes.offer_volume(instance, node, &cx.task.id, cx.image().await?).await?)
}
