use super::context::Context;
use super::step::{Step, StepError, Timeouts};
use farrier_proto::agent::session_response::{Command, WriteImage as Write};
use std::time::Duration;

/// The agent streams the image to the root disk, each chunk verified before it is written.
pub(super) struct WriteImage;

#[async_trait::async_trait]
impl Step for WriteImage {
    fn name(&self) -> &'static str {
        "write_image"
    }
    fn deadline(&self, timeouts: &Timeouts) -> Duration {
        timeouts.write
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let deploy = cx.deploy()?;
        let image = cx.rack.cache.ensure(&deploy.image, &deploy.manifest_sha256, |_, _| ()).await?;
        let segment = cx
            .rack
            .provisioning()
            .ok_or_else(|| StepError::fatal("this rack has no provisioning segment"))?;
        let path = cx.rack.signer.path(&deploy.manifest_sha256, cx.rack.timeouts.write);
        let command = Command::WriteImage(Write {
            root_device: cx.machine()?.root_device.clone(),
            manifest: Some(image.manifest),
            url: format!("http://{}:{}{path}", segment.address, cx.rack.http_port),
        });
        let done = cx.agent(command).await?;
        cx.task
            .edit(|task| {
                let result = task.result.get_or_insert_default();
                result.disks = done.disks;
                result.written_bytes = done.written_bytes;
            })
            .await?;
        cx.note(done.detail).await
    }
}
