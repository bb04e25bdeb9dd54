//! The task that owns one BMC, whatever the driver: calls one after the other, and the session's life.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
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

    fn breaker(&self) -> &Breaker;

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
    /// Of them, those to which came what nobody can read, and no answer. Over IPMI; a command that is answered in a session has
    /// them forgotten.
    pub(crate) garbled: u32,
    started: Instant,
    /// Held while a log-in is under way: half of one would leave a session at the BMC that nobody can close, so a caller
    /// who goes away does not end it.
    pub(crate) log_in: Arc<Mutex<()>>,
}

impl Call {
    pub(crate) fn new(deadline: Deadline) -> Self {
        Self { deadline, sent: 0, garbled: 0, started: Instant::now(), log_in: Arc::default() }
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

/// Runs until all handles are gone or the hub stops; then the session is closed. The line is boxed since each future around it has a
/// place of its own for what it is given, and there are thousands.
pub(crate) async fn run<L: Line>(
    mut line: Box<L>,
    mut mailbox: mpsc::Receiver<Job<L>>,
    stop: CancellationToken,
) {
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
    let turn = Arc::new(AtomicU8::new(WAITS));
    let its_turn = Arc::clone(&turn);
    let job: Job<L> = Box::new(move |line| {
        Box::pin(async move {
            let now = Instant::now();
            let addr = line.addr();
            if let Err(open) = line.breaker().check(addr, now) {
                let _gone = reply.send(Err(open));
                return;
            }
            // Whoever was told that nothing was sent must be right, whatever a driver waits for before it sends.
            if !takes(&its_turn, BEGUN) || reply.is_closed() {
                return;
            }
            let log_in = Arc::clone(&call.log_in);
            let gone = async {
                reply.closed().await;
                drop(log_in.lock().await);
            };
            let outcome = tokio::select! {
                biased;
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
        Err(_) if takes(&turn, GIVEN_UP) => Err(BmcError::StillQueued { addr }),
        Err(_) => Err(BmcError::Late { addr, elapsed: begin.elapsed() }),
    }
}

/// A call's turn has not come, or has, or nobody wants it any more: the first of the last two excludes the other.
const WAITS: u8 = 0;
const BEGUN: u8 = 1;
const GIVEN_UP: u8 = 2;

fn takes(turn: &AtomicU8, to: u8) -> bool {
    turn.compare_exchange(WAITS, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::Policy;

    /// A line on which nothing is due.
    struct Still(Breaker);

    impl Line for Still {
        fn addr(&self) -> SocketAddr {
            ADDR.into()
        }
        fn breaker(&self) -> &Breaker {
            &self.0
        }
        fn idle_at(&self) -> Option<Instant> {
            None
        }
        fn idle(&mut self) -> BoxFuture<'_, ()> {
            Box::pin(std::future::ready(()))
        }
        fn close(&mut self) -> BoxFuture<'_, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    const ADDR: ([u8; 4], u16) = ([192, 0, 2, 1], 1);

    /// Many times: without the look at the caller it is a matter of luck.
    #[tokio::test(start_paused = true)]
    async fn what_was_told_not_to_be_sent_is_not_sent() {
        let policy =
            Policy::of(u32::MAX, Duration::from_secs(1), Duration::from_secs(1), Duration::from_secs(1));
        let (mailbox, jobs) = mpsc::channel(MAILBOX);
        let stop = CancellationToken::new();
        let actor = tokio::spawn(run(Box::new(Still(Breaker::new(policy))), jobs, stop.clone()));
        let sent = Arc::new(AtomicU8::new(0));
        for _ in 0..32 {
            let slow = call(ADDR.into(), &mailbox, Deadline::after(Duration::from_secs(9)), |_, _| {
                Box::pin(async {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    Ok(())
                })
            });
            let counted = Arc::clone(&sent);
            let stale = call(ADDR.into(), &mailbox, Deadline::after(Duration::from_secs(1)), move |_, _| {
                Box::pin(async move { Ok(counted.fetch_add(1, Ordering::Relaxed)) })
            });
            let (slow, stale) = tokio::join!(slow, stale);
            assert_eq!((slow, stale), (Ok(()), Err(BmcError::StillQueued { addr: ADDR.into() })));
        }
        let last = call(ADDR.into(), &mailbox, Deadline::after(Duration::from_secs(9)), |_, _| {
            Box::pin(std::future::ready(Ok(())))
        });
        assert_eq!((last.await, sent.load(Ordering::Relaxed)), (Ok(()), 0));
        stop.cancel();
        actor.await.unwrap();
    }

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
