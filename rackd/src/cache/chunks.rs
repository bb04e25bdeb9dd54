//! Which chunks of an image are here, in memory and beside the image.
//!
//! What is written beside the image is a claim: after a crash a chunk may be marked whose bytes are not all there,
//! and a disk rots. So a chunk is believed only when this process has compared it with its digest.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

/// Where one chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// At the centre only.
    Missing = 0,
    /// Said to be on disk; not compared with its digest yet.
    Claimed = 1,
    /// Being compared.
    Checking = 2,
    /// On disk, as the manifest wants it.
    Good = 3,
}

#[derive(Debug)]
pub(super) struct Chunks {
    states: Vec<AtomicU8>,
    /// A bit a chunk, lowest first, and the file that has the same; `None`: the image is whole.
    marks: Mutex<Option<Marks>>,
}

#[derive(Debug)]
struct Marks {
    bits: Vec<u8>,
    file: File,
}

impl Chunks {
    /// Of an image that is all there, if nothing happened to it.
    pub(super) fn whole(count: usize, is_empty: impl Fn(usize) -> bool) -> Self {
        let state = |index| if is_empty(index) { State::Good } else { State::Claimed };
        Self { states: (0..count).map(|index| new(state(index))).collect(), marks: Mutex::new(None) }
    }

    /// Of an image that is on its way; `fresh`: nothing has arrived.
    pub(super) fn open(
        path: &Path,
        count: usize,
        fresh: bool,
        is_empty: impl Fn(usize) -> bool,
    ) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(fresh).open(path)?;
        let mut bits = vec![0; count.div_ceil(8)];
        // A shorter file marks fewer.
        let mut done = 0;
        while let Some(rest) = bits.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, done as u64)? {
                0 => break,
                read => done += read,
            }
        }
        let marked = |index: usize| bits.get(index / 8).is_some_and(|byte| byte & (1 << (index % 8)) != 0);
        let state = |index| match (is_empty(index), marked(index)) {
            (true, _) => State::Good,
            (false, true) => State::Claimed,
            (false, false) => State::Missing,
        };
        let states = (0..count).map(|index| new(state(index))).collect();
        Ok(Self { states, marks: Mutex::new(Some(Marks { bits, file })) })
    }

    pub(super) fn get(&self, index: usize) -> State {
        self.states.get(index).map_or(State::Missing, |state| decode(state.load(Ordering::Acquire)))
    }

    /// Takes the comparison of a chunk; false: somebody else has it, or it is not needed.
    pub(super) fn claim_check(&self, index: usize) -> bool {
        self.states.get(index).is_some_and(|state| {
            let (from, to) = (State::Claimed as u8, State::Checking as u8);
            state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
        })
    }

    /// What was compared once is compared again before it is read: the disk may have changed its mind.
    pub(super) fn doubt(&self, index: usize) {
        if let Some(state) = self.states.get(index) {
            let (from, to) = (State::Good as u8, State::Claimed as u8);
            let _ = state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// The chunk is on disk, or is not. A mark that cannot be written costs a second transfer after a crash.
    pub(super) fn set(&self, index: usize, state: State) -> io::Result<()> {
        if let Some(cell) = self.states.get(index) {
            cell.store(state as u8, Ordering::Release);
        }
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Marks { bits, file }) = marks.as_mut() else { return Ok(()) };
        let Some(byte) = bits.get_mut(index / 8) else { return Ok(()) };
        let bit = 1 << (index % 8);
        *byte = if state == State::Good { *byte | bit } else { *byte & !bit };
        file.write_all_at(&[*byte], (index / 8) as u64)
    }

    /// No marks any more: the image is whole, and its name says so.
    pub(super) fn forget_marks(&self) {
        *self.marks.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Chunks that are here, empty ones too.
    pub(super) fn here(&self) -> usize {
        (0..self.states.len()).filter(|index| self.get(*index) != State::Missing).count()
    }

    /// The first that is missing from `from` on, or from the beginning when there is none behind it.
    pub(super) fn missing_from(&self, from: usize) -> Option<usize> {
        let missing = |index: &usize| self.get(*index) == State::Missing;
        (from..self.states.len()).find(missing).or_else(|| (0..from.min(self.states.len())).find(missing))
    }
}

fn new(state: State) -> AtomicU8 {
    AtomicU8::new(state as u8)
}

fn decode(byte: u8) -> State {
    match byte {
        1 => State::Claimed,
        2 => State::Checking,
        3 => State::Good,
        _ => State::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_marked_is_claimed_by_the_next_process_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("marks");
        let open = |fresh| Chunks::open(&path, 20, fresh, |index| index == 3).unwrap();
        let chunks = open(true);
        assert_eq!((chunks.here(), chunks.missing_from(0), chunks.missing_from(19)), (1, Some(0), Some(19)));
        for index in [0, 1, 17] {
            chunks.set(index, State::Good).unwrap();
        }
        chunks.set(1, State::Missing).unwrap();
        let again = open(false);
        let claimed: Vec<usize> = (0..20).filter(|index| again.get(*index) == State::Claimed).collect();
        assert_eq!(claimed, [0, 17]);
        assert_eq!((again.get(3), again.get(1)), (State::Good, State::Missing));
        assert!(again.claim_check(0) && !again.claim_check(0) && !again.claim_check(1));
        assert_eq!(open(true).here(), 1);
        // Cut off in the middle of nowhere: fewer marks.
        std::fs::write(&path, [1]).unwrap();
        assert_eq!(open(false).here(), 2);
    }
}
