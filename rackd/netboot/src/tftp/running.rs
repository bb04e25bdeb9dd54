//! A transfer that is under way: its datagrams, and what is told of it.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use farrier_tftp::{Outcome, Resent, Transfer, Transmit};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::Permit;
use super::content::{AHEAD, Content};
use super::line::{self, Datagram, Line};
use crate::{EventKind, MacAddr, server::Shared};

pub(super) struct Running {
    pub(super) shared: Arc<Shared>,
    pub(super) line: Line,
    pub(super) transfer: Transfer,
    pub(super) name: String,
    /// For people.
    pub(super) options: String,
    pub(super) content: Content,
    pub(super) from: SocketAddr,
    /// Its port and node, if those are known.
    pub(super) who: (Option<MacAddr>, Option<String>),
    pub(super) troubles: Troubles,
    /// How often something had been sent again when that was told last.
    pub(super) told: u64,
}

impl Running {
    pub(super) async fn run(mut self, permit: &mut Permit, shutdown: &CancellationToken) {
        let started = Instant::now();
        let options = std::mem::take(&mut self.options);
        self.emit(EventKind::TftpStart, options);
        let replaced = permit.replaced.clone();
        let driven = tokio::select! {
            biased;
            driven = self.drive(permit) => driven,
            // Also where a disk hangs.
            () = shutdown.cancelled() => Ok(()),
            () = replaced.cancelled() => Ok(()),
        };
        let unreachable = driven.err();
        if unreachable.as_ref().is_some_and(is_gone) {
            self.transfer.handle_gone();
        }
        let (bytes, elapsed) = (self.transfer.bytes_acked(), started.elapsed());
        let (kind, detail) = match (self.transfer.outcome(), unreachable) {
            // What it has of it is a secret that it knows now.
            (Outcome::Complete | Outcome::Unconfirmed, _) if self.content.is_script() => {
                if let Some(node) = &self.who.1 {
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
                format!("asked for the size only, and left with {}", error_of(*code, message)),
            ),
            (Outcome::Aborted { code, message }, _) => {
                (EventKind::TftpFailed { bytes }, format!("client gave up: {}", error_of(*code, message)))
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
        let again = again(self.transfer.resent());
        let between = if detail.is_empty() || again.is_empty() { "" } else { "; " };
        self.emit(kind, format!("{detail}{between}{again}"));
    }

    /// Moves datagrams until the transfer ends, or the client's port is closed.
    async fn drive(&mut self, permit: &mut Permit) -> io::Result<()> {
        // A connected socket hears its client alone, and hears when the client is gone.
        if let Line::Own(socket) = &self.line {
            socket.connect(self.from).await?;
        }
        let block_bytes = usize::from(self.transfer.negotiated().block_bytes);
        let most = u16::try_from(AHEAD / block_bytes.max(1)).unwrap_or(u16::MAX);
        let (mut headers, mut buffer) = (Vec::new(), Vec::with_capacity(1024));
        let mut clock = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        loop {
            while let Some(transmit) = self.transfer.poll_transmit(most) {
                let deadline = self.transfer.poll_timeout().unwrap_or_else(Instant::now);
                let mut way =
                    Sending { line: &self.line, to: self.from, troubles: &mut self.troubles, deadline };
                match transmit {
                    Transmit::Bytes(bytes) => way.send(&[line::whole(&bytes)]).await?,
                    Transmit::Data { block, count, offset, len } => {
                        headers.clear();
                        headers.extend((0..count).map(|n| farrier_tftp::data_header(block.wrapping_add(n))));
                        let bytes = self.content.at(offset, len).await?;
                        way.send(&line::blocks(&headers, bytes, block_bytes)).await?;
                    }
                }
            }
            let Some(deadline) = self.transfer.poll_timeout() else { return Ok(()) };
            // One that rings too early costs less than one that is set anew for each datagram.
            if clock.is_elapsed() || clock.deadline() > deadline.into() {
                clock.as_mut().reset(deadline.into());
            }
            tokio::select! {
                received = self.line.recv(&mut permit.inbox, &mut buffer) => {
                    if let Err(error) = received {
                        self.troubles.met(error)?;
                        continue;
                    }
                    let now = Instant::now();
                    self.troubles.heard();
                    self.line.heard();
                    permit.heard(now);
                    self.transfer.handle_datagram(&buffer, now);
                    self.tell_again();
                }
                () = &mut clock => {
                    let now = Instant::now();
                    if now >= deadline {
                        self.troubles.begins_anew();
                        self.transfer.handle_timeout(now);
                        self.tell_again();
                    }
                }
            }
        }
    }

    /// What went wrong so far, while somebody may look for why it is slow: the first time, then each time that there is twice as
    /// much.
    fn tell_again(&mut self) {
        let resent = self.transfer.resent();
        let times = u64::from(resent.timeouts) + u64::from(resent.gaps);
        if times > 0 && times >= self.told.saturating_mul(2) {
            self.told = times;
            self.emit(EventKind::TftpAgain, again(resent));
        }
    }

    fn emit(&self, kind: EventKind, detail: String) {
        let detail = if detail.is_empty() { self.name.clone() } else { format!("{}: {detail}", self.name) };
        let detail = format!("{detail} ({})", self.from);
        self.shared.events.emit_from(self.from.ip(), self.who.clone(), kind, detail);
    }
}

/// What was sent more than once, in words; empty: nothing.
fn again(Resent { timeouts, gaps, oacks, blocks, first }: Resent) -> String {
    let mut words = Vec::new();
    if timeouts > 0 {
        words.push(format!("silent {}", times(timeouts)));
    }
    if gaps > 0 {
        words.push(format!("behind what was sent {}", times(gaps)));
    }
    if oacks > 0 {
        words.push(format!("the OACK sent again {}", times(oacks)));
    }
    if let Some(first) = first {
        words.push(format!("{blocks} blocks sent again, from block {first} on"));
    }
    words.join(", ")
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// An error that a client sent.
fn error_of(code: u16, message: &str) -> String {
    let meaning = Some(farrier_tftp::meaning(code)).filter(|meaning| !meaning.is_empty());
    let meaning = meaning.map(|meaning| format!(" ({meaning})")).unwrap_or_default();
    format!("error {code}{meaning} {message}")
}

/// How datagrams leave.
struct Sending<'a> {
    line: &'a Line,
    to: SocketAddr,
    troubles: &'a mut Troubles,
    /// When they are sent again anyway.
    deadline: Instant,
}

impl Sending<'_> {
    /// What is lost on the way is sent again, by the clock, and so is what did not leave.
    async fn send(&mut self, mut datagrams: &[Datagram<'_>]) -> io::Result<()> {
        let mut tries = 0;
        while !datagrams.is_empty() {
            let left = match self.line.send_now(datagrams, self.to) {
                Ok(left) => left,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::select! {
                        biased;
                        room = self.line.has_room() => room?,
                        // Nobody answers ARP for it, and what waits for that takes all the room.
                        () = tokio::time::sleep_until(self.deadline.into()) => return Ok(()),
                    }
                    continue;
                }
                // What a socket is told of what it sent before it says at the next call, in place of what was asked of it.
                Err(error) => {
                    self.troubles.met(error)?;
                    tries += 1;
                    if tries < TRIES { continue } else { 1 }
                }
            };
            tries = 0;
            datagrams = datagrams.get(left..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Of one datagram.
const TRIES: u32 = 2;

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
    fn what_is_sent_again_is_told_in_a_few_words() {
        let told =
            |timeouts, gaps, oacks, blocks, first| again(Resent { timeouts, gaps, oacks, blocks, first });
        assert_eq!(told(0, 0, 0, 0, None), "");
        assert_eq!(told(2, 0, 2, 0, None), "silent 2 times, the OACK sent again 2 times");
        assert_eq!(
            told(1, 3, 0, 40, Some(17)),
            "silent once, behind what was sent 3 times, 40 blocks sent again, from block 17 on"
        );
        assert_eq!(
            error_of(8, "User aborted the transfer"),
            "error 8 (options refused) User aborted the transfer"
        );
        assert_eq!(error_of(77, ""), "error 77 ");
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
