//! Keeps room on the disk that rackd shares with its machines.

use crate::rack::Rack;
use crate::tasks::TaskHandle;
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
    // Tasks first: one that ends while volumes are read has made its own by then.
    let tasks = rack.tasks.all();
    let of_task = |task: &Arc<TaskHandle>| match &task.spec.work {
        Some(Work::Deploy(deploy)) => Some(deploy.manifest_sha256.clone()),
        _ => None,
    };
    let mut needed: HashSet<String> = tasks.iter().filter_map(of_task).collect();
    needed.extend(rack.volumes.images().await?);
    Ok(needed)
}

const LOOK_EVERY: Duration = Duration::from_secs(60);
