//! A transfer that is under way: its datagrams, and what is told of it.

use std::{io, net::SocketAddr, sync::Arc, time::Instant};

use farrier_tftp::{Outcome, Transfer, Transmit};
use rustix::io::Errno;
use tokio::{net::UdpSocket, sync::mpsc};
use tokio_util::sync::CancellationToken;

use super::{Permit, content::Content};
use crate::unicast::{Unicast, Way};
use crate::{EventKind, MacAddr, server::Shared};

/// What a transfer's datagrams go through.
pub(super) enum Line {
    /// A socket of its own (RFC 1350 §4: the port is the transfer's id).
    Own(UdpSocket),
    /// The server's, which hands over what comes for it: firewalls and address translators that know nothing of TFTP
    /// let pass only what comes back from the port that was asked.
    Shared(Arc<UdpSocket>),
    /// From the server's port too, to an address that nobody is known to have: what waits there for ARP takes no room from those
    /// who are.
    Silent(Arc<Unicast>, Arc<UdpSocket>),
}

impl Line {
    /// Whether it left at once.
    fn has_sent(&self, datagram: &[u8], to: SocketAddr) -> bool {
        match self {
            Self::Own(socket) => socket.try_send(datagram).is_ok(),
            Self::Shared(socket) => socket.try_send_to(datagram, to).is_ok(),
            Self::Silent(..) => false,
        }
    }

    /// Cancel-safe.
    async fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        match (self, to) {
            (Self::Own(socket), _) => drop(socket.send(datagram).await?),
            (Self::Shared(socket), _) => drop(socket.send_to(datagram, to).await?),
            (Self::Silent(silent, _), SocketAddr::V4(to)) => silent.send(Way::Silent, datagram, to)?,
            (Self::Silent(..), SocketAddr::V6(_)) => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(())
    }

    /// Cancel-safe.
    async fn recv(&self, inbox: &mut mpsc::Receiver<Box<[u8]>>, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        match self {
            Self::Own(socket) => drop(socket.recv_buf(buffer).await?),
            Self::Shared(_) | Self::Silent(..) => {
                let datagram =
                    inbox.recv().await.ok_or_else(|| io::Error::other("another transfer has its port"))?;
                buffer.extend_from_slice(&datagram);
            }
        }
        Ok(())
    }

    /// The client is there.
    fn heard(&mut self) {
        if let Self::Silent(_, socket) = self {
            *self = Self::Shared(Arc::clone(socket));
        }
    }
}

pub(super) struct Running {
    pub(super) shared: Arc<Shared>,
    pub(super) line: Line,
    pub(super) transfer: Transfer,
    pub(super) name: String,
    /// For people.
    pub(super) options: String,
    pub(super) content: Content,
    pub(super) from: SocketAddr,
    pub(super) troubles: Troubles,
}

impl Running {
    pub(super) async fn run(mut self, permit: &mut Permit, shutdown: &CancellationToken) {
        let started = Instant::now();
        let (mac, node) = self.shared.who(self.from.ip());
        let options = std::mem::take(&mut self.options);
        self.emit(mac, node.as_deref(), EventKind::TftpStart, options);
        let unreachable = self.drive(permit, shutdown).await.err();
        if unreachable.as_ref().is_some_and(is_gone) {
            self.transfer.handle_gone();
        }
        let (bytes, elapsed) = (self.transfer.bytes_acked(), started.elapsed());
        let (kind, detail) = match (self.transfer.outcome(), unreachable) {
            // What it has of it is a secret that it knows now.
            (Outcome::Complete | Outcome::Unconfirmed, _) if self.content.is_script() => {
                if let Some(node) = &node {
                    self.shared.scripts.note(node);
                }
                (EventKind::TftpScript, String::new())
            }
            (Outcome::Complete, _) => (EventKind::TftpDone { bytes, elapsed }, String::new()),
            // The last block went out and the client's port is closed: it has the file and runs it.
            (Outcome::Unconfirmed, _) => (
                EventKind::TftpDone { bytes: self.content.size(), elapsed },
                "last block not confirmed".into(),
            ),
            (Outcome::Probed { code, message }, _) => (
                EventKind::TftpDone { bytes: 0, elapsed },
                format!("asked for the size only, and left with error {code} {message}"),
            ),
            (Outcome::Aborted { code, message }, _) => {
                (EventKind::TftpFailed { bytes }, format!("client gave up: error {code} {message}"))
            }
            (Outcome::TimedOut, _) => (EventKind::TftpFailed { bytes }, "client fell silent".into()),
            (Outcome::Running, Some(error)) => (EventKind::TftpFailed { bytes }, error.to_string()),
            (Outcome::Running, None) if shutdown.is_cancelled() => {
                (EventKind::TftpFailed { bytes }, "shutting down".into())
            }
            (Outcome::Running, None) => {
                (EventKind::TftpFailed { bytes }, "the client asked anew from the same port".into())
            }
        };
        self.emit(mac, node.as_deref(), kind, detail);
    }

    /// Moves datagrams until the transfer ends, the client's port is closed or begins anew, or `shutdown`.
    async fn drive(&mut self, permit: &mut Permit, shutdown: &CancellationToken) -> io::Result<()> {
        // A connected socket hears its client alone, and hears when the client is gone.
        if let Line::Own(socket) = &self.line {
            socket.connect(self.from).await?;
        }
        let mut datagram = Vec::with_capacity(1500);
        let mut buffer = Vec::with_capacity(1024);
        loop {
            while let Some(transmit) = self.transfer.poll_transmit() {
                datagram.clear();
                match transmit {
                    Transmit::Bytes(bytes) => datagram.extend_from_slice(&bytes),
                    Transmit::Data { block, offset, len } => {
                        datagram.extend_from_slice(&farrier_tftp::data_header(block));
                        let read = tokio::select! {
                            biased;
                            read = self.content.at(offset, len) => read?,
                            // A disk that hangs keeps nobody from ending.
                            () = shutdown.cancelled() => return Ok(()),
                            () = permit.replaced.cancelled() => return Ok(()),
                        };
                        datagram.extend_from_slice(read);
                    }
                }
                if self.send(&datagram, permit, shutdown).await? == Sent::Ends {
                    return Ok(());
                }
            }
            let Some(deadline) = self.transfer.poll_timeout() else { return Ok(()) };
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = permit.replaced.cancelled() => return Ok(()),
                received = self.line.recv(&mut permit.inbox, &mut buffer) => {
                    if let Err(error) = received {
                        self.troubles.met(error)?;
                        continue;
                    }
                    self.troubles.heard();
                    self.line.heard();
                    permit.heard(Instant::now());
                    self.transfer.handle_datagram(&buffer, Instant::now());
                }
                () = tokio::time::sleep_until(deadline.into()) => {
                    self.troubles.begins_anew();
                    self.transfer.handle_timeout(Instant::now());
                }
            }
        }
    }

    /// One datagram. What is lost on the way is sent again, by the clock, and so is what did not leave.
    async fn send(
        &mut self,
        datagram: &[u8],
        permit: &Permit,
        shutdown: &CancellationToken,
    ) -> io::Result<Sent> {
        // What a socket is told of what it sent before it says at the next call, in place of what was asked of it.
        for _ in 0..2 {
            let deadline = self.transfer.poll_timeout().unwrap_or_else(Instant::now);
            // Nearly always there is room, and no clock to be set.
            if self.line.has_sent(datagram, self.from) {
                break;
            }
            let sent = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(Sent::Ends),
                () = permit.replaced.cancelled() => return Ok(Sent::Ends),
                sent = self.line.send(datagram, self.from) => sent,
                // Nobody answers ARP for it, and what waits for that takes all the room.
                () = tokio::time::sleep_until(deadline.into()) => return Ok(Sent::Perhaps),
            };
            match sent {
                Ok(()) => break,
                Err(error) => self.troubles.met(error)?,
            }
        }
        Ok(Sent::Perhaps)
    }

    fn emit(&self, mac: Option<MacAddr>, node: Option<&str>, kind: EventKind, detail: String) {
        let detail = if detail.is_empty() { self.name.clone() } else { format!("{}: {detail}", self.name) };
        let who = (mac, node.map(str::to_owned));
        self.shared.events.emit_from(self.from.ip(), who, kind, format!("{detail} ({})", self.from));
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Sent {
    Perhaps,
    /// The transfer is over.
    Ends,
}

/// Errors of a transfer's socket, which say what came of an earlier datagram, or that this one did not leave. A datagram may be
/// lost, so none of them is the end of a transfer: only that nobody is there, said again when it was sent again.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    /// How often what was not answered was sent again.
    rounds: u32,
    /// In which of them it was first said that nobody is there, since the client was last heard.
    gone: Option<u32>,
    in_a_row: u32,
}

impl Troubles {
    fn heard(&mut self) {
        (self.gone, self.in_a_row) = (None, 0);
    }

    fn begins_anew(&mut self) {
        self.rounds = self.rounds.saturating_add(1);
    }

    /// The error, if it is the end.
    fn met(&mut self, error: io::Error) -> io::Result<()> {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let ends = match error.raw_os_error().map(Errno::from_raw_os_error) {
            // One window of datagrams is refused as often as it is long.
            _ if is_gone(&error) => *self.gone.get_or_insert(self.rounds) < self.rounds,
            Some(Errno::MSGSIZE | Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN | Errno::INTR) => false,
            _ => error.kind() != io::ErrorKind::WouldBlock,
        };
        if ends || self.in_a_row >= IN_A_ROW {
            return Err(error);
        }
        Ok(())
    }
}

/// Whether nobody is there; else the error is of our own side, of the file or the socket.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN)
    )
}

/// A socket that has nothing but errors is no use.
const IN_A_ROW: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn error(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    #[test]
    fn only_nobody_said_twice_ends_a_transfer() {
        let mut troubles = Troubles::default();
        for errno in [Errno::MSGSIZE, Errno::NOBUFS, Errno::AGAIN] {
            assert!(troubles.met(error(errno)).is_ok(), "{errno:?}");
        }
        for _ in 0..8 {
            assert!(troubles.met(error(Errno::CONNREFUSED)).is_ok(), "each block of a window is refused");
        }
        troubles.heard();
        troubles.begins_anew();
        assert!(troubles.met(error(Errno::CONNREFUSED)).is_ok(), "it is there after all");
        troubles.begins_anew();
        assert!(troubles.met(error(Errno::MSGSIZE)).is_ok());
        assert!(troubles.met(error(Errno::CONNREFUSED)).is_err());
    }

    #[test]
    fn a_machine_that_is_away_for_a_moment_is_waited_for_and_a_dead_socket_is_not() {
        let mut troubles = Troubles::default();
        for errno in [Errno::HOSTUNREACH, Errno::NETUNREACH] {
            troubles.heard();
            assert!(troubles.met(error(errno)).is_ok(), "{errno:?}");
            troubles.begins_anew();
            assert!(troubles.met(error(errno)).is_err(), "{errno:?}");
        }
        assert!(Troubles::default().met(error(Errno::NODEV)).is_err());
        let mut troubles = Troubles::default();
        assert!((0..IN_A_ROW).any(|_| troubles.met(error(Errno::NOBUFS)).is_err()));
    }
}
