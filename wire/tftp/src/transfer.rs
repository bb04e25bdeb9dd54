//! One client reading one file: lock step (RFC 1350 §2) or windows (RFC 7440).

use std::time::Instant;

use crate::pace::Pace;
use crate::{Limits, Negotiated, Packet, ReadRequest};

/// What the caller sends next to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transmit {
    /// Send these bytes (an OACK).
    Bytes(Vec<u8>),
    /// Send `count` datagrams, of blocks that follow each other: each has its [`data_header`](crate::data_header), then a block
    /// size of the `len` bytes of the file from `offset`; the last one what is left of them.
    Data {
        /// Number of the first block, modulo 65536; the others count on from it.
        block: u16,
        /// How many blocks, at least one.
        count: u16,
        /// Where in the file the first begins, in bytes.
        offset: u64,
        /// How many bytes in all; the file's last block has less than the block size, or none.
        len: usize,
    },
}

/// What of a transfer was sent more than once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resent {
    /// How often the client was silent for as long as is waited.
    pub timeouts: u32,
    /// How often it said that it has less than was sent: something was lost on the way.
    pub gaps: u32,
    /// How often the OACK went out again.
    pub oacks: u32,
    /// Blocks that went out again.
    pub blocks: u64,
    /// The first of those, counted from 1.
    pub first: Option<u64>,
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
    resent: Resent,
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
            resent: Resent::default(),
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

    /// What was sent more than once so far.
    #[must_use]
    pub fn resent(&self) -> Resent {
        self.resent
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
                self.resent.gaps = self.resent.gaps.saturating_add(1);
                self.sent = self.acked;
                self.deadline = now + self.pace.wait(self.tries);
            }
            return;
        }
        if ahead > self.sent - self.acked {
            return; // for a block never sent, or an old one
        }
        self.acked += ahead;
        self.resent.gaps = self.resent.gaps.saturating_add(u32::from(self.acked < self.sent));
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
        self.resent.timeouts = self.resent.timeouts.saturating_add(1);
        self.send_oack = self.negotiating;
        self.resent.oacks = self.resent.oacks.saturating_add(u32::from(self.negotiating));
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

    /// What to send next, `most` blocks at once or fewer, until `None`: then wait for a datagram or for [`Self::poll_timeout`].
    pub fn poll_transmit(&mut self, most: u16) -> Option<Transmit> {
        if self.outcome != Outcome::Running {
            return None;
        }
        if self.send_oack {
            self.send_oack = false;
            return Some(Transmit::Bytes(crate::oack(&self.agreed.accepted)));
        }
        let window_end = self.acked + u64::from(self.agreed.window_blocks);
        let due = window_end.min(self.last).saturating_sub(self.sent);
        if self.negotiating || due == 0 {
            return None;
        }
        let count = u16::try_from(due).unwrap_or(u16::MAX).min(most.max(1));
        let block_bytes = u64::from(self.agreed.block_bytes);
        let (first, offset) = (self.sent + 1, self.sent * block_bytes);
        self.sent += u64::from(count);
        if first <= self.furthest {
            let again = self.furthest.min(self.sent) + 1 - first;
            self.resent.blocks = self.resent.blocks.saturating_add(again);
            self.resent.first.get_or_insert(first);
        }
        self.furthest = self.furthest.max(self.sent);
        let len = (u64::from(count) * block_bytes).min(self.size.saturating_sub(offset));
        Some(Transmit::Data {
            block: wire(first),
            count,
            offset,
            len: usize::try_from(len).unwrap_or_default(),
        })
    }
}

/// A block number as on the wire: modulo 65536.
fn wire(block: u64) -> u16 {
    (block & 0xffff) as u16
}
