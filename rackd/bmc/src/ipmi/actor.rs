//! The task that owns one BMC: calls one after the other, and the session's life.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::link::{Call, Link};
use crate::{BmcError, Deadline};

/// Calls waiting for one BMC. More callers than this wait to get into the mailbox.
pub(crate) const MAILBOX: usize = 64;

/// After the deadline, for the actor's own verdict to arrive.
const GRACE: Duration = Duration::from_millis(100);

/// A whole operation on the link: nobody else's command gets between its commands.
pub(crate) type Job = Box<dyn for<'a> FnOnce(&'a mut Link) -> BoxFuture<'a, ()> + Send>;

/// Runs until all handles are gone or the hub stops; then the session is closed.
pub(crate) async fn run(mut link: Link, mut mailbox: mpsc::Receiver<Job>, stop: CancellationToken) {
    loop {
        let idle_at = link.idle_at();
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            job = mailbox.recv() => match job {
                // A job that is dropped half way leaves the link usable: late answers do not match.
                Some(job) => tokio::select! {
                    () = stop.cancelled() => break,
                    () = job(&mut link) => {}
                },
                None => break,
            },
            () = tokio::time::sleep_until(idle_at.unwrap_or_else(Instant::now)), if idle_at.is_some() => {
                link.close().await;
            }
        }
    }
    link.close().await;
}

/// Runs `operation` in the actor, after the calls before it; the wait counts for the deadline.
pub(crate) async fn call<T, F>(
    addr: SocketAddr,
    mailbox: &mpsc::Sender<Job>,
    deadline: Deadline,
    operation: F,
) -> Result<T, BmcError>
where
    T: Send + 'static,
    F: for<'a> FnOnce(&'a mut Link, &'a mut Call) -> BoxFuture<'a, Result<T, BmcError>> + Send + 'static,
{
    let (mut reply, answer) = oneshot::channel();
    let mut call = Call::new(deadline);
    let job: Job = Box::new(move |link| {
        Box::pin(async move {
            let now = Instant::now();
            if let Err(open) = link.breaker.check(link.address.addr, now) {
                let _gone = reply.send(Err(open));
                return;
            }
            let outcome = tokio::select! {
                // The caller went away: free the BMC for the next one.
                () = reply.closed() => return,
                outcome = operation(link, &mut call) => outcome,
            };
            let shared = link.shared.clone();
            link.breaker.record(&shared.tuning, Instant::now(), &outcome);
            let _gone = reply.send(outcome);
        })
    });
    let queued = tokio::time::timeout_at(deadline.instant(), mailbox.send(job));
    queued.await.map_err(|_| BmcError::StillQueued { addr })?.map_err(|_| BmcError::ShuttingDown)?;
    // The actor keeps the deadline itself and knows more about why it passed.
    match tokio::time::timeout_at(deadline.instant() + GRACE, answer).await {
        Ok(answer) => answer.unwrap_or(Err(BmcError::ShuttingDown)),
        Err(_) => Err(BmcError::StillQueued { addr }),
    }
}
