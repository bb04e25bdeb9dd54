use super::context::Context;
use super::seed;
use super::step::{Step, StepError};
use crate::volumes::NewVolume;

/// The disk of a diskless machine: an overlay over the cached image, and what cloud-init reads beside it.
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
                image: image(cx)?,
                manifest_sha256: &deploy.manifest_sha256,
                bytes: u64::try_from(deploy.volume_bytes).unwrap_or(0),
                seed,
            })
            .await?;
        cx.note("overlay over the cached image; nothing is copied").await
    }
}

/// The cached image that the volume is over.
pub(super) fn image(cx: &Context<'_>) -> Result<std::path::PathBuf, StepError> {
    let deploy = cx.deploy()?;
    // Fetched by an earlier step; gone when somebody emptied the cache.
    cx.rack.cache.path(&deploy.manifest_sha256).ok_or_else(|| {
        StepError::Again(format!("{}: expected it in the rack's cache, saw nothing there", deploy.image))
    })
}
