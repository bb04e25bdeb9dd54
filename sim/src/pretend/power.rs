//! Power for one boot, and a disk that writes only while there is some.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use farrier_agent::Machine;
use farrier_agent::machine::{BlockDevice, EfiVars, PretendMachine};
use farrier_proto::types::Hardware;
use tokio_util::sync::CancellationToken;

use super::mishaps::{Fate, Mishaps};
use super::observe::{Diary, Event};

/// A write may be cut short after any so many bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// From power-on to power-off.
pub(super) struct Supply {
    on: RwLock<bool>,
    /// Cancelled when power is gone.
    pub(super) cut: CancellationToken,
    /// Cancelled when the power button was pressed.
    pub(super) button: CancellationToken,
    /// Cancelled when the ramdisk crashed.
    pub(super) crashed: CancellationToken,
    written: AtomicU64,
    stalled: AtomicBool,
    fate: Arc<Fate>,
    diary: Arc<Diary>,
}

impl Supply {
    pub(super) fn new(fate: Arc<Fate>, diary: Arc<Diary>) -> Self {
        Self {
            on: RwLock::new(true),
            cut: CancellationToken::new(),
            button: CancellationToken::new(),
            crashed: CancellationToken::new(),
            written: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
            fate,
            diary,
        }
    }

    /// Takes power away. When this returns nothing of this boot writes to the disk any more, also no
    /// thread that nobody waits for.
    pub(super) fn cut(&self) {
        *self.on.write().unwrap_or_else(PoisonError::into_inner) = false;
        self.cut.cancel();
        self.fate.nudge();
    }

    /// Does something to the disk, if there is power. `bytes` are what it writes.
    fn change(&self, bytes: u64, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        // Taken before the write, in one go: several threads write at once, and together never beyond a limit.
        let total = self.written.fetch_add(bytes, Ordering::AcqRel).saturating_add(bytes);
        let stalls = |mishaps: &Mishaps| mishaps.stall_after_bytes.is_some_and(|limit| total > limit);
        if stalls(&self.fate.now()) && !self.stalled.swap(true, Ordering::AcqRel) {
            self.diary.note(Event::Struck("stall_after_bytes"));
        }
        self.fate.wait_while(|mishaps| stalls(mishaps) && !self.cut.is_cancelled());
        if bytes > 0 && self.fate.now().die_after_bytes.is_some_and(|limit| total > limit) {
            self.crashed.cancel();
            // A crashed kernel reports nothing: the write never comes back.
            self.fate.wait_while(|_| !self.cut.is_cancelled());
        }
        let on = self.on.read().unwrap_or_else(PoisonError::into_inner);
        if !*on {
            return Err(io::Error::other("the machine has no power"));
        }
        act()?;
        self.diary.wrote(bytes);
        Ok(())
    }
}

/// A [`PretendMachine`] that lives as long as its power.
pub(super) struct PoweredMachine {
    pub(super) inner: PretendMachine,
    pub(super) supply: Arc<Supply>,
}

impl Machine for PoweredMachine {
    fn hardware(&self) -> io::Result<Hardware> {
        self.inner.hardware()
    }

    fn open_disk(&self, name: &str) -> io::Result<Arc<dyn BlockDevice>> {
        let disk = self.inner.open_disk(name)?;
        Ok(Arc::new(PoweredDisk { disk, supply: Arc::clone(&self.supply) }))
    }

    fn efi_vars(&self) -> Option<Arc<dyn EfiVars>> {
        self.inner.efi_vars()
    }

    fn boot_id(&self) -> String {
        self.inner.boot_id()
    }

    fn power_off(&self) -> io::Result<()> {
        self.inner.power_off()
    }

    fn restart(&self) -> io::Result<()> {
        self.inner.restart()
    }
}

struct PoweredDisk {
    disk: Arc<dyn BlockDevice>,
    supply: Arc<Supply>,
}

impl BlockDevice for PoweredDisk {
    fn size_bytes(&self) -> u64 {
        self.disk.size_bytes()
    }

    fn block_bytes(&self) -> u32 {
        self.disk.block_bytes()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.read_at(buf, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut at = offset;
        for piece in data.chunks(PIECE_BYTES) {
            let bytes = piece.len() as u64;
            self.supply.change(bytes, || self.disk.write_at(piece, at))?;
            at += bytes;
        }
        Ok(())
    }

    fn unmap(&self, offset: u64, len: u64) -> io::Result<bool> {
        let mut done = false;
        self.supply.change(0, || {
            done = self.disk.unmap(offset, len)?;
            Ok(())
        })?;
        Ok(done)
    }

    fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        self.supply.change(0, || self.disk.zero(offset, len))
    }

    // A disk in a test's directory dies with the test: flushing it to the host's disk buys nothing, and
    // hundreds of nodes would queue for it.
    fn sync(&self) -> io::Result<()> {
        self.supply.change(0, || Ok(()))
    }

    fn forget_cached(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
}
