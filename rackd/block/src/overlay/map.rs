//! Which block is where, in memory: pages that exist only where something is mapped.

use std::collections::BTreeSet;

use super::layout::{BASE, FIRST, PAGE, ZERO};

/// The map. A clone is a picture of it: pages are shared until they change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Map {
    pages: Vec<Option<std::sync::Arc<[u32; PAGE]>>>,
}

impl Map {
    pub(crate) fn get(&self, block: u64) -> u32 {
        let (page, at) = place(block);
        self.pages.get(page).and_then(Option::as_ref).and_then(|page| page.get(at)).copied().unwrap_or(BASE)
    }

    /// Returns what was there.
    pub(crate) fn set(&mut self, block: u64, entry: u32) -> u32 {
        let (page, at) = place(block);
        if self.pages.len() <= page {
            if entry == BASE {
                return BASE;
            }
            self.pages.resize(page + 1, None);
        }
        let Some(slot) = self.pages.get_mut(page) else { return BASE };
        let page = std::sync::Arc::make_mut(slot.get_or_insert_with(|| std::sync::Arc::new([BASE; PAGE])));
        page.get_mut(at).map_or(BASE, |old| std::mem::replace(old, entry))
    }

    pub(crate) fn load(&mut self, page: usize, bytes: &[u8]) {
        for (at, entry) in bytes.chunks_exact(4).enumerate().take(PAGE) {
            let entry = u32::from_le_bytes(entry.try_into().unwrap_or_default());
            if entry != BASE {
                self.set((page * PAGE + at) as u64, entry);
            }
        }
    }

    pub(crate) fn page_bytes(&self, page: usize) -> Vec<u8> {
        match self.pages.get(page).and_then(Option::as_ref) {
            Some(page) => page.iter().flat_map(|entry| entry.to_le_bytes()).collect(),
            None => vec![0; PAGE * 4],
        }
    }

    /// Everything that is not of the image below, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u64, u32)> {
        self.pages
            .iter()
            .enumerate()
            .filter_map(|(number, page)| Some((number, page.as_ref()?)))
            .flat_map(|(number, page)| {
                let first = (number * PAGE) as u64;
                page.iter().enumerate().map(move |(at, entry)| (first + at as u64, *entry))
            })
            .filter(|(_, entry)| *entry != BASE)
    }

    /// How far from `block` on (at most `max` blocks) entries are of one kind: data that follows itself,
    /// zeros, or the image below.
    pub(crate) fn run(&self, block: u64, max: u64) -> (u32, u64) {
        let entry = self.get(block);
        let mut len = 1;
        while len < max {
            let (page, at) = place(block + len);
            if entry == BASE && at == 0 && self.pages.get(page).is_none_or(Option::is_none) {
                len += PAGE as u64;
                continue;
            }
            let next = self.get(block + len);
            let follows = if entry >= FIRST {
                next.checked_sub(entry) == u32::try_from(len).ok()
            } else {
                next == entry
            };
            if !follows {
                break;
            }
            len += 1;
        }
        (entry, len.min(max.max(1)))
    }
}

fn place(block: u64) -> (usize, usize) {
    let block = usize::try_from(block).unwrap_or(usize::MAX);
    (block / PAGE, block % PAGE)
}

/// Blocks of the data area: which are free, and which will be.
#[derive(Debug, Default)]
pub(crate) struct Space {
    /// Entries that may be used again.
    free: Vec<u32>,
    /// The first entry that was never used.
    next: u32,
    /// Given up since the last commit began: the map on disk may still point to them.
    pub(crate) given_up: Vec<u32>,
    /// Kept for a picture that is being copied.
    pub(crate) kept: Vec<u32>,
}

impl Space {
    /// From all entries in use. `None`: two blocks share one.
    pub(crate) fn from_used(mut used: Vec<u32>) -> Option<Space> {
        used.sort_unstable();
        if used.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return None;
        }
        let next = used.last().map_or(FIRST, |last| last + 1);
        let used: BTreeSet<u32> = used.into_iter().collect();
        let mut free: Vec<u32> = (FIRST..next).filter(|entry| !used.contains(entry)).collect();
        // The lowest first, so that what follows itself on the disk follows itself here.
        free.reverse();
        Some(Space { free, next, given_up: Vec::new(), kept: Vec::new() })
    }

    pub(crate) fn take(&mut self) -> Option<u32> {
        if let Some(entry) = self.free.pop() {
            return Some(entry);
        }
        let entry = self.next.max(FIRST);
        self.next = entry.checked_add(1)?;
        Some(entry)
    }

    pub(crate) fn put_back(&mut self, entry: u32) {
        self.free.push(entry);
    }
}

pub(crate) fn is_data(entry: u32) -> bool {
    entry >= FIRST
}

pub(crate) fn is_zero(entry: u32) -> bool {
    entry == ZERO
}
