//! The task that owns one BMC, whatever the driver: calls one after the other, and the session's life.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::breaker::Breaker;
use crate::{BmcError, Deadline};

/// Calls waiting for one BMC. More callers than this wait to get into the mailbox.
pub(crate) const MAILBOX: usize = 64;

/// After the deadline, for the actor's own verdict to arrive.
const GRACE: Duration = Duration::from_millis(100);

/// What a driver keeps of one BMC between calls.
pub(crate) trait Line: Send + 'static {
    fn addr(&self) -> SocketAddr;

    fn breaker(&mut self) -> &mut Breaker;

    /// When something is due while nobody asks for anything.
    fn idle_at(&self) -> Option<Instant>;

    /// Does what is due: keeps the session alive, or gives it up.
    fn idle(&mut self) -> BoxFuture<'_, ()>;

    /// Gives the session back to the BMC, if there is one. Not long: nobody waits for its outcome.
    fn close(&mut self) -> BoxFuture<'_, ()>;
}

/// A whole operation on a line: nobody else's command gets between its commands.
pub(crate) type Job<L> = Box<dyn for<'a> FnOnce(&'a mut L) -> BoxFuture<'a, ()> + Send>;

/// One call from a user of the crate: its deadline and what it has cost so far.
pub(crate) struct Call {
    pub(crate) deadline: Deadline,
    /// Datagrams or requests sent.
    pub(crate) sent: u32,
    started: Instant,
    /// Held while a log-in is under way: half of one would leave a session at the BMC that nobody can close, so a caller
    /// who goes away does not end it.
    pub(crate) log_in: Arc<Mutex<()>>,
}

impl Call {
    pub(crate) fn new(deadline: Deadline) -> Self {
        Self { deadline, sent: 0, started: Instant::now(), log_in: Arc::default() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Whether a request may be sent again when no answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It names a state: twice is the same as once.
    Harmless,
    /// It names an event: a second one would be another event.
    Never,
}

/// Runs until all handles are gone or the hub stops; then the session is closed.
pub(crate) async fn run<L: Line>(mut line: L, mut mailbox: mpsc::Receiver<Job<L>>, stop: CancellationToken) {
    loop {
        let idle_at = line.idle_at();
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            job = mailbox.recv() => match job {
                // A job that is dropped half way leaves the line usable: late answers are not taken for others.
                Some(job) => tokio::select! {
                    () = stop.cancelled() => break,
                    () = job(&mut line) => {}
                },
                None => break,
            },
            () = tokio::time::sleep_until(idle_at.unwrap_or_else(Instant::now)), if idle_at.is_some() => {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = line.idle() => {}
                }
            }
        }
    }
    line.close().await;
}

/// An actor at this address has ended: what is kept of those that live stays. Once for each actor, so that the table is never
/// walked.
pub(crate) fn forget_ended<K>(
    actors: &mut HashMap<SocketAddr, Vec<K>>,
    addr: SocketAddr,
    lives: impl Fn(&K) -> bool,
) {
    if let Entry::Occupied(mut entry) = actors.entry(addr) {
        entry.get_mut().retain(lives);
        if entry.get().is_empty() {
            entry.remove();
        }
    }
}

/// Runs `operation` in the actor, after the calls before it; the wait counts for the deadline.
pub(crate) async fn call<L, T, F>(
    addr: SocketAddr,
    mailbox: &mpsc::Sender<Job<L>>,
    deadline: Deadline,
    operation: F,
) -> Result<T, BmcError>
where
    L: Line,
    T: Send + 'static,
    F: for<'a> FnOnce(&'a mut L, &'a mut Call) -> BoxFuture<'a, Result<T, BmcError>> + Send + 'static,
{
    let begin = Instant::now();
    let (mut reply, answer) = oneshot::channel();
    let mut call = Call::new(deadline);
    let begun = Arc::new(AtomicBool::new(false));
    let has_begun = Arc::clone(&begun);
    let job: Job<L> = Box::new(move |line| {
        Box::pin(async move {
            let now = Instant::now();
            let addr = line.addr();
            if let Err(open) = line.breaker().check(addr, now) {
                let _gone = reply.send(Err(open));
                return;
            }
            begun.store(true, Ordering::Relaxed);
            let log_in = Arc::clone(&call.log_in);
            let gone = async {
                reply.closed().await;
                drop(log_in.lock().await);
            };
            let outcome = tokio::select! {
                // The caller went away: free the BMC for the next one.
                () = gone => return,
                outcome = operation(line, &mut call) => outcome,
            };
            line.breaker().record(Instant::now(), &outcome);
            let _gone = reply.send(outcome);
        })
    });
    let queued = tokio::time::timeout_at(deadline.instant(), mailbox.send(job));
    queued.await.map_err(|_| BmcError::StillQueued { addr })?.map_err(|_| BmcError::ShuttingDown)?;
    // The actor keeps the deadline itself and knows more about why it passed.
    match tokio::time::timeout_at(deadline.instant() + GRACE, answer).await {
        Ok(answer) => answer.unwrap_or(Err(BmcError::ShuttingDown)),
        Err(_) if has_begun.load(Ordering::Relaxed) => Err(BmcError::Late { addr, elapsed: begin.elapsed() }),
        Err(_) => Err(BmcError::StillQueued { addr }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_forgotten_and_its_address_with_the_last() {
        let (one, two) = (([192, 0, 2, 1], 1).into(), ([192, 0, 2, 2], 1).into());
        let mut actors = HashMap::from([(one, vec![1, 2]), (two, vec![2])]);
        forget_ended(&mut actors, one, |id| *id != 1);
        assert_eq!(actors, HashMap::from([(one, vec![2]), (two, vec![2])]));
        forget_ended(&mut actors, one, |_| false);
        assert_eq!(actors, HashMap::from([(two, vec![2])]));
        forget_ended(&mut actors, one, |_| false);
    }
}
