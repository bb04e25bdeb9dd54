//! [`Machine`] on the kernel's own interfaces.
use super::neighbours::Neighbours;
use super::network::index_of;
use super::own_bmc::OwnBmcs;
use crate::hardware;
use crate::machine::{BlockDevice, EfiVarDir, EfiVars, FileDisk, Machine};
use farrier_proto::types::Hardware;
use rustix::system::{RebootCommand, reboot};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The machine the program runs on.
#[derive(Debug)]
pub struct LinuxMachine {
    /// `None`: the kernel has no packet sockets.
    neighbours: Option<Neighbours>,
    own_bmc: OwnBmcs,
}

impl LinuxMachine {
    /// With what hears its neighbours.
    #[must_use]
    pub fn new(neighbours: Option<Neighbours>) -> Self {
        Self { neighbours, own_bmc: OwnBmcs::default() }
    }
}

impl Machine for LinuxMachine {
    fn hardware(&self) -> io::Result<Hardware> {
        let mut hardware = hardware::inspect(Path::new("/"));
        if let Some(neighbours) = &self.neighbours {
            for nic in &mut hardware.nics {
                nic.neighbour = index_of(&nic.name).and_then(|index| neighbours.at(index));
            }
        }
        self.own_bmc.look(&mut hardware.own_bmc);
        Ok(hardware)
    }

    fn listening_since(&self) -> Option<Instant> {
        self.neighbours.as_ref().map(Neighbours::since)
    }

    fn open_disk(&self, name: &str) -> io::Result<Arc<dyn BlockDevice>> {
        let disks = hardware::disks(Path::new("/"));
        let disk = disks.iter().find(|d| d.name == name).ok_or(io::ErrorKind::NotFound)?;
        let size = u64::try_from(disk.size_bytes).unwrap_or(0);
        let block = u32::try_from(disk.logical_block_bytes).unwrap_or(512);
        let open = FileDisk::open(Path::new(name), size, block)?;
        Ok(Arc::new(if discards(name) { open } else { open.without_unmap() }))
    }

    fn efi_vars(&self) -> Option<Arc<dyn EfiVars>> {
        // Without efivarfs the folder is empty and writing to it fails, which is the right answer: a
        // machine that booted with UEFI needs its boot entry.
        Path::new("/sys/firmware/efi")
            .exists()
            .then(|| Arc::new(EfiVarDir::new("/sys/firmware/efi/efivars")) as Arc<dyn EfiVars>)
    }

    fn boot_id(&self) -> String {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().to_owned()
    }

    fn power_off(&self) -> io::Result<()> {
        rustix::fs::sync();
        Ok(reboot(RebootCommand::PowerOff)?)
    }

    fn restart(&self) -> io::Result<()> {
        rustix::fs::sync();
        Ok(reboot(RebootCommand::Restart)?)
    }
}

/// Zero means no discard (Linux Documentation/ABI/stable/sysfs-block).
fn discards(name: &str) -> bool {
    let kernel_name = name.trim_start_matches("/dev/").replace('/', "!");
    let path = format!("/sys/block/{kernel_name}/queue/discard_max_bytes");
    std::fs::read_to_string(path).is_ok_and(|text| text.trim().parse::<u64>().is_ok_and(|n| n > 0))
}
