//! What a machine is made of: the part of it that is screwed together, not switched on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// Everything QEMU must know about a machine before it can be switched on.
#[derive(Debug, Clone)]
pub struct MachineSpec {
    /// Used in file names and as the SMBIOS serial number.
    pub name: String,
    /// The SMBIOS system UUID: what DHCP option 97 and the agent report.
    pub uuid: Uuid,
    pub architecture: Architecture,
    pub firmware: Firmware,
    /// UEFI runs signed programs only: Secure Boot with Microsoft's keys, and enforced.
    pub secure_boot: bool,
    pub memory_mib: u32,
    pub cpus: u8,
    /// In boot order.
    pub nics: Vec<NicSpec>,
    /// In boot order.
    pub disks: Vec<DiskSpec>,
    /// Where the machine's own files live: disks, UEFI variables, logs and sockets. It must exist;
    /// short, because a Unix socket's path has at most 107 bytes.
    pub dir: PathBuf,
    /// The network namespace the taps are in; QEMU runs inside it. `None` only without NICs.
    pub netns: Option<PathBuf>,
    /// Whether it has a CD drive, as BMCs pretend one; see [`super::Machine::set_cd`].
    pub cd_drive: bool,
    /// Where another program is the BMC that the machine itself sees, behind a KCS interface: OpenIPMI's `VM` protocol over
    /// TCP.
    pub system_interface: Option<SocketAddr>,
    /// Structures that the firmware's table has beside its own (SMBIOS, DSP0134 §6.1), each with its strings.
    pub smbios: Vec<Vec<u8>>,
    /// First boot device at the first power-on.
    pub boot: BootDevice,
    /// Further `-fw_cfg name=…,string=…` entries, as (name, string).
    pub fw_cfg: Vec<(String, String)>,
}

/// What its processor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Chipset Q35.
    X86_64,
    /// QEMU's `virt` board. Its firmware is UEFI (AAVMF), whatever a BMC asks for.
    Arm64,
}

impl Architecture {
    /// QEMU, and its Debian package.
    pub(super) fn qemu(self) -> (&'static str, &'static str) {
        match self {
            Self::X86_64 => ("qemu-system-x86_64", "qemu-system-x86"),
            Self::Arm64 => ("qemu-system-aarch64", "qemu-system-arm"),
        }
    }
}

/// What runs when the machine is switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS, with QEMU's iPXE in the option ROM of the first NIC.
    Bios,
    /// OVMF, which does PXE by itself (TFTP); no iPXE until one is downloaded.
    Uefi,
}

/// Where the firmware looks first; the other kinds stay behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootDevice {
    Network,
    Disk,
    /// The CD drive, where there is one.
    Cd,
}

/// A virtio network card on a tap.
#[derive(Debug, Clone)]
pub struct NicSpec {
    pub mac: String,
    /// Name of the tap inside the namespace.
    pub tap: String,
}

/// A disk, backed by a sparse raw file.
#[derive(Debug, Clone)]
pub struct DiskSpec {
    pub bus: DiskBus,
    /// Size in bytes of the file made when `path` does not exist.
    pub size: u64,
    pub serial: String,
    /// An existing file, used in place; `None`: `<dir>/disk<index>.raw`, made when absent.
    pub path: Option<PathBuf>,
}

/// How the disk is attached, and so which driver the guest needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskBus {
    VirtioBlk,
    Nvme,
    Ahci,
}

impl MachineSpec {
    /// A machine with 512 MiB, one CPU, no NIC and no disk, booting from the network first.
    pub fn new(name: &str, firmware: Firmware, dir: &Path) -> Self {
        Self {
            name: name.to_owned(),
            uuid: Uuid::new_v4(),
            architecture: Architecture::X86_64,
            firmware,
            secure_boot: false,
            memory_mib: 512,
            cpus: 1,
            nics: Vec::new(),
            disks: Vec::new(),
            dir: dir.to_owned(),
            netns: None,
            cd_drive: false,
            system_interface: None,
            smbios: Vec::new(),
            boot: BootDevice::Network,
            fw_cfg: Vec::new(),
        }
    }

    /// The raw file behind disk `index`, whether it exists yet or not.
    pub fn disk_path(&self, index: usize) -> PathBuf {
        match self.disks.get(index).and_then(|disk| disk.path.clone()) {
            Some(path) => path,
            None => self.dir.join(format!("disk{index}.raw")),
        }
    }

    /// Everything the guest wrote to its serial port, over all power-ons.
    pub fn serial_log(&self) -> PathBuf {
        self.dir.join("serial.log")
    }

    /// Unix socket of the serial port while the machine is on; QEMU serves one client at a time.
    pub fn serial_socket(&self) -> PathBuf {
        self.dir.join("serial.sock")
    }

    /// What QEMU itself complained about.
    pub fn qemu_log(&self) -> PathBuf {
        self.dir.join("qemu.log")
    }

    pub(super) fn qmp_socket(&self) -> PathBuf {
        self.dir.join("qmp.sock")
    }

    /// The file of one of [`Self::smbios`].
    pub(super) fn smbios_file(&self, index: usize) -> PathBuf {
        self.dir.join(format!("smbios{index}"))
    }

    pub(super) fn uefi_variables(&self) -> PathBuf {
        self.dir.join("vars.fd")
    }
}
