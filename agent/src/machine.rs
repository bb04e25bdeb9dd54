//! The seam between what the agent does and what it does it to.
//!
//! [`Machine`] has two implementations: [`crate::linux::LinuxMachine`], the server the ramdisk booted
//! on, and [`PretendMachine`], a folder of sparse files, for tests and for the simulator's pretend nodes.

mod efivars;
mod file_disk;
mod pretend;

pub use efivars::{EfiVarDir, EfiVars, GLOBAL_GUID};
pub use file_disk::FileDisk;
pub use pretend::{PretendDisk, PretendMachine};

use farrier_proto::types::Hardware;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// A machine an agent serves. Calls may block for as long as the hardware does; the agent makes them
/// on blocking threads.
pub trait Machine: Send + Sync + 'static {
    /// What the machine is made of, read afresh.
    fn hardware(&self) -> io::Result<Hardware>;
    /// Since when it listens to what is at the other ends of its cables; `None`: it does not.
    fn listening_since(&self) -> Option<Instant> {
        None
    }
    /// Opens a disk by the name [`Machine::hardware`] gave it, for reading and writing.
    fn open_disk(&self, name: &str) -> io::Result<Arc<dyn BlockDevice>>;
    /// The firmware's variables; `None` when the machine booted with BIOS.
    fn efi_vars(&self) -> Option<Arc<dyn EfiVars>>;
    /// Changes with every boot, stays the same through every reconnection.
    fn boot_id(&self) -> String;
    /// Writes everything out and switches the machine off. On a real machine it does not return Ok.
    fn power_off(&self) -> io::Result<()>;
    /// Writes everything out and starts the machine again, from its firmware on. On a real machine it does not return Ok.
    fn restart(&self) -> io::Result<()>;
}

/// A disk. All offsets and lengths are in bytes; [`BlockDevice::unmap`] and [`BlockDevice::zero`] take
/// multiples of [`BlockDevice::block_bytes`], reads and writes any range inside the disk.
pub trait BlockDevice: Send + Sync {
    /// Size in bytes.
    fn size_bytes(&self) -> u64;
    /// Logical block size in bytes: 512 or 4096.
    fn block_bytes(&self) -> u32;
    /// Fills `buf` from `offset`; a short read is an error.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `data` at `offset`.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the range read back as zeros by giving the blocks back, which is quick. `Ok(false)`: this
    /// disk cannot promise that, nothing was done.
    fn unmap(&self, offset: u64, len: u64) -> io::Result<bool>;
    /// Makes the range read back as zeros, if need be by writing them.
    fn zero(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Waits until everything written is on the medium.
    fn sync(&self) -> io::Result<()>;
    /// Drops what the kernel remembers of the range, so that the next read asks the medium.
    fn forget_cached(&self, offset: u64, len: u64) -> io::Result<()>;
}
