//! What the boot servers saw and decided, as it happens.

use super::boot_event_type::boot_event_type;
use crate::rack::Rack;
use farrier_netboot::MacAddr;
use farrier_proto::rack::{BootEvent, BootEventType, WatchBootEventsRequest};
use farrier_runtime::error::{Reason, invalid, refuse};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

type Seen = Arc<farrier_netboot::BootEvent>;

/// The past that is kept, then what happens until the caller leaves or rackd ends.
pub(super) fn watch(
    rack: &Arc<Rack>,
    request: &WatchBootEventsRequest,
) -> Result<ReceiverStream<Result<BootEvent, Status>>, Status> {
    let wanted = Wanted::parse(request)?;
    // Before the past is read: nothing falls between.
    let live = rack.netboot.events();
    let past = wanted.past(rack);
    let (tx, rx) = mpsc::channel(AHEAD);
    let (rack, past_only) = (rack.clone(), request.past_only);
    rack.clone().tracker.spawn(async move {
        let work = tell(&tx, &wanted, past, (!past_only).then_some(live));
        if rack.shutdown.run_until_cancelled(work).await.is_none() {
            let text = "rackd is shutting down: watch again";
            let _ = tx.try_send(Err(refuse(Code::Unavailable, Reason::Unavailable, text)));
        }
    });
    Ok(ReceiverStream::new(rx))
}

pub(super) fn event(event: &farrier_netboot::BootEvent) -> BootEvent {
    BootEvent {
        time: Some(event.at.into()),
        kind: event.kind.to_string(),
        r#type: boot_event_type(&event.kind).into(),
        detail: event.detail.clone(),
        mac_address: event.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        node: event.node.clone().unwrap_or_default(),
        sequence: i64::try_from(event.sequence).unwrap_or(i64::MAX),
    }
}

struct Wanted {
    macs: HashSet<MacAddr>,
    dhcp_only: bool,
}

impl Wanted {
    fn parse(request: &WatchBootEventsRequest) -> Result<Self, Status> {
        if request.mac_addresses.len() > PORTS {
            return Err(invalid("mac_addresses", format!("expected at most {PORTS}")));
        }
        let mac =
            |text: &String| text.parse().map_err(|_| invalid("mac_addresses", "expected EUI-48 with colons"));
        let macs = request.mac_addresses.iter().map(mac).collect::<Result<_, _>>()?;
        Ok(Self { macs, dhcp_only: request.dhcp_only })
    }

    /// What is kept of a port outlasts a storm of others.
    fn past(&self, rack: &Rack) -> Vec<Seen> {
        if self.macs.is_empty() {
            return rack.netboot.log();
        }
        let mut past: Vec<Seen> = self.macs.iter().flat_map(|mac| rack.netboot.trace(*mac)).collect();
        past.sort_by_key(|event| event.sequence);
        past
    }

    /// One as it happens. Of ports that are named with all that was in the packet, as in what is kept of them.
    fn live(&self, seen: &Seen) -> BootEvent {
        let whole = if self.macs.is_empty() { None } else { seen.told_whole() };
        event(whole.as_ref().unwrap_or(seen))
    }

    fn has(&self, event: &farrier_netboot::BootEvent) -> bool {
        (self.macs.is_empty() || event.mac.is_some_and(|mac| self.macs.contains(&mac)))
            && (!self.dhcp_only || event.kind.is_dhcp())
    }
}

async fn tell(
    tx: &Sender<Result<BootEvent, Status>>,
    wanted: &Wanted,
    past: Vec<Seen>,
    live: Option<Receiver<Seen>>,
) {
    let last = past.last().map_or(0, |event| event.sequence);
    for seen in past.iter().filter(|seen| wanted.has(seen)) {
        if tx.send(Ok(event(seen))).await.is_err() {
            return;
        }
    }
    drop(past);
    let Some(mut live) = live else { return };
    loop {
        let seen = tokio::select! {
            () = tx.closed() => return,
            seen = live.recv() => seen,
        };
        let told = match seen {
            Ok(seen) if seen.sequence > last && wanted.has(&seen) => wanted.live(&seen),
            Ok(_) => continue,
            // A storm, or a caller that reads slowly.
            Err(RecvError::Lagged(count)) => BootEvent {
                time: Some(farrier_runtime::time::now()),
                kind: "lost".to_owned(),
                r#type: BootEventType::Lost.into(),
                detail: format!("{count} events were too many to tell"),
                ..BootEvent::default()
            },
            Err(RecvError::Closed) => return,
        };
        if tx.send(Ok(told)).await.is_err() {
            return;
        }
    }
}

/// Events ahead of a slow reader.
const AHEAD: usize = 64;
/// Ports named at once.
const PORTS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_netboot::EventKind;
    use std::time::SystemTime;

    fn seen(sequence: u64, mac: u8, kind: EventKind) -> Seen {
        let mac = Some(MacAddr([2, 0, 0, 0, 0, mac]));
        Arc::new(farrier_netboot::BootEvent {
            at: SystemTime::UNIX_EPOCH,
            mac,
            node: None,
            kind,
            detail: String::new(),
            sequence,
            packet: Default::default(),
        })
    }

    #[tokio::test]
    async fn the_past_then_what_happens_each_once_of_whom_was_asked() {
        let request = WatchBootEventsRequest {
            mac_addresses: vec!["02:00:00:00:00:01".into()],
            dhcp_only: true,
            ..WatchBootEventsRequest::default()
        };
        let wanted = Wanted::parse(&request).unwrap();
        let (live, events) = tokio::sync::broadcast::channel(8);
        let past = vec![
            seen(1, 1, EventKind::Discover),
            seen(2, 2, EventKind::Discover),
            seen(3, 1, EventKind::Offer),
        ];
        // The last of the past is among what is live, too.
        for event in [
            past[2].clone(),
            seen(4, 1, EventKind::HttpScript),
            seen(5, 1, EventKind::Ack),
            seen(6, 2, EventKind::Ack),
        ] {
            live.send(event).unwrap();
        }
        drop(live);
        let (tx, mut rx) = mpsc::channel(8);
        tell(&tx, &wanted, past, Some(events)).await;
        drop(tx);
        let mut told = Vec::new();
        while let Some(event) = rx.recv().await {
            told.push(event.unwrap().sequence);
        }
        assert_eq!(told, [1, 3, 5]);
        let bad =
            WatchBootEventsRequest { mac_addresses: vec!["x".into()], ..WatchBootEventsRequest::default() };
        assert!(Wanted::parse(&bad).is_err());
    }

    #[tokio::test]
    async fn who_reads_too_slowly_is_told_so() {
        let (live, events) = tokio::sync::broadcast::channel(2);
        for sequence in 1..=5 {
            live.send(seen(sequence, 1, EventKind::Ack)).unwrap();
        }
        drop(live);
        let (tx, mut rx) = mpsc::channel(8);
        let wanted = Wanted::parse(&WatchBootEventsRequest::default()).unwrap();
        tell(&tx, &wanted, Vec::new(), Some(events)).await;
        let first = rx.recv().await.unwrap().unwrap();
        assert_eq!((first.kind.as_str(), first.detail.as_str()), ("lost", "3 events were too many to tell"));
        assert_eq!(rx.recv().await.unwrap().unwrap().sequence, 4);
    }
}
