//! A boot's first login to its iSCSI disk is followed by a boot script with another secret: each lives for one boot.

use crate::rack::Rack;
use farrier_block::{Event, SessionInfo};
use farrier_netboot::{Boot, BootEntry, ChapWord, SanError};
use farrier_runtime::telemetry::chain;
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// Until shutdown.
pub(crate) async fn renew(rack: Arc<Rack>, mut events: Receiver<Event>) {
    loop {
        let event = tokio::select! {
            () = rack.shutdown.cancelled() => return,
            event = events.recv() => event,
        };
        let began = match event {
            Ok(Event::SessionStarted(session)) => vec![session],
            Ok(_) => continue,
            // What was missed is among those that are there.
            Err(RecvError::Lagged(_)) => rack.volumes.targets().sessions(),
            Err(RecvError::Closed) => return,
        };
        for SessionInfo { target, user, .. } in began {
            let Some(user) = user else { continue };
            match rack.volumes.logged_in(&target, &user).await {
                Ok(Some(next)) => {
                    if let Err(error) = publish(&rack, &target, &next.user(), &next.secret) {
                        tracing::error!(%target, %error, "no new secret in the boot script");
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%target, error = %chain(&error), "the secret of the last boot stays good");
                }
            }
        }
    }
}

/// Into the scripts that lead to this target.
fn publish(rack: &Rack, target: &str, user: &str, secret: &str) -> Result<(), SanError> {
    let (user, secret) = (user.parse()?, secret.parse()?);
    rack.netboot.update(|table| {
        let leads_there = |entry: &&Arc<BootEntry>| {
            matches!(&entry.boot, Boot::San(san) if san.target.to_string() == target)
        };
        let entries: Vec<BootEntry> =
            table.entries().filter(leads_there).map(|entry| BootEntry::clone(entry)).collect();
        for mut entry in entries {
            if let Boot::San(san) = &mut entry.boot {
                (san.user, san.secret) = (ChapWord::clone(&user), ChapWord::clone(&secret));
            }
            table.publish(entry);
        }
    });
    Ok(())
}
