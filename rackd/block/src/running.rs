//! Which operations touch a medium now. Whoever comes after the end of somebody's session, or after an abort, waits
//! until the last of them is over: a late write must not come over a newer one.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Operations of one medium.
#[derive(Debug, Default)]
pub(crate) struct Running {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    active: BTreeSet<u64>,
}

/// An operation, until it is dropped. Whether it may still happen is asked after it has begun: then either who ended
/// it waits for it, or it sees its end.
#[derive(Debug)]
pub(crate) struct Touch<'a> {
    running: &'a Running,
    number: u64,
}

/// Those that had begun at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Before(u64);

impl Running {
    pub(crate) fn begin(&self) -> Touch<'_> {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.active.insert(number);
        Touch { running: self, number }
    }

    pub(crate) fn now(&self) -> Before {
        Before(self.state().next)
    }

    pub(crate) fn are_over(&self, before: Before) -> bool {
        self.state().active.first().is_none_or(|first| *first >= before.0)
    }

    /// CANCEL-SAFETY: only the waiting is lost.
    pub(crate) async fn over(&self, before: Before) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.are_over(before) {
                return;
            }
            ended.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Touch<'_> {
    fn drop(&mut self) {
        self.running.state().active.remove(&self.number);
        self.running.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_later_is_not_waited_for() {
        let running = Running::default();
        let first = running.begin();
        let before = running.now();
        let later = running.begin();
        assert!(!running.are_over(before));
        let (mut waits, mut over) = (std::pin::pin!(running.over(before)), false);
        tokio::select! {
            biased;
            () = &mut waits => over = true,
            () = std::future::ready(()) => {}
        }
        assert!(!over);
        drop(first);
        waits.await;
        drop(later);
    }
}
