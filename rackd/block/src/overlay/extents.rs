//! Which parts of an overlay are whose: for GET LBA STATUS, and for who sends only what is new.

use farrier_iscsi::scsi::Extent;

use super::disk::Disk;
use super::layout::BASE;
use super::map::is_data;
use super::store::Store;

impl<S: Store> Disk<S> {
    /// Pieces of the disk, by their numbers, that may differ from the image below.
    pub(crate) fn changed(&self, piece: u64) -> Vec<u64> {
        let state = self.read_state();
        let pieces = state.header.size.div_ceil(piece.max(1));
        let mut found: Vec<u64> = Vec::new();
        for (block, _) in state.map.entries() {
            let first = block * self.block / piece.max(1);
            let last = ((block + 1) * self.block - 1) / piece.max(1);
            for number in first..=last {
                if number < pieces && found.last().is_none_or(|known| *known < number) {
                    found.push(number);
                }
            }
        }
        found
    }

    /// What is allocated, from `offset` on: at most `max` extents.
    pub(crate) fn extents(&self, offset: u64, max: usize) -> Vec<Extent> {
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = offset;
        loop {
            // Anew for each step: nobody waits for a large disk to be looked through.
            let state = self.read_state();
            let (size, below) = (state.header.size, state.header.base_size);
            if at >= size {
                break;
            }
            let block = at / self.block;
            let (entry, count) =
                state.map.run(block, ((size - at).div_ceil(self.block) + 1).min(EXTENT_STEP));
            drop(state);
            let mut end = ((block + count) * self.block).min(size);
            let mut allocated = is_data(entry);
            if entry == BASE {
                allocated = at < below;
                end = if allocated { end.min(below.max(at + 1)) } else { end };
            }
            if let Some(last) = extents.last_mut()
                && last.allocated == allocated
            {
                last.len += end - at;
            } else if extents.len() == max {
                break;
            } else {
                extents.push(Extent { offset: at, len: end - at, allocated });
            }
            at = end;
        }
        extents
    }
}

/// Blocks looked at in one step.
const EXTENT_STEP: u64 = 1 << 20;
