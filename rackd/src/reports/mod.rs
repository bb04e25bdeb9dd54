//! What the centre should know although no task tells it: logins to iSCSI disks that were refused, as events of the
//! node or the rack.
//!
//! It is rate-limited, since strangers can cause it at will, and it is not journaled: while the centre is away it is
//! counted.

mod tally;

use crate::rack::Rack;
use farrier_block::Event;
use farrier_identity::client::{Expect, channel_with_deadline};
use farrier_identity::{Credentials, Identity};
use farrier_proto::inventory::event_service_client::EventServiceClient;
use farrier_proto::inventory::{RackEvent, RackEventKind, ReportEventsRequest};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally::{Line, Subject, Tally};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tonic::transport::Channel;

/// Tells inventory.
pub(crate) struct Reporter {
    events: EventServiceClient<Channel>,
}

impl Reporter {
    pub(crate) fn new(inventory: &str, credentials: &Credentials) -> anyhow::Result<Self> {
        let expect = Expect::Exactly(Identity::Service("inventory".to_owned()));
        let channel = channel_with_deadline(inventory, credentials, expect, CALL)?;
        Ok(Self { events: EventServiceClient::new(channel) })
    }

    /// Reports until shutdown.
    pub(crate) async fn run(mut self, rack: Arc<Rack>, mut events: Receiver<Event>) {
        let mut tally = Tally::default();
        loop {
            let due = tally.due_at();
            let wait = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = rack.shutdown.cancelled() => return,
                event = events.recv() => match event {
                    Ok(Event::LoginRefused { peer, initiator, target, reason, .. }) => {
                        tally.saw(Subject::new(peer.ip(), initiator, target, &reason), Instant::now());
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(lost)) => tally.lost(lost, Instant::now()),
                    Err(RecvError::Closed) => return,
                },
                () = wait => {
                    let lines = tally.take(Instant::now());
                    if let Err(status) = self.tell(&rack, &lines).await {
                        tracing::warn!(%status, "refused logins are not reported yet");
                        tally.give_back(lines, Instant::now());
                    }
                }
            }
        }
    }

    async fn tell(&mut self, rack: &Rack, lines: &[Line]) -> Result<(), tonic::Status> {
        let event = |line: &Line| RackEvent {
            kind: RackEventKind::RefuseLogin.into(),
            node: line.initiator().and_then(|name| rack.volumes.node_of(name)).unwrap_or_default(),
            detail: line.to_string(),
        };
        let events = lines.iter().map(event).collect();
        self.events.report_events(ReportEventsRequest { events }).await.map(drop)
    }
}

/// Inventory writes a few rows.
const CALL: Duration = Duration::from_secs(30);
