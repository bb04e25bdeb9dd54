//! The overlay itself: blocks of its own over an image below.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::backing::{Arrival, Image, Synced};

use super::layout::{BASE, FIRST, Header, LOG_HALF, PAGE, RECORD, RECORDS, Record, ZERO};
use super::map::{Map, Space, is_data, is_zero};
use super::store::Store;
use super::{OverlayError, Usage};

#[derive(Debug)]
pub(crate) struct Disk<S> {
    pub(super) store: S,
    state: RwLock<State>,
    /// One commit at a time.
    committing: Mutex<()>,
    pub(super) synced: Synced,
    pub(super) block: u64,
    data_start: u64,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) header: Header,
    pub(super) base: Arc<dyn Image>,
    pub(super) map: Map,
    pub(super) space: Space,
    /// Pages of the map that the disk does not have like this.
    pub(super) dirty: BTreeSet<usize>,
    /// Of new records.
    pub(super) epoch: u32,
    pub(super) position: u32,
    /// A write of records failed half way in this epoch: whole ones may stand in the log that nobody was told of. Nothing
    /// is written, in place neither, until the disk's header says that the epoch is past.
    pub(super) torn: Option<u32>,
    /// A picture that is being copied: its blocks are not written over.
    pub(super) picture: Option<Map>,
    data_blocks: u64,
    zero_blocks: u64,
}

/// Whether an operation may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    Wait,
    Now,
}

impl<S: Store> Disk<S> {
    pub(super) fn new(store: S, header: Header, base: Arc<dyn Image>, map: Map, space: Space) -> Disk<S> {
        let (block, data_start, epoch) = (u64::from(header.block_size), header.data_start(), header.epoch);
        let (mut data_blocks, mut zero_blocks) = (0, 0);
        for (_, entry) in map.entries() {
            if is_data(entry) {
                data_blocks += 1;
            } else {
                zero_blocks += 1;
            }
        }
        let state = State {
            header,
            base,
            map,
            space,
            dirty: BTreeSet::new(),
            epoch,
            position: 0,
            torn: None,
            picture: None,
            data_blocks,
            zero_blocks,
        };
        let (state, committing, synced) = (RwLock::new(state), Mutex::new(()), Synced::default());
        Disk { store, state, committing, synced, block, data_start }
    }

    pub(crate) fn size(&self) -> u64 {
        self.read_state().header.size
    }

    pub(crate) fn header(&self) -> Header {
        self.read_state().header.clone()
    }

    pub(crate) fn usage(&self) -> io::Result<Usage> {
        let state = self.read_state();
        Ok(Usage {
            size: state.header.size,
            allocated: state.data_blocks * self.block,
            zeroed: state.zero_blocks * self.block,
            file_bytes: self.store.space()?,
        })
    }

    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_with(buffer, offset, Patience::Wait)
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_with(buffer, offset, Patience::Now)
    }

    fn read_with(&self, buffer: &mut [u8], offset: u64, patience: Patience) -> io::Result<()> {
        let state = self.state_for(patience)?;
        check_range(offset, buffer.len(), state.header.size)?;
        let mut below: Vec<(usize, usize)> = Vec::new();
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let (block, inside) = (at / self.block, at % self.block);
            let left = buffer.len() - done;
            let (entry, blocks) = state.map.run(block, (inside + left as u64).div_ceil(self.block));
            let part = usize::try_from(blocks * self.block - inside).unwrap_or(usize::MAX).min(left);
            let place = buffer.get_mut(done..done + part).unwrap_or_default();
            if is_data(entry) {
                let from = self.data_offset(entry) + inside;
                match patience {
                    Patience::Wait => self.store.read_at(place, from)?,
                    Patience::Now => self.store.try_read_at(place, from)?,
                }
            } else if is_zero(entry) {
                place.fill(0);
            } else {
                below.push((done, part));
            }
            done += part;
        }
        if below.is_empty() {
            return Ok(());
        }
        // The image below may take its time: nobody waits for it here.
        let base = Arc::clone(&state.base);
        drop(state);
        for (from, len) in below {
            let place = buffer.get_mut(from..from + len).unwrap_or_default();
            read_base(&*base, place, offset + from as u64, patience)?;
        }
        Ok(())
    }

    /// What the image below lacks of the blocks that are read from it.
    pub(crate) fn arrival(&self, offset: u64, len: u64) -> Option<Arrival> {
        // While somebody changes the map nobody waits here: the reader does, on a thread that may.
        let state = self.state.try_read().ok()?;
        let end = offset.saturating_add(len.min(ARRIVAL_STEP)).min(state.header.size).min(state.base.size());
        let mut at = offset;
        while at < end {
            let (entry, blocks) = state.map.run(at / self.block, (end - at).div_ceil(self.block) + 1);
            let next = ((at / self.block + blocks) * self.block).min(end);
            if entry == BASE
                && let Some(arrival) = state.base.arrival(at, next - at)
            {
                return Some(arrival);
            }
            at = next;
        }
        None
    }

    pub(crate) fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.write_with(data, offset, Patience::Wait)
    }

    pub(crate) fn try_write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.write_with(data, offset, Patience::Now)
    }

    fn write_with(&self, data: &[u8], offset: u64, patience: Patience) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        if self.write_over(data, offset, patience)? {
            return Ok(());
        }
        loop {
            // What the first and the last block had around the data, read before the lock is taken.
            let mut edges = self.edges(data.len(), offset, patience)?;
            let mut state = match patience {
                Patience::Wait => self.write_state(),
                Patience::Now => self.try_write_state()?,
            };
            if state.needs_commit() {
                if patience == Patience::Now {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                drop(state);
                self.commit(true)?;
                continue;
            }
            // Somebody was here between.
            if edges.iter().any(|edge| state.map.get(edge.block) != edge.entry) {
                continue;
            }
            if state.picture.is_some() {
                self.refresh(&mut edges, state.header.size, patience)?;
            }
            return self.write_new(&mut state, data, offset, &edges);
        }
    }

    /// Writes where every block has its place already. False: not so.
    fn write_over(&self, data: &[u8], offset: u64, patience: Patience) -> io::Result<bool> {
        let state = self.state_for(patience)?;
        check_range(offset, data.len(), state.header.size)?;
        if state.picture.is_some() || state.torn.is_some() {
            return Ok(false);
        }
        let mut parts: Vec<(usize, usize, u64)> = Vec::new();
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let (block, inside) = (at / self.block, at % self.block);
            let left = data.len() - done;
            let (entry, blocks) = state.map.run(block, (inside + left as u64).div_ceil(self.block));
            if !is_data(entry) {
                return Ok(false);
            }
            let part = usize::try_from(blocks * self.block - inside).unwrap_or(usize::MAX).min(left);
            parts.push((done, part, self.data_offset(entry) + inside));
            done += part;
        }
        for (from, len, to) in parts {
            self.store.write_at(data.get(from..from + len).unwrap_or_default(), to)?;
        }
        Ok(true)
    }

    /// Blocks that are written in part.
    fn edges(&self, len: usize, offset: u64, patience: Patience) -> io::Result<Vec<Edge>> {
        let end = offset + len as u64;
        let mut blocks = Vec::new();
        if !offset.is_multiple_of(self.block) {
            blocks.push(offset / self.block);
        }
        if !end.is_multiple_of(self.block) && blocks.first() != Some(&(end / self.block)) {
            blocks.push(end / self.block);
        }
        let state = self.state_for(patience)?;
        let size = state.header.size;
        let entries: Vec<(u64, u32)> =
            blocks.into_iter().map(|block| (block, state.map.get(block))).collect();
        drop(state);
        let mut edges = Vec::new();
        for (block, entry) in entries {
            let mut content = vec![0; usize::try_from(self.block).unwrap_or(0)];
            let inside = usize::try_from(size.saturating_sub(block * self.block)).unwrap_or(usize::MAX);
            let inside = inside.min(content.len());
            let place = content.get_mut(..inside).unwrap_or_default();
            self.read_with(place, block * self.block, patience)?;
            edges.push(Edge { block, entry, content });
        }
        Ok(edges)
    }

    /// Reads edges again that may have been written over in their places before a picture began, after which they stay
    /// as they are. Under the lock of the state, so that they do.
    fn refresh(&self, edges: &mut [Edge], size: u64, patience: Patience) -> io::Result<()> {
        for edge in edges.iter_mut().filter(|edge| is_data(edge.entry)) {
            let inside = usize::try_from(size.saturating_sub(edge.block * self.block)).unwrap_or(usize::MAX);
            let inside = inside.min(edge.content.len());
            let place = edge.content.get_mut(..inside).unwrap_or_default();
            let from = self.data_offset(edge.entry);
            match patience {
                Patience::Wait => self.store.read_at(place, from)?,
                Patience::Now => self.store.try_read_at(place, from)?,
            }
        }
        Ok(())
    }

    /// Gives blocks a place, or a new one, and writes them. The map changes when the data is written.
    fn write_new(&self, state: &mut State, data: &[u8], offset: u64, edges: &[Edge]) -> io::Result<()> {
        check_range(offset, data.len(), state.header.size)?;
        let (first, last) = (offset / self.block, (offset + data.len() as u64 - 1) / self.block);
        let mut planned: Vec<(u64, u32, bool)> = Vec::new();
        for block in first..=last {
            let old = state.map.get(block);
            let pictured = state.picture.as_ref().is_some_and(|picture| picture.get(block) == old);
            if is_data(old) && !pictured {
                planned.push((block, old, false));
                continue;
            }
            let Some(entry) = state.space.take() else {
                planned
                    .iter()
                    .filter(|(_, _, new)| *new)
                    .for_each(|(_, entry, _)| state.space.put_back(*entry));
                return Err(io::ErrorKind::StorageFull.into());
            };
            planned.push((block, entry, true));
        }
        if let Err(error) = self.write_blocks(data, offset, &planned, edges) {
            planned.iter().filter(|(_, _, new)| *new).for_each(|(_, entry, _)| state.space.put_back(*entry));
            return Err(error);
        }
        let changes =
            runs(planned.iter().filter(|(_, _, new)| *new).map(|(block, entry, _)| (*block, *entry)));
        self.apply(state, &changes)
    }

    fn write_blocks(
        &self,
        data: &[u8],
        offset: u64,
        planned: &[(u64, u32, bool)],
        edges: &[Edge],
    ) -> io::Result<()> {
        let size = usize::try_from(self.block).unwrap_or(0);
        let mut at = 0;
        while let Some((block, entry, new)) = planned.get(at).copied() {
            let begin = block * self.block;
            let from = begin.saturating_sub(offset);
            let skip = offset.saturating_sub(begin);
            let from = usize::try_from(from).unwrap_or(usize::MAX);
            let edge = edges.iter().find(|edge| edge.block == block);
            if let Some(edge) = edge {
                let skip = usize::try_from(skip).unwrap_or(0);
                let len = (size - skip).min(data.len() - from);
                let part = data.get(from..from + len).unwrap_or_default();
                if new {
                    let mut content = edge.content.clone();
                    if let Some(place) = content.get_mut(skip..skip + len) {
                        place.copy_from_slice(part);
                    }
                    self.store.write_at(&content, self.data_offset(entry))?;
                } else {
                    self.store.write_at(part, self.data_offset(entry) + skip as u64)?;
                }
                at += 1;
                continue;
            }
            // Whole blocks that follow each other on both sides: one write.
            let mut count = 1;
            while let Some((next, place, _)) = planned.get(at + count)
                && u32::try_from(count).ok().and_then(|count| entry.checked_add(count)) == Some(*place)
                && !edges.iter().any(|edge| edge.block == *next)
            {
                count += 1;
            }
            let part = data.get(from..from + count * size).unwrap_or_default();
            self.store.write_at(part, self.data_offset(entry))?;
            at += count;
        }
        Ok(())
    }

    /// Logs changes of the map, and makes them.
    fn apply(&self, state: &mut State, changes: &[(u64, u32, u32)]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(changes.len() * RECORD);
        for (block, entry, count) in changes {
            let block = u32::try_from(*block).map_err(io::Error::other)?;
            Record { block, count: *count, entry: *entry, epoch: state.epoch }.emit(&mut bytes);
        }
        if u64::from(state.position) * RECORD as u64 + bytes.len() as u64 > LOG_HALF {
            // Cannot be: a write is at most a transfer, and `SPARE` records were left for it.
            return Err(io::Error::other("the log of the overlay is full"));
        }
        let logged = self.store.write_at(&bytes, Record::offset(state.epoch, state.position));
        if logged.is_err() {
            state.torn = Some(state.epoch);
            // A process that is killed before the next commit would find the whole ones. Where this fails too they may count:
            // whoever wrote was told of an error, and knows nothing of what is there.
            let _may_fail_too =
                self.store.write_at(&vec![0; bytes.len()], Record::offset(state.epoch, state.position));
        }
        logged?;
        state.position += u32::try_from(changes.len()).unwrap_or(0);
        for (block, entry, count) in changes {
            for step in 0..*count {
                let entry = if is_data(*entry) { entry.saturating_add(step) } else { *entry };
                state.put(block + u64::from(step), entry);
            }
        }
        Ok(())
    }

    /// These bytes are zeros from now on; whole blocks give their space back with the next commit.
    pub(crate) fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        let (first, last) = (offset.div_ceil(self.block), end / self.block);
        let mut edges = vec![(offset, end.min(first * self.block)), (last.max(first) * self.block, end)];
        if first > last {
            edges = vec![(offset, end)];
        }
        for (from, to) in edges.into_iter().filter(|(from, to)| from < to) {
            self.zero_part(from, to - from)?;
        }
        let mut at = first;
        while at < last {
            let count = (last - at).min(DISCARD_STEP);
            self.discard_blocks(at, count)?;
            at += count;
        }
        // Space comes back without waiting for somebody to flush.
        if self.read_state().space.given_up.len() >= GIVE_BACK {
            self.commit(false)?;
        }
        Ok(())
    }

    fn zero_part(&self, offset: u64, len: u64) -> io::Result<()> {
        if is_zero(self.read_state().map.get(offset / self.block)) {
            return Ok(());
        }
        self.write(&vec![0; usize::try_from(len).unwrap_or(0)], offset)
    }

    fn discard_blocks(&self, first: u64, count: u64) -> io::Result<()> {
        loop {
            let mut state = self.write_state();
            check_range(first * self.block, 0, state.header.size)?;
            if state.needs_commit() {
                drop(state);
                self.commit(true)?;
                continue;
            }
            let blocks = state.header.blocks().min(first + count);
            let below = state.header.base_size.div_ceil(self.block);
            // Behind the image below there are zeros already.
            let wanted = |block: u64| if block < below { ZERO } else { BASE };
            let changed = (first..blocks).filter(|block| state.map.get(*block) != wanted(*block));
            let changes = runs(changed.map(|block| (block, wanted(block))));
            return self.apply(&mut state, &changes);
        }
    }

    /// Another size. What is cut off is gone, also if it grows again.
    pub(crate) fn resize(&self, size: u64) -> Result<(), OverlayError> {
        let old = self.size();
        let capacity = self.header().capacity.saturating_mul(self.block);
        if size == 0 || !size.is_multiple_of(512) || size > capacity {
            return Err(OverlayError::BadSize { size, most: capacity });
        }
        if size < old {
            self.discard(size, old - size)?;
        }
        let mut state = self.write_state();
        state.header.size = size;
        drop(state);
        Ok(self.commit(true)?)
    }

    pub(super) fn data_offset(&self, entry: u32) -> u64 {
        self.data_start + u64::from(entry.saturating_sub(FIRST)) * self.block
    }

    pub(super) fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_for(&self, patience: Patience) -> io::Result<RwLockReadGuard<'_, State>> {
        match patience {
            Patience::Wait => Ok(self.read_state()),
            Patience::Now => self.state.try_read().map_err(|_| io::ErrorKind::WouldBlock.into()),
        }
    }

    fn try_write_state(&self) -> io::Result<RwLockWriteGuard<'_, State>> {
        self.state.try_write().map_err(|_| io::ErrorKind::WouldBlock.into())
    }

    pub(super) fn committing(&self) -> MutexGuard<'_, ()> {
        self.committing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Before the next record is written: the log is full, or has records that must not count.
    fn needs_commit(&self) -> bool {
        self.position >= RECORDS - SPARE || self.torn.is_some()
    }

    /// Changes an entry; the place it had is given up, or kept for a picture.
    pub(super) fn put(&mut self, block: u64, entry: u32) {
        let old = self.map.set(block, entry);
        self.dirty.insert(usize::try_from(block).unwrap_or(0) / PAGE);
        if is_data(old) {
            self.data_blocks = self.data_blocks.saturating_sub(1);
            if self.picture.as_ref().is_some_and(|picture| picture.get(block) == old) {
                self.space.kept.push(old);
            } else {
                self.space.given_up.push(old);
            }
        } else if is_zero(old) {
            self.zero_blocks = self.zero_blocks.saturating_sub(1);
        }
        if is_data(entry) {
            self.data_blocks += 1;
        } else if is_zero(entry) {
            self.zero_blocks += 1;
        }
    }
}

/// A block that is written in part, and what it was.
#[derive(Debug)]
struct Edge {
    block: u64,
    entry: u32,
    content: Vec<u8>,
}

/// Reads from the image below; behind its end there are zeros.
fn read_base(base: &dyn Image, place: &mut [u8], offset: u64, patience: Patience) -> io::Result<()> {
    let there = usize::try_from(base.size().saturating_sub(offset)).unwrap_or(usize::MAX).min(place.len());
    let (there, behind) = place.split_at_mut(there);
    behind.fill(0);
    match patience {
        _ if there.is_empty() => Ok(()),
        Patience::Wait => base.read_at(there, offset),
        Patience::Now => base.try_read_at(there, offset),
    }
}

fn check_range(offset: u64, len: usize, size: u64) -> io::Result<()> {
    match offset.checked_add(len as u64) {
        Some(end) if end <= size => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Changes that follow each other, as one: block, entry, count.
pub(super) fn runs(changes: impl Iterator<Item = (u64, u32)>) -> Vec<(u64, u32, u32)> {
    let mut found: Vec<(u64, u32, u32)> = Vec::new();
    for (block, entry) in changes {
        if let Some((first, from, count)) = found.last_mut()
            && block == *first + u64::from(*count)
            && entry == if is_data(*from) { *from + *count } else { *from }
        {
            *count += 1;
        } else {
            found.push((block, entry, 1));
        }
    }
    found
}

/// Records left for one operation: the most blocks a transfer touches, each its own record.
const SPARE: u32 = 8 * 1024 + 16;
/// Blocks of one step of a discard: at worst each is a record.
const DISCARD_STEP: u64 = 4 * 1024;
/// Blocks given up before space is returned unasked.
const GIVE_BACK: usize = 8 * 1024;
/// Bytes looked at for what is still missing of the image below; what lies behind is asked for when this has come.
const ARRIVAL_STEP: u64 = 256 << 20;
