use super::context::Context;
use super::seed;
use super::step::{Step, StepError};
use crate::volumes::NewVolume;

/// The disk of a diskless machine: an overlay over the image, and what cloud-init reads beside it.
pub(super) struct MakeVolume;

#[async_trait::async_trait]
impl Step for MakeVolume {
    fn name(&self) -> &'static str {
        "make_volume"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let deploy = cx.deploy()?;
        let seed = seed::volume(cx).await?;
        cx.rack
            .volumes
            .ensure_volume(NewVolume {
                instance: &deploy.instance,
                node: &cx.machine()?.name,
                task: &cx.task.id,
                image: cx.image().await?,
                manifest_sha256: &deploy.manifest_sha256,
                bytes: u64::try_from(deploy.volume_bytes).unwrap_or(0),
                seed,
            })
            .await?;
        cx.note("overlay over the image; nothing is copied").await
    }
}
