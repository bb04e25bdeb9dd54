//! What the centre should know although no task tells it: logins to iSCSI disks that were refused, machines that
//! ask to boot and are nobody's, DHCP servers beside ours, addresses that two machines use, pools and places that are used up, and disks that fail, as events of the node or the rack.
//!
//! It is rate-limited, since strangers can cause it at will, and it is not journaled: while the centre is away it is
//! counted.

mod subject;
mod tally;

use crate::rack::Rack;
use crate::volumes::Offer;
use farrier_block::Event;
use farrier_identity::client::{Expect, channel_with_deadline};
use farrier_identity::{Credentials, Identity};
use farrier_netboot::EventKind;
use farrier_proto::inventory::event_service_client::EventServiceClient;
use farrier_proto::inventory::{RackEvent, RackEventKind, ReportEventsRequest};
use std::sync::Arc;
use std::time::{Duration, Instant};
use subject::{
    Conflict, DiskAway, DiskFailure, ForeignServer, Login, PoolExhausted, RogueRouter, Stranger, TftpFull,
};
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
    pub(crate) async fn run(
        mut self,
        rack: Arc<Rack>,
        mut disks: Receiver<Event>,
        mut offers: Receiver<Offer>,
    ) {
        let (mut logins, mut strangers) = (Tally::<Login>::default(), Tally::<Stranger>::default());
        let (mut servers, mut failures) =
            (Tally::<ForeignServer>::default(), Tally::<DiskFailure>::default());
        let (mut conflicts, mut aways) = (Tally::<Conflict>::default(), Tally::<DiskAway>::default());
        let mut routers = Tally::<RogueRouter>::default();
        let (mut pools, mut tftp) = (Tally::<PoolExhausted>::default(), Tally::<TftpFull>::default());
        let mut boots = rack.netboot.events();
        loop {
            let due = [logins.due_at(), strangers.due_at(), servers.due_at(), failures.due_at()];
            let more = [conflicts.due_at(), pools.due_at(), tftp.due_at(), routers.due_at(), aways.due_at()];
            let due = due.into_iter().chain(more).flatten().min();
            let wait = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = rack.shutdown.cancelled() => return,
                event = disks.recv() => match event {
                    Ok(Event::LoginRefused { peer, initiator, target, reason, .. }) => {
                        logins.saw(Login::new(peer.ip(), initiator, target, &reason), Instant::now());
                    }
                    Ok(Event::DiskFailed { target, reason, .. }) => {
                        failures.saw(DiskFailure { target, reason }, Instant::now());
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(lost)) => logins.lost(lost, Instant::now()),
                    Err(RecvError::Closed) => return,
                },
                offer = offers.recv() => match offer {
                    Ok(Offer::Failed(away)) => aways.saw(DiskAway(away), Instant::now()),
                    // Told later, it would seem to be away still.
                    Ok(Offer::Made { node, instance }) => {
                        aways.is_over(|DiskAway(away)| away.node == node && away.instance == instance);
                    }
                    Err(RecvError::Lagged(lost)) => aways.lost(lost, Instant::now()),
                    Err(RecvError::Closed) => return,
                },
                event = boots.recv() => match event {
                    Ok(event) => match (&event.kind, event.mac) {
                        (EventKind::UnknownMac { boots: true, .. }, Some(mac)) => strangers.saw(Stranger(mac), Instant::now()),
                        (EventKind::ForeignServer { server, network }, _) => {
                            let server = ForeignServer { server: *server, network: network.clone() };
                            servers.saw(server, Instant::now());
                        }
                        (EventKind::RogueRouter { router, network }, _) => {
                            let (router, network) = (*router, network.clone());
                            let says = event.detail.clone();
                            routers.saw(RogueRouter { router, network, says }, Instant::now());
                        }
                        (EventKind::AddressInUse | EventKind::Decline, _) => {
                            if let Some(node) = event.node.clone() {
                                conflicts.saw(Conflict { node, detail: event.detail.clone() }, Instant::now());
                            }
                        }
                        (EventKind::PoolExhausted { network }, _) => {
                            pools.saw(PoolExhausted(network.clone()), Instant::now());
                        }
                        (EventKind::TftpFull, _) => tftp.saw(TftpFull, Instant::now()),
                        _ => {}
                    },
                    // Most of what is missed is not about strangers, and those ask again.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                () = wait => {
                    let node = |login: &Login| login.initiator().and_then(|name| rack.volumes.node_of(name));
                    let tell = async {
                        self.tell(&mut logins, RackEventKind::RefuseLogin, node).await;
                        self.tell(&mut strangers, RackEventKind::UnknownMachine, |_| None).await;
                        self.tell(&mut servers, RackEventKind::ForeignDhcpServer, |_| None).await;
                        self.tell(&mut routers, RackEventKind::RogueRouter, |_| None).await;
                        self.tell(&mut pools, RackEventKind::PoolExhausted, |_| None).await;
                        self.tell(&mut tftp, RackEventKind::TftpFull, |_| None).await;
                        let node = |conflict: &Conflict| Some(conflict.node.clone());
                        self.tell(&mut conflicts, RackEventKind::AddressConflict, node).await;
                        let owner = |failure: &DiskFailure| rack.volumes.owner_of(&failure.target);
                        self.tell(&mut failures, RackEventKind::DiskFailed, owner).await;
                        let owner = |away: &DiskAway| Some(away.0.node.clone());
                        self.tell(&mut aways, RackEventKind::DiskFailed, owner).await;
                    };
                    if rack.shutdown.run_until_cancelled(tell).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Tells what is due; what does not get through is due again later.
    async fn tell<S: Subject>(
        &mut self,
        tally: &mut Tally<S>,
        kind: RackEventKind,
        node: impl Fn(&S) -> Option<String>,
    ) {
        let lines = tally.take(Instant::now());
        if lines.is_empty() {
            return;
        }
        let event = |line: &Line<S>| RackEvent {
            kind: kind.into(),
            node: line.subject.as_ref().and_then(&node).unwrap_or_default(),
            detail: line.to_string(),
        };
        let events = lines.iter().map(event).collect();
        if let Err(status) = self.events.report_events(ReportEventsRequest { events }).await {
            tracing::warn!(%status, kind = kind.as_str_name(), "not reported yet");
            tally.give_back(lines, Instant::now());
        }
    }
}

/// Inventory writes a few rows.
const CALL: Duration = Duration::from_secs(30);
