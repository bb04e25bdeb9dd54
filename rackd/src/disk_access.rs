//! A boot's first login to its iSCSI disk is followed by a boot script with another secret: each lives for one boot.

use crate::rack::Rack;
use farrier_block::{Event, SessionInfo};
use farrier_netboot::{Boot, BootEntry, ChapWord, SanError};
use farrier_runtime::telemetry::chain;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// Until shutdown.
pub(crate) async fn renew(rack: Arc<Rack>, mut events: Receiver<Event>) {
    let places = Arc::new(Semaphore::new(PLACES));
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
            // One that hangs on a slow disk keeps the others' waiting no longer than there is room for all.
            let Ok(place) = places.clone().try_acquire_owned() else { continue };
            let rack = rack.clone();
            rack.tracker.clone().spawn(async move {
                rack.shutdown.run_until_cancelled(after_login(&rack, &target, &user)).await;
                drop(place);
            });
        }
    }
}

async fn after_login(rack: &Rack, target: &str, user: &str) {
    match rack.volumes.logged_in(target, user).await {
        Ok(Some(next)) => {
            if let Err(error) = publish(rack, target, &next.user(), &next.secret) {
                tracing::error!(target, %error, "no new secret in the boot script");
            }
        }
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(target, error = %chain(&error), "the secret of the last boot stays good");
        }
    }
}

/// Into the scripts that lead to this target.
fn publish(rack: &Rack, target: &str, user: &str, secret: &str) -> Result<(), SanError> {
    let (user, secret) = (user.parse()?, secret.parse()?);
    let old = |entry: &&Arc<BootEntry>| matches!(&entry.boot, Boot::San(san) if san.user != user && san.target.to_string() == target);
    // A system that logs in again changes nothing.
    if !rack.netboot.table().entries().any(|entry| old(&entry)) {
        return Ok(());
    }
    rack.netboot.update(|table| {
        let entries: Vec<BootEntry> =
            table.entries().filter(old).map(|entry| BootEntry::clone(entry)).collect();
        for mut entry in entries {
            if let Boot::San(san) = &mut entry.boot {
                (san.user, san.secret) = (ChapWord::clone(&user), ChapWord::clone(&secret));
            }
            table.publish(entry);
        }
    });
    Ok(())
}

/// Logins that are looked at at a time. The next login of a machine makes up for one that was not.
const PLACES: usize = 256;
