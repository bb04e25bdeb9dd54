//! The boot trace goes on after the script: logins to iSCSI disks, beside what netboot itself saw.

use crate::rack::Rack;
use farrier_block::{Event, SessionInfo};
use farrier_netboot::EventKind;
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// Until shutdown.
pub(crate) async fn follow_disks(rack: Arc<Rack>, mut disks: Receiver<Event>) {
    loop {
        let event = tokio::select! {
            () = rack.shutdown.cancelled() => return,
            event = disks.recv() => event,
        };
        match event {
            Ok(event) => {
                if let Some((from, kind, detail)) = step(event) {
                    rack.netboot.tell(from.ip(), kind, detail);
                }
            }
            // A trace is for people: the logins that were missed are among many.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Where it came from, what it is, and the rest for people.
fn step(event: Event) -> Option<(std::net::SocketAddr, EventKind, String)> {
    let session = |kind, session: SessionInfo| {
        let SessionInfo { target, initiator, peer, .. } = session;
        (peer, kind, format!("{initiator} at {target} ({peer})"))
    };
    match event {
        Event::SessionStarted(info) => Some(session(EventKind::IscsiLogin, info)),
        Event::SessionEnded(info) => Some(session(EventKind::IscsiLogout, info)),
        Event::LoginRefused { peer, initiator, target, reason, .. } => {
            let who = initiator.as_deref().unwrap_or("an initiator without a name");
            let at = target.map(|target| format!(" at {target}")).unwrap_or_default();
            Some((peer, EventKind::IscsiRefused, format!("{who}{at}: {reason} ({peer})")))
        }
        Event::DiskFailed { .. } => None,
    }
}
