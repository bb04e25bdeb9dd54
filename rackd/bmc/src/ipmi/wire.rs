//! One BMC's share of the shared socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Sends to one peer, receives what the hub sorted out for that peer.
pub(crate) struct Wire {
    pub(crate) socket: Arc<UdpSocket>,
    pub(crate) peer: SocketAddr,
    pub(crate) inbox: mpsc::Receiver<Vec<u8>>,
    /// How long the last answer took, from the first datagram of its question on.
    pace: Duration,
    /// What came instead of an answer to the last question.
    pub(crate) rubbish: Rubbish,
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
    pub(crate) fn new(socket: Arc<UdpSocket>, peer: SocketAddr, inbox: mpsc::Receiver<Vec<u8>>) -> Self {
        Self { socket, peer, inbox, pace: Duration::ZERO, rubbish: Rubbish::default() }
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
        tokio::time::timeout_at(until, self.inbox.recv()).await.ok().flatten()
    }

    /// Throws away what came while nobody asked.
    pub(crate) fn drain(&mut self) {
        while self.inbox.try_recv().is_ok() {}
    }
}

/// BMCs that take longer for an answer as a rule are of no use.
const SLOWEST: Duration = Duration::from_secs(8);
