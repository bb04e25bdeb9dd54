//! Reads of the same that wait for the same BMC are one.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::{
    BmcError, BmcEvents, BmcIdentity, BmcNetwork, BootOverride, Deadline, FirmwarePart, Inventory, Look,
    PowerDraw, Sensors,
};

/// Reads of one BMC that several may ask for at the same time; those of the same that wait are one.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Power, and health with it.
    pub(crate) look: Arc<Coalesced<Look>>,
    pub(crate) sensors: Arc<Coalesced<Sensors>>,
    pub(crate) inventory: Arc<Coalesced<Inventory>>,
    pub(crate) identity: Arc<Coalesced<BmcIdentity>>,
    pub(crate) boot_device: Arc<Coalesced<BootOverride>>,
    pub(crate) network: Arc<Coalesced<BmcNetwork>>,
    pub(crate) draw: Arc<Coalesced<PowerDraw>>,
    pub(crate) firmware: Arc<Coalesced<Vec<FirmwarePart>>>,
    /// Of a log with this name, so many records.
    logs: Mutex<Vec<LogReads>>,
}

/// The log's name, how many records, and who waits for them.
type LogReads = (String, usize, Weak<Coalesced<BmcEvents>>);

impl Reads {
    /// Reads of the same log and as many records of it.
    pub(crate) fn log(&self, name: &str, last: usize) -> Arc<Coalesced<BmcEvents>> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.retain(|(.., reads)| reads.strong_count() > 0);
        let known = logs.iter().find(|(log, count, _)| log == name && *count == last);
        if let Some(reads) = known.and_then(|(.., reads)| reads.upgrade()) {
            return reads;
        }
        let reads = Arc::default();
        logs.push((name.to_owned(), last, Arc::downgrade(&reads)));
        reads
    }
}

/// Who waits for a read whose turn has not come; `None`: no such read waits.
///
/// **Invariant:** a read that has begun is nobody's to join: what it sees may be older than the question.
#[derive(Debug)]
pub(crate) struct Coalesced<T>(Mutex<Option<Vec<oneshot::Sender<T>>>>);

impl<T> Default for Coalesced<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Coalesced<T> {
    /// Joins the read that waits, or has `read` make one. Where one fails, perhaps for want of its own caller's time, one of
    /// those who joined it makes another, and the rest join that.
    pub(crate) async fn ask<F, R>(self: &Arc<Self>, deadline: Deadline, read: F) -> Result<T, BmcError>
    where
        F: FnOnce(Turn<T>) -> R,
        R: Future<Output = Result<T, BmcError>>,
    {
        while let Some(answer) = self.join_or_lead() {
            match timeout_at(deadline.instant(), answer).await {
                Ok(Ok(value)) => return Ok(value),
                // Who led has given up: the next of us leads.
                Ok(Err(_)) => {}
                // Our time is over, and a read of our own says so.
                Err(_) => return read(Turn(None)).await,
            }
        }
        read(Turn(Some(Arc::clone(self)))).await
    }

    /// As [`Coalesced::ask`], for a read that takes several turns at the BMC: nobody joins it once the first has begun, and those
    /// who did are told what came of all of it.
    pub(crate) async fn ask_in_parts<F, R>(
        self: &Arc<Self>,
        deadline: Deadline,
        read: F,
    ) -> Result<T, BmcError>
    where
        F: FnOnce(Turn<T>) -> R,
        R: Future<Output = Result<(Joined<T>, T), BmcError>>,
    {
        self.ask(deadline, |turn| {
            let read = read(turn);
            async {
                let (joined, value) = read.await?;
                let seen = Ok(value);
                joined.tell(&seen);
                seen
            }
        })
        .await
    }

    /// The answer of the read that waits; `None`: none does, and ours is the one that waits now.
    fn join_or_lead(&self) -> Option<oneshot::Receiver<T>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.as_mut() {
            Some(all) => {
                let (answer, receiver) = oneshot::channel();
                all.push(answer);
                Some(receiver)
            }
            None => {
                *waiting = Some(Vec::new());
                None
            }
        }
    }

    fn take(&self) -> Vec<oneshot::Sender<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }
}

/// Of a read that waits. Dropped before its turn came, it lets go of those who joined it.
pub(crate) struct Turn<T: Clone>(Option<Arc<Coalesced<T>>>);

impl<T: Clone> Turn<T> {
    /// It has come: nobody joins any more.
    pub(crate) fn begin(mut self) -> Joined<T> {
        Joined(self.0.take().map(|all| all.take()).unwrap_or_default())
    }

    /// A read that is all of its turn: begun, ended, and told to those who joined.
    pub(crate) async fn spend(self, read: impl Future<Output = Result<T, BmcError>>) -> Result<T, BmcError> {
        let joined = self.begin();
        let seen = read.await;
        joined.tell(&seen);
        seen
    }
}

impl<T: Clone> Drop for Turn<T> {
    fn drop(&mut self) {
        if let Some(all) = self.0.take() {
            drop(all.take());
        }
    }
}

/// Those who wait for the read that is under way.
pub(crate) struct Joined<T>(Vec<oneshot::Sender<T>>);

impl<T: Clone> Joined<T> {
    /// Tells them what was seen.
    pub(crate) fn tell(self, seen: &Result<T, BmcError>) {
        let Ok(value) = seen else { return };
        for one in self.0 {
            let _gone = one.send(value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn reads_that_wait_are_one_and_one_that_has_begun_is_joined_by_nobody() {
        let all = Arc::new(Coalesced::default());
        let (begin, may_begin) = oneshot::channel::<()>();
        let (begun, has_begun) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel::<()>();
        let deadline = Deadline::after(Duration::from_secs(60));
        let first = all.ask(deadline, async |turn: Turn<u32>| {
            may_begin.await.unwrap();
            let joined = turn.begin();
            begun.send(()).unwrap();
            ended.await.unwrap();
            joined.tell(&Ok(1));
            Ok(1)
        });
        let second = async {
            while all.0.lock().unwrap().is_none() {
                tokio::task::yield_now().await;
            }
            all.ask(deadline, async |_| panic!("a read waits already")).await
        };
        let third = async {
            // The second has joined the first.
            while all.0.lock().unwrap().as_ref().is_none_or(Vec::is_empty) {
                tokio::task::yield_now().await;
            }
            begin.send(()).unwrap();
            has_begun.await.unwrap();
            let seen = all.ask(deadline, async |turn| {
                turn.begin().tell(&Ok(3));
                Ok(3)
            });
            let seen = seen.await;
            end.send(()).unwrap();
            seen
        };
        assert_eq!(tokio::join!(first, second, third), (Ok(1), Ok(1), Ok(3)));
    }

    #[tokio::test]
    async fn who_joined_a_read_that_never_was_makes_his_own() {
        let all = Arc::new(Coalesced::default());
        let deadline = Deadline::after(Duration::from_secs(60));
        let first = all.ask(deadline, async |turn: Turn<u32>| {
            // Until the second has joined.
            while all.0.lock().unwrap().as_ref().is_none_or(Vec::is_empty) {
                tokio::task::yield_now().await;
            }
            drop(turn);
            Err(BmcError::ShuttingDown)
        });
        let second = async {
            while all.0.lock().unwrap().is_none() {
                tokio::task::yield_now().await;
            }
            all.ask(deadline, async |_| Ok(2)).await
        };
        assert_eq!(tokio::join!(first, second), (Err(BmcError::ShuttingDown), Ok(2)));
    }

    #[tokio::test]
    async fn of_many_who_joined_a_read_that_never_was_one_reads() {
        let all = Arc::new(Coalesced::default());
        let deadline = Deadline::after(Duration::from_secs(60));
        let joined = |count: usize| {
            let all = &all;
            async move {
                while all.0.lock().unwrap().as_ref().is_none_or(|waiting| waiting.len() < count) {
                    tokio::task::yield_now().await;
                }
            }
        };
        let first = all.ask(deadline, async |turn: Turn<u32>| {
            joined(3).await;
            drop(turn);
            Err(BmcError::ShuttingDown)
        });
        let reads = std::sync::atomic::AtomicU32::new(0);
        let other = || async {
            while all.0.lock().unwrap().is_none() {
                tokio::task::yield_now().await;
            }
            let read = async |turn: Turn<u32>| {
                reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                joined(2).await;
                turn.begin().tell(&Ok(2));
                Ok(2)
            };
            all.ask(deadline, read).await
        };
        let told = tokio::join!(first, other(), other(), other());
        assert_eq!(told, (Err(BmcError::ShuttingDown), Ok(2), Ok(2), Ok(2)));
        assert_eq!(reads.into_inner(), 1);
    }
}
