//! Pictures of an overlay while it is written to: snapshot to a new overlay, export of the whole disk; and a
//! new image below.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Arc;

use crate::backing::Image;

use super::OverlayError;
use super::disk::Disk;
use super::layout::{BASE, FIRST, Header, MAP, PAGE};
use super::map::{Map, is_data};
use super::store::Store;

/// Keeps the blocks of a picture until it is dropped.
struct Picture<'a, S: Store> {
    disk: &'a Disk<S>,
    map: Map,
    header: Header,
    base: Arc<dyn Image>,
}

impl<'a, S: Store> Picture<'a, S> {
    fn take(disk: &'a Disk<S>) -> Result<Picture<'a, S>, OverlayError> {
        let mut state = disk.write_state();
        if state.picture.is_some() {
            return Err(OverlayError::Busy);
        }
        let map = state.map.clone();
        state.picture = Some(map.clone());
        let (header, base) = (state.header.clone(), Arc::clone(&state.base));
        drop(state);
        Ok(Picture { disk, map, header, base })
    }
}

impl<S: Store> Drop for Picture<'_, S> {
    fn drop(&mut self) {
        let mut state = self.disk.write_state();
        state.picture = None;
        let kept = std::mem::take(&mut state.space.kept);
        state.space.given_up.extend(kept);
    }
}

impl<S: Store> Disk<S> {
    /// Copies the changed blocks into a new overlay of the same image. Writes go on meanwhile and are not in it.
    pub(crate) fn snapshot<T: Store>(&self, target: T) -> Result<(), OverlayError> {
        let picture = Picture::take(self)?;
        let mut header = picture.header.clone();
        header.sequence = 0;
        target.set_len(header.data_start())?;
        let mut map = Map::default();
        let mut pages = BTreeSet::new();
        let mut own = Vec::new();
        for (block, entry) in picture.map.entries() {
            pages.insert(usize::try_from(block).unwrap_or(0) / PAGE);
            if is_data(entry) {
                own.push((entry, block));
            } else {
                map.set(block, entry);
            }
        }
        // In the order of their places, not of the disk: long pieces however they were written.
        own.sort_unstable();
        let mut next = FIRST;
        let mut buffer = vec![0; usize::try_from(STEP).unwrap_or(0)];
        let most = usize::try_from(STEP / self.block).unwrap_or(1).max(1);
        for piece in own.chunk_by(|(entry, _), (after, _)| entry.checked_add(1) == Some(*after)) {
            for piece in piece.chunks(most) {
                let Some((first, _)) = piece.first() else { continue };
                let len = piece.len() * usize::try_from(self.block).unwrap_or(0);
                let place = buffer.get_mut(..len).unwrap_or_default();
                self.store.read_at(place, self.data_offset(*first))?;
                target.write_at(place, header.data_start() + u64::from(next - FIRST) * self.block)?;
                for (_, block) in piece {
                    map.set(*block, next);
                    next += 1;
                }
            }
        }
        for page in pages {
            target.write_at(&map.page_bytes(page), MAP + (page * PAGE * 4) as u64)?;
        }
        target.sync()?;
        for sequence in [1, 2] {
            header.sequence = sequence;
            target.write_at(&header.emit(), header.slot())?;
        }
        Ok(target.sync()?)
    }

    /// The whole disk, as it is now, in order.
    pub(crate) fn export(&self, to: &mut dyn Write) -> Result<(), OverlayError> {
        let picture = Picture::take(self)?;
        let mut buffer = vec![0; usize::try_from(STEP).unwrap_or(0)];
        let mut at = 0;
        while at < picture.header.size {
            let block = at / self.block;
            let left = picture.header.size - at;
            let (entry, count) = picture.map.run(block, left.min(STEP).div_ceil(self.block));
            let len = (count * self.block).min(left).min(STEP);
            let place = buffer.get_mut(..usize::try_from(len).unwrap_or(0)).unwrap_or_default();
            if is_data(entry) {
                self.store.read_at(place, self.data_offset(entry))?;
            } else if entry == BASE {
                below(&*picture.base, place, at)?;
            } else {
                place.fill(0);
            }
            to.write_all(place)?;
            at += len;
        }
        Ok(())
    }

    /// Puts another image below. The content of the disk stays; what is the same there is given back.
    ///
    /// Nothing else may write meanwhile (its sessions are ended before): three steps, each of which may be
    /// the last one that happens.
    pub(crate) fn rebase(&self, new: &Arc<dyn Image>, id: &str) -> Result<(), OverlayError> {
        let size = self.size();
        let old = Arc::clone(&self.read_state().base);
        let chunk = usize::try_from(self.block).unwrap_or(0);
        let (mut before, mut after) = (vec![0; chunk], vec![0; chunk]);
        let blocks = size.div_ceil(self.block);
        let part = |block: u64| usize::try_from((size - block * self.block).min(self.block)).unwrap_or(0);
        // Blocks that would change get the old content as their own.
        for block in 0..blocks {
            if self.read_state().map.get(block) != BASE {
                continue;
            }
            let (before, after) = (
                before.get_mut(..part(block)).unwrap_or_default(),
                after.get_mut(..part(block)).unwrap_or_default(),
            );
            below(&*old, before, block * self.block)?;
            below(&**new, after, block * self.block)?;
            if before != after {
                self.write(before, block * self.block)?;
            }
        }
        self.commit(false)?;
        let mut state = self.write_state();
        state.base = Arc::clone(new);
        state.header.base_id = id.to_owned();
        state.header.base_size = new.size();
        drop(state);
        self.commit(true)?;
        // Blocks that the new image has are not needed.
        for block in 0..blocks {
            if self.read_state().map.get(block) == BASE {
                continue;
            }
            let (before, after) = (
                before.get_mut(..part(block)).unwrap_or_default(),
                after.get_mut(..part(block)).unwrap_or_default(),
            );
            self.read(before, block * self.block)?;
            below(&**new, after, block * self.block)?;
            if before == after {
                self.write_state().put(block, BASE);
            }
        }
        Ok(self.commit(false)?)
    }
}

fn below(base: &dyn Image, place: &mut [u8], offset: u64) -> io::Result<()> {
    let there = usize::try_from(base.size().saturating_sub(offset)).unwrap_or(usize::MAX).min(place.len());
    let (there, behind) = place.split_at_mut(there);
    behind.fill(0);
    if there.is_empty() { Ok(()) } else { base.read_at(there, offset) }
}

/// Bytes that are copied at once.
const STEP: u64 = 1 << 20;
