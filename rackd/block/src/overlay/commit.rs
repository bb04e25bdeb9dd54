//! From memory to the disk, in the order that a crash cannot break.

use std::collections::BTreeSet;
use std::io;

use super::disk::{Disk, runs};
use super::layout::{Header, MAP, PAGE};
use super::map::Map;
use super::store::Store;

impl<S: Store> Disk<S> {
    /// Makes everything that was written durable, and space that was given up usable.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.commit(false)
    }

    /// `always` writes the header even if nothing changed.
    pub(super) fn commit(&self, always: bool) -> io::Result<()> {
        let _alone = self.committing();
        self.commit_alone(always)
    }

    fn commit_alone(&self, always: bool) -> io::Result<()> {
        let mut state = self.write_state();
        if state.dirty.is_empty() && state.space.given_up.is_empty() && !always {
            drop(state);
            return self.sync();
        }
        let dirty = std::mem::take(&mut state.dirty);
        let given_up = std::mem::take(&mut state.space.given_up);
        let picture = state.map.clone();
        // Records from now on belong to the next epoch, and to the other half of the log. After a commit that failed
        // they do already: the half before is what the header on the disk still needs.
        if state.epoch == state.header.epoch {
            state.epoch = state.epoch.wrapping_add(1);
            state.position = 0;
        }
        let mut header = state.header.clone();
        header.epoch = state.epoch;
        header.sequence += 1;
        drop(state);
        let written = self.write_map(&picture, &dirty, &header);
        let mut state = self.write_state();
        match written {
            Ok(()) => {
                state.header.sequence = header.sequence;
                state.header.epoch = header.epoch;
                // Records of the epoch that the header names, and of the next, count after a crash; older ones do not.
                if state.torn.is_some_and(|torn| torn != header.epoch) {
                    state.torn = None;
                }
                drop(state);
                // Holes before the blocks are used again. Without them the blocks are as free, and take more space.
                for (entry, count) in entry_runs(given_up.clone()) {
                    let hole = self.store.punch(self.data_offset(entry), u64::from(count) * self.block);
                    if let Err(error) = hole {
                        tracing::warn!(%error, "space that an overlay gave up is not given back");
                    }
                }
                let mut state = self.write_state();
                given_up.into_iter().rev().for_each(|entry| state.space.put_back(entry));
                Ok(())
            }
            Err(error) => {
                state.dirty.extend(dirty);
                state.space.given_up.extend(given_up);
                Err(error)
            }
        }
    }

    /// The order that makes it safe: data, then the map that points to it, then what forgets the log.
    fn write_map(&self, map: &Map, dirty: &BTreeSet<usize>, header: &Header) -> io::Result<()> {
        self.sync()?;
        for page in dirty {
            self.store.write_at(&map.page_bytes(*page), MAP + (*page * PAGE * 4) as u64)?;
        }
        self.sync()?;
        self.store.write_at(&header.emit(), header.slot())?;
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        self.synced.sync(|| self.store.sync())
    }
}

fn entry_runs(mut entries: Vec<u32>) -> Vec<(u32, u32)> {
    entries.sort_unstable();
    let numbered = entries.into_iter().map(|entry| (u64::from(entry), entry));
    runs(numbered).into_iter().map(|(_, entry, count)| (entry, count)).collect()
}
