//! A store that can lose what was not synced, sector by sector, and can stop at any write.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::disk::Disk;
use super::super::map::is_data;
use super::super::store::Store;

#[derive(Debug, Clone, Default)]
pub(super) struct SimulatedStore(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// Sectors as the process sees them.
    cached: BTreeMap<u64, [u8; SECTOR]>,
    /// What each sector may be after a power cut: the synced one first.
    versions: BTreeMap<u64, Vec<[u8; SECTOR]>>,
    durable: BTreeMap<u64, [u8; SECTOR]>,
    left: Option<usize>,
    /// How many fail when `left` is used up; then all is well again. `None`: all.
    failures: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Crash {
    AfterWrites(usize),
    /// So many writes fail after so many that did not, and the process goes on. Syncs do not fail.
    Passing {
        after: usize,
        failures: usize,
    },
}

impl SimulatedStore {
    pub(super) fn crash_after(&self, crash: Crash) {
        let (left, failures) = match crash {
            Crash::AfterWrites(count) => (count, None),
            Crash::Passing { after, failures } => (after, Some(failures)),
        };
        let mut inner = self.inner();
        (inner.left, inner.failures) = (Some(left), failures);
    }

    /// Runs on with what the page cache has.
    pub(super) fn killed(&self) {
        self.inner().left = None;
    }

    /// Each sector that was not synced becomes one of the values it had since.
    pub(super) fn power_cut(&self, seed: u64) {
        let mut inner = self.inner();
        let mut random = seed | 1;
        let versions = std::mem::take(&mut inner.versions);
        let mut durable = inner.durable.clone();
        for (sector, values) in versions {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let old = durable.get(&sector).copied().unwrap_or([0; SECTOR]);
            let choice = usize::try_from(random % (values.len() as u64 + 1)).expect("small");
            durable.insert(sector, if choice == 0 { old } else { values[choice - 1] });
        }
        inner.cached = durable.clone();
        inner.durable = durable;
        inner.left = None;
    }

    pub(super) fn check_no_shared_blocks(&self, disk: &Disk<SimulatedStore>) {
        let state = disk.read_state();
        let mut used: Vec<u32> =
            state.map.entries().map(|(_, entry)| entry).filter(|entry| is_data(*entry)).collect();
        let count = used.len();
        used.sort_unstable();
        used.dedup();
        assert_eq!(used.len(), count, "two blocks in one place");
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no panic")
    }
}

impl Inner {
    /// Counts a write; the one that is too much does not happen.
    fn step(&mut self) -> io::Result<()> {
        match &mut self.left {
            Some(0) => {
                if let Some(failures) = &mut self.failures {
                    if *failures == 0 {
                        (self.left, self.failures) = (None, None);
                        return Ok(());
                    }
                    *failures -= 1;
                }
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn put(&mut self, data: &[u8], offset: u64) {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let (sector, inside) = (at / SECTOR as u64, usize::try_from(at % SECTOR as u64).expect("small"));
            let part = (SECTOR - inside).min(data.len() - done);
            let mut value = self.cached.get(&sector).copied().unwrap_or([0; SECTOR]);
            value[inside..inside + part].copy_from_slice(&data[done..done + part]);
            self.cached.insert(sector, value);
            self.versions.entry(sector).or_default().push(value);
            done += part;
        }
    }
}

impl Store for SimulatedStore {
    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let inner = self.inner();
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let (sector, inside) = (at / SECTOR as u64, usize::try_from(at % SECTOR as u64).expect("small"));
            let part = (SECTOR - inside).min(buffer.len() - done);
            match inner.cached.get(&sector) {
                Some(value) => buffer[done..done + part].copy_from_slice(&value[inside..inside + part]),
                None => buffer[done..done + part].fill(0),
            }
            done += part;
        }
        Ok(())
    }

    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_at(buffer, offset)
    }

    /// A crash in the middle of a long write leaves its first half.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.inner();
        if inner.left == Some(0) && data.len() > SECTOR {
            let half = data.len() / 2 / SECTOR * SECTOR;
            inner.put(&data[..half], offset);
        }
        inner.step()?;
        inner.put(data, offset);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.inner();
        if inner.failures.is_none() {
            inner.step()?;
        }
        for sector in std::mem::take(&mut inner.versions).into_keys() {
            if let Some(value) = inner.cached.get(&sector).copied() {
                inner.durable.insert(sector, value);
            }
        }
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut inner = self.inner();
        inner.step()?;
        inner.put(&vec![0; usize::try_from(len).expect("small")], offset);
        Ok(())
    }

    fn data(&self, offset: u64, end: u64) -> io::Result<Vec<(u64, u64)>> {
        Ok(vec![(offset, end)])
    }

    fn space(&self) -> io::Result<u64> {
        Ok((self.inner().cached.len() * SECTOR) as u64)
    }
}

const SECTOR: usize = 512;
