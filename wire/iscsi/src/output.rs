//! What is to be sent: one contiguous buffer, so that a driver needs one `write` for many PDUs and a read
//! of the medium goes straight into its place in a Data-In PDU.

use std::collections::VecDeque;

use crate::bhs::{BHS_LEN, Bhs};
use crate::frame::{DIGEST, digest};
use crate::host::Room;

/// Bytes to be sent, oldest first. Its memory is kept and used again, without clearing it.
#[derive(Debug, Default)]
pub struct Output {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Memory that was asked for, each up to where its bytes end.
    rooms: VecDeque<(usize, Room)>,
    pub(crate) header_digest: bool,
    pub(crate) data_digest: bool,
}

/// A place to return to when a PDU cannot be finished.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark(usize);

impl Output {
    /// What is to be sent next.
    pub fn pending(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// `sent` bytes of [`Output::pending`] are gone.
    pub fn advance(&mut self, sent: usize) {
        self.start = self.start.saturating_add(sent).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.rooms.clear();
        }
        while self.rooms.front().is_some_and(|(end, _)| *end <= self.start) {
            self.rooms.pop_front();
        }
    }

    /// Gives memory to build the next answers in, if it has none: connections of one thread can share what
    /// is warm in its cache. What it holds is never sent.
    pub fn lend(&mut self, from: impl FnOnce() -> Option<Vec<u8>>) {
        if self.buffer.is_empty() {
            self.buffer = from().unwrap_or_default();
        }
    }

    /// Takes the memory back when all of it was sent.
    pub fn take_idle(&mut self) -> Option<Vec<u8>> {
        (self.start == self.end && !self.buffer.is_empty()).then(|| std::mem::take(&mut self.buffer))
    }

    /// A PDU with its data segment given.
    pub(crate) fn pdu(&mut self, bhs: Bhs, data: &[u8]) {
        let filled: Result<(), ()> = self.pdu_with(bhs, data.len(), |place| {
            place.copy_from_slice(data);
            Ok(())
        });
        debug_assert!(filled.is_ok());
    }

    /// A PDU whose data segment is filled in place. If that fails the PDU is as if it had never been begun.
    pub(crate) fn pdu_with<E>(
        &mut self,
        mut bhs: Bhs,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let begin = self.mark();
        bhs.set_data_len(len);
        self.put(&bhs.0);
        if self.header_digest {
            self.put(&digest(&bhs.0));
        }
        if len == 0 {
            return Ok(());
        }
        let padding = len.next_multiple_of(4) - len;
        let data_digest = self.data_digest;
        let place = self.grow(len + padding);
        let (data, pad) = place.split_at_mut_checked(len).unwrap_or_default();
        if let Err(error) = fill(data) {
            self.back_to(begin);
            return Err(error);
        }
        pad.fill(0);
        if data_digest {
            let sum = digest(place);
            self.put(&sum);
        }
        Ok(())
    }

    /// Kept until all is sent that is there now.
    pub(crate) fn hold(&mut self, room: Room) {
        self.rooms.push_back((self.end, room));
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark(self.end)
    }

    pub(crate) fn back_to(&mut self, mark: Mark) {
        self.end = mark.0.clamp(self.start, self.end);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.grow(bytes.len()).copy_from_slice(bytes);
    }

    /// The next `len` bytes. Their content is whatever was there before, another session's data perhaps: the
    /// caller writes all of it, or goes back.
    fn grow(&mut self, len: usize) -> &mut [u8] {
        let from = self.end;
        self.end += len;
        if self.buffer.len() < self.end {
            let size = self.end.max(self.buffer.len() * 2).max(64 * BHS_LEN + 64 * DIGEST);
            self.buffer.resize(size, 0);
        }
        self.buffer.get_mut(from..self.end).unwrap_or_default()
    }
}
