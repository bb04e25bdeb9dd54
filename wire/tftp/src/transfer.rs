//! One client reading one file: lock step (RFC 1350 §2) or windows (RFC 7440).

use std::time::Instant;

use crate::pace::Pace;
use crate::{Limits, Negotiated, Packet, ReadRequest};

/// What the caller sends next to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transmit {
    /// Send these bytes (an OACK).
    Bytes(Vec<u8>),
    /// Send [`data_header`](crate::data_header) of `block`, then `len` bytes of the file from `offset`.
    Data {
        /// Block number, modulo 65536.
        block: u16,
        /// Where in the file, in bytes.
        offset: u64,
        /// How many bytes; less than the block size, or zero, in the last block.
        len: usize,
    },
}

/// How a transfer stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Still going.
    Running,
    /// Every block was acknowledged.
    Complete,
    /// Everything was sent, the last ACK never came. PXE ROMs start the program without sending it.
    Unconfirmed,
    /// The client asked for the size and left before the first block, as OVMF and most ROMs do first.
    Probed {
        /// Error code that it left with.
        code: u16,
        /// Its message, printable.
        message: String,
    },
    /// The client gave up with this error.
    Aborted {
        /// Error code of the client.
        code: u16,
        /// Its message, printable.
        message: String,
    },
    /// The client fell silent.
    TimedOut,
}

/// The state of one transfer.
///
/// Blocks are counted in `u64` from 1, so the 16-bit number on the wire may roll over (to 0, as clients expect)
/// as often as it likes. **Invariant:** `acked <= sent <= last`.
#[derive(Debug)]
pub struct Transfer {
    size: u64,
    agreed: Negotiated,
    /// The last block: the first one that is shorter than the block size, perhaps empty (RFC 1350 §6).
    last: u64,
    /// An OACK is out and its ACK 0 has not come.
    negotiating: bool,
    send_oack: bool,
    acked: u64,
    sent: u64,
    /// `sent`, as far as it ever was.
    furthest: u64,
    /// `acked` when a repeated ACK last rewound the window.
    rewound_at: Option<u64>,
    /// Of the window that is out.
    tries: u32,
    /// When the client was last heard to go on, and the window that is out began.
    progressed_at: Instant,
    pace: Pace,
    deadline: Instant,
    outcome: Outcome,
}

impl Transfer {
    /// Starts the transfer of a file of `size` bytes. The caller has checked mode and name.
    #[must_use]
    pub fn accept(request: &ReadRequest<'_>, size: u64, limits: &Limits, now: Instant) -> Self {
        let agreed = Negotiated::new(request, size, limits);
        let negotiating = !agreed.accepted.is_empty();
        let pace = Pace::new(agreed.timeout, limits);
        Self {
            size,
            last: size / u64::from(agreed.block_bytes) + 1,
            agreed,
            negotiating,
            send_oack: negotiating,
            acked: 0,
            sent: 0,
            furthest: 0,
            rewound_at: None,
            tries: 0,
            progressed_at: now,
            deadline: now + pace.wait(0),
            pace,
            outcome: Outcome::Running,
        }
    }

    /// What was agreed with the client.
    #[must_use]
    pub fn negotiated(&self) -> &Negotiated {
        &self.agreed
    }

    /// How the transfer stands.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// File bytes the client has acknowledged.
    #[must_use]
    pub fn bytes_acked(&self) -> u64 {
        self.size.min(self.acked * u64::from(self.agreed.block_bytes))
    }

    /// When [`Self::handle_timeout`] wants to be called; `None` once the transfer has ended.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.outcome == Outcome::Running).then_some(self.deadline)
    }

    /// Takes a datagram from this transfer's client. Anything but an ACK or ERROR that makes sense is ignored.
    pub fn handle_datagram(&mut self, datagram: &[u8], now: Instant) {
        if self.outcome != Outcome::Running {
            return;
        }
        match Packet::parse(datagram) {
            Ok(Packet::Ack { block }) => self.handle_ack(block, now),
            Ok(Packet::Error { code, message }) => {
                self.outcome = if self.acked == 0 && self.asked_for_size(code, &message) {
                    Outcome::Probed { code, message }
                } else if self.acked > 0 && self.sent == self.last {
                    Outcome::Unconfirmed
                } else {
                    Outcome::Aborted { code, message }
                };
            }
            _ => {}
        }
    }

    /// Whether a client that leaves before the first block has what it came for. Code 8 is also how options are
    /// refused (RFC 2347): OVMF says "User aborted the transfer" with it, others nothing.
    fn asked_for_size(&self, code: u16, message: &str) -> bool {
        let size = self.agreed.accepted.iter().any(|(option, _)| *option == "tsize");
        let left = message.is_empty() || message.to_ascii_lowercase().contains("abort");
        size && (code == 0 || (code == 8 && left))
    }

    fn handle_ack(&mut self, block: u16, now: Instant) {
        if self.negotiating {
            if block == 0 {
                self.negotiating = false;
                self.send_oack = false;
                self.progressed(now);
            }
            return;
        }
        let ahead = u64::from(block.wrapping_sub(wire(self.acked)));
        if ahead == 0 {
            // A repeated ACK. In lock step answering it would double every block from here on, the Sorcerer's
            // Apprentice of RFC 1123 §4.2.3.1: the timer alone retransmits. With a window it is also how a client
            // says that the window's first block was lost (RFC 7440 §4): rewind, once for each place.
            if self.agreed.window_blocks > 1 && self.sent > self.acked && self.rewound_at != Some(self.acked)
            {
                self.rewound_at = Some(self.acked);
                self.sent = self.acked;
                self.deadline = now + self.pace.wait(self.tries);
            }
            return;
        }
        if ahead > self.sent - self.acked {
            return; // for a block never sent, or an old one
        }
        self.acked += ahead;
        // Fewer than all: a gap (RFC 7440 §4), so what follows is sent again.
        self.sent = self.acked;
        if self.acked == self.last {
            self.outcome = Outcome::Complete;
        }
        self.progressed(now);
    }

    fn progressed(&mut self, now: Instant) {
        self.pace.heard();
        // What was sent twice tells nothing: which of the two is answered? (Karn's algorithm, RFC 6298 §3)
        if self.tries == 0 && self.rewound_at.take().is_none() {
            self.pace.heard_after(now.saturating_duration_since(self.progressed_at));
        }
        self.tries = 0;
        self.progressed_at = now;
        self.deadline = now + self.pace.wait(0);
    }

    /// Takes the time. When the deadline has passed the window is sent again, or the client is given up.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.outcome != Outcome::Running || now < self.deadline {
            return;
        }
        if now.saturating_duration_since(self.progressed_at) >= self.pace.patience() {
            self.outcome = if self.sent == self.last { Outcome::Unconfirmed } else { Outcome::TimedOut };
            return;
        }
        self.tries += 1;
        self.send_oack = self.negotiating;
        self.sent = self.acked;
        self.deadline = now + self.pace.wait(self.tries);
    }

    /// The client's port is closed, or its host is away, and the caller waits no longer. With the last block out it has the file and
    /// runs it: its last ACK was lost, or never sent.
    pub fn handle_gone(&mut self) {
        // It has answered something since it asked.
        let answered = self.acked > 0 || !(self.negotiating || self.agreed.accepted.is_empty());
        if self.outcome == Outcome::Running && answered && self.furthest == self.last {
            self.outcome = Outcome::Unconfirmed;
        }
    }

    /// The next datagram to send, until `None`: then wait for a datagram or for [`Self::poll_timeout`].
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        if self.outcome != Outcome::Running {
            return None;
        }
        if self.send_oack {
            self.send_oack = false;
            return Some(Transmit::Bytes(crate::oack(&self.agreed.accepted)));
        }
        let window_end = self.acked + u64::from(self.agreed.window_blocks);
        if self.negotiating || self.sent >= window_end.min(self.last) {
            return None;
        }
        let block_bytes = u64::from(self.agreed.block_bytes);
        let offset = self.sent * block_bytes;
        self.sent += 1;
        self.furthest = self.furthest.max(self.sent);
        let len = block_bytes.min(self.size.saturating_sub(offset));
        Some(Transmit::Data { block: wire(self.sent), offset, len: usize::try_from(len).unwrap_or_default() })
    }
}

/// A block number as on the wire: modulo 65536.
fn wire(block: u64) -> u16 {
    (block & 0xffff) as u16
}
