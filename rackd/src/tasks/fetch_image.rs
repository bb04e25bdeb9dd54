use super::context::{Context, Meter};
use super::step::{Step, StepError, Timeouts};
use std::time::Duration;

/// The image into the rack's cache, once for all its nodes.
pub(super) struct FetchImage;

#[async_trait::async_trait]
impl Step for FetchImage {
    fn name(&self) -> &'static str {
        "fetch_image"
    }
    fn deadline(&self, timeouts: &Timeouts) -> Duration {
        timeouts.write
    }
    /// A large image over a slow link takes hours.
    fn only_waits(&self) -> bool {
        true
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let deploy = cx.deploy()?;
        let meter = Meter::new(cx);
        let fetch = cx
            .rack
            .cache
            .ensure(&deploy.image, &deploy.manifest_sha256, |done, total| meter.report(done, total, ""));
        let manifest = meter.beside(fetch).await?;
        cx.note(format!("{} in the rack's cache, {} MiB", deploy.image, manifest.size_bytes >> 20)).await
    }
}
