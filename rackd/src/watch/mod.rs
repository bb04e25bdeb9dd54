//! Truth in power: whether each machine of the rack is on, and whether its BMC answers, read now and then and told to
//! inventory, which says what it means. Nothing is corrected here.
//!
//! A BMC that tells events by itself is looked at with each of them, too (`streams`).
//!
//! Which BMCs, with which passwords, inventory says before each round; while it is away, those of the last round are
//! looked at, after a restart of rackd too (`kept.rs`), and the newest of what was seen of each waits.

mod beside;
mod kept;
mod list;
mod listener;
mod look;
mod rounds;
mod streams;
mod tell;

pub(crate) use beside::Beside;
pub(crate) use kept::remove as forget_kept;

use crate::config::LogWhen;
use crate::rack::Rack;
use crate::tasks::{TaskHandle, Waiting};
use farrier_identity::client::{Expect, channel_with_deadline};
use farrier_identity::{Credentials, Identity};
use farrier_proto::inventory::WatchedNode;
use farrier_proto::inventory::watch_service_client::WatchServiceClient;
use futures::FutureExt as _;
use kept::Kept;
use list::Watched;
use look::Sighting;
use rounds::Rounds;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use streams::Streams;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::transport::Channel;

/// Looks at the rack's BMCs.
pub(crate) struct Watch {
    inventory: WatchServiceClient<Channel>,
    every: Duration,
}

impl Watch {
    pub(crate) fn new(inventory: &str, credentials: &Credentials, every: Duration) -> anyhow::Result<Self> {
        let expect = Expect::Exactly(Identity::Service("inventory".to_owned()));
        let channel = channel_with_deadline(inventory, credentials, expect, CALL)?;
        let inventory = WatchServiceClient::new(channel).max_decoding_message_size(MOST_BYTES);
        Ok(Self { inventory, every })
    }

    /// Looks and tells until shutdown.
    pub(crate) async fn run(self, rack: Arc<Rack>) {
        let work = || async {
            let (told, seen) = mpsc::channel(WAITING);
            rack.beside.open(told.clone());
            tokio::join!(self.look(&rack, told), tell::tell(self.inventory.clone(), seen));
        };
        rack.shutdown.run_until_cancelled(again_after_a_defect(self.every, work)).await;
    }

    async fn look(&self, rack: &Arc<Rack>, told: mpsc::Sender<Sighting>) {
        let path = rack.config.data.join(kept::FILE);
        let (kept, nodes) = Kept::open(path, rack.vault.clone());
        let (mut kept, mut rounds) = (Some(kept), Rounds::default());
        rounds.renew(nodes);
        let streams = Arc::new(Streams::default());
        loop {
            let begin = Instant::now();
            match list::list(self.inventory.clone()).await {
                Ok(nodes) => {
                    rounds.renew(keep(&mut kept, nodes).await);
                    let words = rounds.words();
                    streams.keep_only(&words);
                    rack.consoles.keep_only(&words.keys().map(|node| plain(node)).collect());
                }
                Err(status) => {
                    tracing::warn!(%status, nodes = rounds.len(), "not told which BMCs to look at, looking at the last ones");
                }
            }
            let look = |node| look_and_tell(Arc::clone(rack), node, Arc::clone(&streams), told.clone());
            rounds.round(begin, self.every, look).await;
        }
    }
}

async fn look_and_tell(
    rack: Arc<Rack>,
    mut node: Watched,
    streams: Arc<Streams>,
    told: mpsc::Sender<Sighting>,
) -> Watched {
    // A task has the machine's BMC for itself, and tells what it makes of it; but where it only waits.
    let tasks = rack.tasks.of_node(&node.node);
    let before = waiting(&tasks).await;
    if tasks.iter().all(|task| task.only_waits())
        && let Some(mut sighting) = look::look(&rack.bmc, &mut node).await
    {
        // What the task did meanwhile is not somebody else's doing.
        let after = waiting(&tasks).await;
        sighting.waiting = before.filter(|before| after.as_ref() == Some(before));
        let answered = matches!(sighting.seen, look::Seen::Power { .. });
        // A BMC whose firmware is being updated is away, and that is no news.
        if answered || tasks.is_empty() {
            // The receiver is gone when rackd ends.
            let _ending = told.send(sighting).await;
        }
        if answered && tasks.is_empty() {
            keep_console(&rack, &node).await;
            streams.ensure(&rack, &node, &told);
        }
    }
    if node.is_refused() {
        // A look for an event would count against the account.
        streams.end(&node.node);
    }
    node
}

/// The node's one task, if it only waits.
async fn waiting(tasks: &[Arc<TaskHandle>]) -> Option<Waiting> {
    match tasks {
        [task] => task.waiting().await,
        _ => None,
    }
}

/// Works until it ends. A defect of ours costs a round, not the watch of the whole rack.
async fn again_after_a_defect<F: Future<Output = ()>>(pause: Duration, work: impl Fn() -> F) {
    while AssertUnwindSafe(work()).catch_unwind().await.is_err() {
        tracing::error!("a defect of rackd: the log has the panic; the watch of the BMCs begins again");
        tokio::time::sleep(pause).await;
    }
}

/// Writes down what inventory told. It is looked at all the same where that cannot be done.
async fn keep(kept: &mut Option<Kept>, nodes: Vec<WatchedNode>) -> Vec<WatchedNode> {
    let Some(mut list) = kept.take() else { return nodes };
    let written = tokio::task::spawn_blocking(move || {
        let written = list.renew(&nodes);
        (list, nodes, written)
    });
    match written.await {
        Ok((list, nodes, written)) => {
            if let Err(error) = written {
                tracing::error!(%error, "which BMCs there are is not kept: a rackd that restarts while the centre is away does not look at them");
            }
            *kept = Some(list);
            nodes
        }
        // A bug, told where it happened.
        Err(_) => Vec::new(),
    }
}

/// Its password is proven: who has its console open comes to it by that again, and the log of its console may be kept, where
/// that is wanted of all.
async fn keep_console(rack: &Arc<Rack>, node: &Watched) {
    let (id, digest) = (plain(&node.node), node.words.digest());
    let keeps = rack.config.consoles.log == LogWhen::Always;
    if (keeps || rack.consoles.is_known(id))
        && let Ok(access) = node.words.access().await
    {
        rack.consoles.hear(id, digest, access.clone());
        if keeps {
            rack.consoles.keep_always(rack, id, digest, &access);
        }
    }
}

fn plain(node: &str) -> &str {
    node.strip_prefix("nodes/").unwrap_or(node)
}

/// Inventory reads or writes some rows.
const CALL: Duration = Duration::from_secs(30);
/// A page of nodes with their authorities.
const MOST_BYTES: usize = 64 << 20;
/// Sightings that nobody has taken yet; whoever looks waits then.
const WAITING: usize = 256;

#[cfg(test)]
mod look_tests;
#[cfg(test)]
mod tests;
