//! The receive buffer of a connection: grows with what comes, within bounds.

/// Bytes that arrived and are not handled.
#[derive(Debug)]
pub(crate) struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes the PDU at the start needs, if that is known.
    need: usize,
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox { buffer: vec![0; SMALL], start: 0, end: 0, need: 0 }
    }
}

impl Inbox {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether the start of a PDU is there and its end is not.
    pub(crate) fn is_partial(&self) -> bool {
        !self.is_empty()
    }

    /// Where the next bytes go. Never empty.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        let held = self.end - self.start;
        let want = self.need.max(held + 1).max(SMALL);
        if self.buffer.len() - self.start < want || self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, held);
            if self.buffer.len() < want || held == self.buffer.len() {
                // Room for several PDUs: fewer system calls for an initiator that sends much.
                self.buffer.resize((want * 2).max(LARGE), 0);
            }
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    pub(crate) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.buffer.len());
    }

    /// `count` bytes are done with; the next PDU needs `need`.
    pub(crate) fn consume(&mut self, count: usize, need: usize) {
        self.start = (self.start + count).min(self.end);
        self.need = need;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }
}

/// A session that only reads needs no more.
const SMALL: usize = 32 * 1024;
const LARGE: usize = 512 * 1024;
