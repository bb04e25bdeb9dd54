//! Logs of consoles that nobody watches.
//!
//! A keeper is a guest at the BMC: it comes after the BMC has answered a command in the session of the commands, has a
//! session of its own, takes the console from nobody, and goes away for a while where it is not wanted.

use super::Consoles;
use super::desk::{Desk, Held, driver_of};
use crate::bmc::{Access, Bmcs};
use crate::config::LogWhen;
use crate::rack::Rack;
use farrier_bmc::{BmcError, Capability, Deadline};
use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

/// Between tries: doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// Until a BMC that refuses the password for its console, or has no room for a session more, is asked again.
const REFUSED: Duration = Duration::from_secs(15 * 60);
/// Until a BMC whose console somebody else has is asked again: each try is a log-in, and people stay for a while.
const TAKEN: Duration = Duration::from_secs(5 * 60);

/// A node whose console is always kept.
pub(super) struct Kept {
    /// Of what was said of its BMC.
    words: [u8; 32],
    _until: DropGuard,
}

/// What a keeper came to.
enum Try {
    Held(Held),
    /// There is no console now.
    None,
    Failed(BmcError),
}

impl Consoles {
    /// Keeps the log of a node's console as long as the answer lives, where it is configured so. It never fails: a BMC that
    /// does not give its console has a log without these lines.
    pub(crate) fn keep_during_task<F>(&self, rack: &Arc<Rack>, id: &str, access: F) -> Option<DropGuard>
    where
        F: Future<Output = Option<Access>> + Send + 'static,
    {
        (self.when != LogWhen::Attended).then(|| self.keep(rack, id, access))
    }

    /// The same from now on, until the node is told of no more or its words change.
    pub(crate) fn keep_always(&self, rack: &Arc<Rack>, id: &str, words: [u8; 32], access: &Access) {
        if self.when != LogWhen::Always {
            return;
        }
        let mut always = self.always.lock().unwrap_or_else(PoisonError::into_inner);
        if always.get(id).is_none_or(|kept| kept.words != words) {
            let access = access.clone();
            let until = self.keep(rack, id, std::future::ready(Some(access)));
            always.insert(id.to_owned(), Kept { words, _until: until });
        }
    }

    /// Of the consoles that are always kept, only these.
    pub(crate) fn keep_only(&self, ids: &HashSet<&str>) {
        let mut always = self.always.lock().unwrap_or_else(PoisonError::into_inner);
        always.retain(|id, _| ids.contains(id.as_str()));
    }

    fn keep<F>(&self, rack: &Arc<Rack>, id: &str, access: F) -> DropGuard
    where
        F: Future<Output = Option<Access>> + Send + 'static,
    {
        let until = self.stop.child_token();
        let (rack, id, ends) = (Arc::clone(rack), id.to_owned(), until.clone());
        self.tasks.spawn(async move {
            let kept = async {
                if let Some(access) = access.await {
                    rack.consoles.keep_trying(&rack.bmc, &id, access).await;
                }
            };
            ends.run_until_cancelled(kept).await;
        });
        until.drop_guard()
    }

    /// Until the future is dropped.
    async fn keep_trying(&self, bmcs: &Arc<Bmcs>, id: &str, access: Access) {
        let mut pause = FIRST_PAUSE;
        loop {
            let wait = match self.try_hold(bmcs, id, access.clone()).await {
                Try::Held(held) => {
                    let begin = Instant::now();
                    held.closed().await;
                    // One that ends as soon as it is open is not pressed.
                    if begin.elapsed() > LAST_PAUSE {
                        pause = FIRST_PAUSE;
                    }
                    pause
                }
                // A BMC that has just started, or whose other protocol has not been heard yet, has none for a while.
                Try::None => REFUSED,
                Try::Failed(error) => {
                    tracing::debug!(node.id = id, %error, "console log not kept");
                    wait_after(&error, pause)
                }
            };
            tokio::time::sleep(wait.mul_f64(rand::random_range(0.75..1.25))).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn try_hold(&self, bmcs: &Arc<Bmcs>, id: &str, access: Access) -> Try {
        let slot = self.slot(id);
        let held = async {
            let deadline = Deadline::after(super::OPEN);
            let bmc = bmcs.open(id, access.clone(), deadline).await?.bmc;
            if bmc.driver_of(Capability::Console).is_none() {
                return Ok(None);
            }
            // Commands come first: they have their session, and the password is proven, before the console asks for one.
            bmc.power_status(deadline).await?;
            let mut place = slot.lock().await;
            // Its address may be of long ago: who is attached was told a newer one, and is not sent away for the log.
            if place.is_elsewhere(&access) {
                return Ok(None);
            }
            if let Some(desk) = place.desk_at(&access).await
                && let Some(held) = Desk::hold(desk)
            {
                return Ok(Some(held));
            }
            let line = place.remember(access.clone(), bmc.open_console(false, deadline).await)?;
            let desk = Desk::new(id, driver_of(&bmc));
            let held = Desk::hold(&desk);
            place.open = Some(self.open(desk, (bmcs, id, access), bmc, line));
            Ok(held)
        };
        match held.await {
            Ok(Some(held)) => Try::Held(held),
            Ok(None) | Err(BmcError::Unsupported { .. }) => Try::None,
            Err(error) => Try::Failed(error),
        }
    }
}

fn wait_after(error: &BmcError, pause: Duration) -> Duration {
    match error {
        BmcError::ConsoleTaken { .. } => TAKEN,
        error if is_refused(error) => REFUSED,
        _ => pause,
    }
}

/// Whether asking again soon may lock an account, or take a session that commands need.
fn is_refused(error: &BmcError) -> bool {
    error.is_wrong_password()
        || matches!(
            error,
            BmcError::NoSessionSlot { .. }
                | BmcError::WrongKg { .. }
                | BmcError::BadCredentials { .. }
                | BmcError::HostKey { .. }
                | BmcError::NoProgram { .. }
                | BmcError::NotOffered { .. }
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_that_a_person_has_and_a_password_that_is_refused_are_asked_for_seldom() {
        let addr = ([192, 0, 2, 1], 623).into();
        let pause = Duration::from_secs(4);
        assert_eq!(wait_after(&BmcError::ConsoleTaken { addr }, pause), TAKEN);
        assert_eq!(wait_after(&BmcError::WrongPassword { addr, user: String::new() }, pause), REFUSED);
        assert_eq!(wait_after(&BmcError::StillQueued { addr }, pause), pause);
    }
}
