//! One BMC's share of the shared socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Sends to one peer, receives what the hub sorted out for that peer.
pub(crate) struct Wire {
    pub(crate) socket: Arc<UdpSocket>,
    pub(crate) peer: SocketAddr,
    inbox: Inbox,
    /// It listens also between two questions.
    always: bool,
    /// How long the last answer took, from the first datagram of its question on.
    pace: Duration,
    /// What came instead of an answer to the last question.
    pub(crate) rubbish: Rubbish,
}

/// What the hub sorted out, while somebody listens.
pub(crate) struct Inbox {
    pub(crate) datagrams: mpsc::Receiver<Vec<u8>>,
    pub(crate) ear: Ear,
}

/// Whether anything is kept for who has the inbox: what nobody waits for would be memory that anybody can fill.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ear(Arc<AtomicBool>);

impl Ear {
    pub(crate) fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The wire while an answer is waited for; dropped, nothing is kept any more, and nothing of what came.
pub(crate) struct Listening<'a>(&'a mut Wire);

impl std::ops::Deref for Listening<'_> {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        self.0
    }
}

impl std::ops::DerefMut for Listening<'_> {
    fn deref_mut(&mut self) -> &mut Wire {
        self.0
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        if !self.0.always {
            self.0.inbox.ear.0.store(false, Ordering::Relaxed);
            self.0.drain();
        }
    }
}

/// Datagrams that nobody can read: a BMC that sends only such is not away.
#[derive(Debug, Default)]
pub(crate) struct Rubbish {
    pub(crate) count: u32,
    /// Why the last one could not be read: what was expected and what was seen.
    pub(crate) last: String,
    /// So many tries in a row brought nothing else that asking on is of no use.
    pub(crate) hopeless: bool,
}

impl Rubbish {
    pub(crate) fn add(&mut self, why: String) {
        self.count = self.count.saturating_add(1);
        self.last = why;
    }
}

impl Wire {
    pub(crate) fn new(socket: Arc<UdpSocket>, peer: SocketAddr, inbox: Inbox) -> Self {
        Self { socket, peer, inbox, always: false, pace: Duration::ZERO, rubbish: Rubbish::default() }
    }

    /// For who is told things unasked.
    pub(crate) fn always_listen(&mut self) {
        self.always = true;
    }

    /// What came unasked. Cancel-safe.
    pub(crate) async fn receive(&mut self) -> Option<Vec<u8>> {
        self.inbox.datagrams.recv().await
    }

    /// From now on what comes is kept, and nothing that came before.
    pub(crate) fn listen(&mut self) -> Listening<'_> {
        self.drain();
        self.inbox.ear.0.store(true, Ordering::Relaxed);
        Listening(self)
    }

    /// A datagram that cannot be sent is a lost datagram: the retry rule deals with both.
    pub(crate) async fn send(&self, datagram: &[u8]) {
        if let Err(error) = self.socket.send_to(datagram, self.peer).await {
            tracing::debug!(bmc.addr = %self.peer, %error, "send failed");
        }
    }

    /// An answer took so long. A BMC that restarts may need minutes for one: that says nothing of the next.
    pub(crate) fn learn(&mut self, took: Duration) {
        self.pace = took.min(SLOWEST);
    }

    /// The least that its next answer should be waited for. Asked again sooner, a slow BMC answers each question several
    /// times, and takes the next datagram of a handshake for a new one.
    pub(crate) fn least_wait(&self) -> Duration {
        self.pace + self.pace / 4
    }

    /// `None` when the time has come. Cancel-safe.
    pub(crate) async fn receive_until(&mut self, until: Instant) -> Option<Vec<u8>> {
        tokio::time::timeout_at(until, self.inbox.datagrams.recv()).await.ok().flatten()
    }

    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.inbox.datagrams.len()
    }

    /// Throws away what nobody asked for.
    fn drain(&mut self) {
        while self.inbox.datagrams.try_recv().is_ok() {}
    }
}

/// BMCs that take longer for an answer as a rule are of no use.
const SLOWEST: Duration = Duration::from_secs(8);
