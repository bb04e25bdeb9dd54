//! A machine made of files: for tests, and by the thousand for the simulator.
use super::{BlockDevice, EfiVarDir, EfiVars, FileDisk, Machine};
use farrier_proto::types::{BootMode, Cpu, Disk, Hardware, Nic, System};
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A disk of a [`PretendMachine`]: what it claims to be and the file that holds it.
#[derive(Debug, Clone)]
pub struct PretendDisk {
    /// Backing file; created sparse when it is not there.
    pub path: PathBuf,
    /// What the hardware report says of it. `name` and `size_bytes` must be set.
    pub disk: Disk,
}

impl PretendDisk {
    /// A solid-state disk of 512-byte blocks called `/dev/<name>`, kept in `dir/<name>.raw`.
    pub fn new(dir: &Path, name: &str, size_bytes: u64) -> Self {
        Self {
            path: dir.join(format!("{name}.raw")),
            disk: Disk {
                name: format!("/dev/{name}"),
                size_bytes: i64::try_from(size_bytes).unwrap_or(i64::MAX),
                serial_number: format!("pretend-{name}"),
                model: "Farrier Pretend Disk".to_owned(),
                logical_block_bytes: 512,
                ..Disk::default()
            },
        }
    }
}

/// A machine whose disks and firmware variables are files and whose power switch is a flag.
#[derive(Debug)]
pub struct PretendMachine {
    hardware: Hardware,
    disks: Vec<PretendDisk>,
    efi_vars: Option<EfiVarDir>,
    boot_id: String,
    off: AtomicBool,
    restarted: AtomicBool,
}

impl PretendMachine {
    /// A BIOS machine called `name` with a NIC of address `mac`. Creates the disks' files.
    pub fn new(name: &str, mac: &str, disks: Vec<PretendDisk>) -> io::Result<Self> {
        for disk in &disks {
            let file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&disk.path)?;
            let size = u64::try_from(disk.disk.size_bytes).unwrap_or(0);
            if file.metadata()?.len() != size {
                file.set_len(size)?;
            }
        }
        let hardware = Hardware {
            system: Some(System {
                manufacturer: "Farrier".to_owned(),
                product: "Pretend Machine".to_owned(),
                serial_number: name.to_owned(),
                uuid: uuid::Uuid::new_v4().to_string(),
            }),
            cpu: Some(Cpu {
                architecture: "x86_64".to_owned(),
                model: "Pretend CPU".to_owned(),
                socket_count: 1,
                core_count: 4,
                thread_count: 8,
            }),
            memory_bytes: 16 << 30,
            disks: disks.iter().map(|d| d.disk.clone()).collect(),
            nics: vec![Nic {
                name: "eth0".to_owned(),
                mac_address: mac.to_owned(),
                link_up: true,
                speed_mbps: 10_000,
                driver: "pretend".to_owned(),
                neighbour: None,
            }],
            boot_mode: BootMode::Bios.into(),
            secure_boot: false,
            kernel_release: "pretend".to_owned(),
            own_bmc: None,
        };
        Ok(Self {
            hardware,
            disks,
            efi_vars: None,
            boot_id: uuid::Uuid::new_v4().to_string(),
            off: AtomicBool::new(false),
            restarted: AtomicBool::new(false),
        })
    }

    /// Makes it a UEFI machine whose variables live in `dir`, which must exist.
    #[must_use]
    pub fn with_efi_vars(mut self, dir: impl Into<PathBuf>) -> Self {
        self.efi_vars = Some(EfiVarDir::new(dir));
        self.hardware.boot_mode = BootMode::Uefi.into();
        self
    }

    /// Replaces the hardware report, except for the disks.
    #[must_use]
    pub fn with_hardware(mut self, hardware: Hardware) -> Self {
        let disks = std::mem::take(&mut self.hardware.disks);
        self.hardware = Hardware { disks, ..hardware };
        self
    }

    /// True after [`Machine::power_off`].
    pub fn is_off(&self) -> bool {
        self.off.load(Ordering::Acquire)
    }

    /// True after [`Machine::restart`].
    pub fn is_restarted(&self) -> bool {
        self.restarted.load(Ordering::Acquire)
    }
}

impl Machine for PretendMachine {
    fn hardware(&self) -> io::Result<Hardware> {
        Ok(self.hardware.clone())
    }

    fn open_disk(&self, name: &str) -> io::Result<Arc<dyn BlockDevice>> {
        let disk = self.disks.iter().find(|d| d.disk.name == name).ok_or(io::ErrorKind::NotFound)?;
        let size = u64::try_from(disk.disk.size_bytes).unwrap_or(0);
        let block = u32::try_from(disk.disk.logical_block_bytes).unwrap_or(512).max(512);
        Ok(Arc::new(FileDisk::open(&disk.path, size, block)?))
    }

    fn efi_vars(&self) -> Option<Arc<dyn EfiVars>> {
        self.efi_vars.clone().map(|v| Arc::new(v) as Arc<dyn EfiVars>)
    }

    fn boot_id(&self) -> String {
        self.boot_id.clone()
    }

    fn power_off(&self) -> io::Result<()> {
        self.off.store(true, Ordering::Release);
        Ok(())
    }

    fn restart(&self) -> io::Result<()> {
        self.restarted.store(true, Ordering::Release);
        Ok(())
    }
}
