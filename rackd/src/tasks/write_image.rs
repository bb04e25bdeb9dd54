use super::context::{Context, refused_by_agent};
use super::step::{Step, StepError, Timeouts};
use crate::agents::Outcome;
use crate::volumes::Access;
use farrier_proto::agent::FailureReason;
use farrier_proto::agent::session_response::{Command, WriteImage as Write};
use farrier_proto::types::DeployMethod;
use std::net::Ipv4Addr;
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
    /// A large image to a slow disk takes hours.
    fn only_waits(&self) -> bool {
        true
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let mut outcome = write(cx, 0).await?;
        let mut repaired = String::new();
        // The agent compares each chunk with the manifest, the cache only what it reads itself.
        if outcome.as_ref().is_err_and(|failure| failure.reason() == FailureReason::Checksum) {
            let deploy = cx.deploy()?;
            let count = cx.rack.cache.repair(&deploy.image, &deploy.manifest_sha256).await?;
            repaired = format!("; {count} damaged chunks of it in the rack's cache were fetched again");
            outcome = write(cx, 1).await?;
        }
        let done = outcome.map_err(refused_by_agent)?;
        cx.task
            .edit(|task| {
                let result = task.result.get_or_insert_default();
                result.disks = done.disks;
                result.written_bytes = done.written_bytes;
            })
            .await?;
        cx.note(done.detail + &repaired).await
    }
}

async fn write(cx: &Context<'_>, tries: u32) -> Result<Outcome, StepError> {
    let deploy = cx.deploy()?;
    let manifest = cx.rack.cache.ensure(&deploy.image, &deploy.manifest_sha256, |_, _| ()).await?;
    // The ramdisk reaches the rack where it came from, whichever of the machine's ports that is.
    let reached = cx.rack.reached_from(cx.machine()?, cx.task.agent.peer());
    let segment = reached.ok_or_else(|| StepError::fatal("this rack has no provisioning segment"))?;
    let by_iscsi = deploy.method() == DeployMethod::Iscsi;
    let url = if by_iscsi {
        offer(cx, segment.address).await?
    } else {
        let path = cx.rack.signer.path(&deploy.manifest_sha256, cx.rack.timeouts.write);
        format!("http://{}:{}{path}", segment.address, cx.rack.http_port)
    };
    let command =
        Command::WriteImage(Write { root_device: cx.root_device()?, manifest: Some(manifest), url });
    let outcome = cx.agent_again(tries, command).await;
    if by_iscsi {
        cx.rack.volumes.withdraw_image(&cx.machine()?.name).await;
    }
    outcome
}

/// The image as a read-only iSCSI disk for this machine's ramdisk, and its address with the proof in it.
async fn offer(cx: &Context<'_>, portal: Ipv4Addr) -> Result<String, StepError> {
    let (secret, deploy) = (cx.chap_secret().await?, cx.deploy()?);
    // Fetched by an earlier step; gone when somebody emptied the cache.
    let image = cx.rack.cache.path(&deploy.manifest_sha256).ok_or_else(|| {
        StepError::Again(format!("{}: expected it in the rack's cache, saw nothing there", deploy.image))
    })?;
    let node = &cx.machine()?.name;
    let user = node.rsplit('/').next().unwrap_or_default();
    let access = cx.rack.volumes.offer_image(node, image, user, &secret).await?;
    let Access { target, initiator, port } = access;
    Ok(format!("iscsi://{user}%{secret}@{portal}:{port}/{target}/0?initiator={initiator}"))
}
