//! Keeps room on the disk that rackd shares with its machines.

use crate::rack::Rack;
use crate::volumes::VolumeError;
use farrier_proto::rack::task_spec::Work;
use farrier_runtime::telemetry::chain;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Removes images that nothing needs, when an image comes that may have no room, and now and then: machines write too.
pub(crate) async fn keep_room(rack: Arc<Rack>) {
    loop {
        tokio::select! {
            () = rack.shutdown.cancelled() => return,
            () = rack.cache.cramped.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if let Err(error) = rack.cache.make_room(needed(&rack)).await {
            tracing::warn!(error = %chain(&error), "no room is made in the image cache");
        }
    }
}

/// Images that a volume builds on, or that a task under way works with.
async fn needed(rack: &Rack) -> Result<HashSet<String>, VolumeError> {
    let mut needed = rack.volumes.images().await?;
    for task in rack.tasks.all() {
        if let Some(Work::Deploy(deploy)) = &task.spec.work {
            needed.insert(deploy.manifest_sha256.clone());
        }
    }
    Ok(needed)
}

const LOOK_EVERY: Duration = Duration::from_secs(60);
