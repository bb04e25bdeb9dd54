//! The start of an overlay: made new, or found after a crash.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use crate::backing::Image;

use super::OverlayError;
use super::disk::Disk;
use super::layout::{HEADER, Header, LOG_HALF, MAP, PAGE, RECORD, Record};
use super::map::{Map, Space, is_data};
use super::store::Store;

impl<S: Store> Disk<S> {
    pub(crate) fn create(store: S, header: Header, base: Arc<dyn Image>) -> io::Result<Disk<S>> {
        let mut header = header;
        store.set_len(header.data_start())?;
        for sequence in [1, 2] {
            header.sequence = sequence;
            store.write_at(&header.emit(), header.slot())?;
        }
        store.sync()?;
        Ok(Disk::new(store, header, base, Map::default(), Space::default()))
    }

    /// Reads what is there. `boot` says which start of the machine this is.
    pub(crate) fn open(
        store: S,
        base: Arc<dyn Image>,
        base_id: &str,
        boot: [u8; 16],
    ) -> Result<Disk<S>, OverlayError> {
        let mut header = read_header(&store)?;
        if header.base_id != base_id {
            return Err(OverlayError::OtherBase { expected: header.base_id, given: base_id.to_owned() });
        }
        if header.base_size != base.size() {
            return Err(OverlayError::OtherBaseSize { expected: header.base_size, given: base.size() });
        }
        let mut map = Map::default();
        let page = PAGE as u64 * 4;
        for (from, to) in store.data(MAP, MAP + header.capacity * 4)? {
            let first = (from - MAP) / page;
            let last = (to - MAP).div_ceil(page);
            for number in first..last {
                let mut bytes = vec![0; PAGE * 4];
                store.read_at(&mut bytes, MAP + number * page)?;
                map.load(usize::try_from(number).unwrap_or(0), &bytes);
            }
        }
        let mut replayed = BTreeSet::new();
        let old_epoch = header.epoch;
        if header.boot == boot {
            for epoch in [old_epoch, old_epoch.wrapping_add(1)] {
                for record in read_log(&store, epoch)? {
                    for step in 0..record.count {
                        let block = u64::from(record.block) + u64::from(step);
                        let entry = if is_data(record.entry) {
                            record.entry.saturating_add(step)
                        } else {
                            record.entry
                        };
                        map.set(block, entry);
                        replayed.insert(usize::try_from(block).unwrap_or(0) / PAGE);
                    }
                }
            }
        }
        let blocks = header.blocks();
        let used: Vec<u32> = map
            .entries()
            .filter(|(block, entry)| *block < blocks && is_data(*entry))
            .map(|(_, entry)| entry)
            .collect();
        let space = Space::from_used(used).ok_or(OverlayError::Damaged("two blocks share one place"))?;
        header.boot = boot;
        let disk = Disk::new(store, header, base, map, space);
        let mut state = disk.write_state();
        state.dirty = replayed;
        // What the log holds of these epochs must never count again.
        state.epoch = old_epoch.wrapping_add(2);
        drop(state);
        disk.commit(true)?;
        Ok(disk)
    }
}

pub(super) fn read_header<S: Store>(store: &S) -> Result<Header, OverlayError> {
    let mut slots = vec![0; 2 * HEADER];
    store.read_at(&mut slots, 0)?;
    let (first, second) = slots.split_at(HEADER);
    Header::choose(first, second).ok_or(OverlayError::Damaged("it has no header: not an overlay"))
}

fn read_log<S: Store>(store: &S, epoch: u32) -> io::Result<Vec<Record>> {
    let mut half = vec![0; usize::try_from(LOG_HALF).unwrap_or(0)];
    store.read_at(&mut half, Record::offset(epoch, 0))?;
    Ok(half.chunks_exact(RECORD).map_while(|bytes| Record::parse(bytes, epoch)).collect())
}
