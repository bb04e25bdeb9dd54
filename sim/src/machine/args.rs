//! The QEMU command line of a machine: a pure function, so that it can be read and tested.

use super::spec::{Architecture, BootDevice, DiskBus, Firmware, MachineSpec};

/// Arguments for the QEMU of its architecture, with `boot` first.
pub(super) fn arguments(
    spec: &MachineSpec,
    firmware: Firmware,
    boot: BootDevice,
    cd: Option<&str>,
) -> Vec<String> {
    let mut args = Args(Vec::new());
    // KVM exists on the lab's hosts but guests hang under it: never let QEMU choose.
    args.push("-accel", "tcg,thread=multi");
    let uefi = is_uefi(spec, firmware);
    let smm = uefi && spec.secure_boot && spec.architecture == Architecture::X86_64;
    // Without graphics SeaBIOS and iPXE talk on the serial port.
    let board = match spec.architecture {
        Architecture::X86_64 if smm => "q35,graphics=off,smm=on",
        Architecture::X86_64 => "q35,graphics=off",
        Architecture::Arm64 => "virt",
    };
    args.push("-machine", board);
    if smm {
        // Only the firmware itself, in system management mode, writes its variables.
        args.push("-global", "driver=cfi.pflash01,property=secure,value=on");
    }
    args.flag("-nodefaults").flag("-no-user-config");
    args.push("-display", "none");
    // The newest features of Arm cost emulation dearly (pointer authentication for one), and nothing here wants them.
    let cpu = match spec.architecture {
        Architecture::X86_64 => "max",
        Architecture::Arm64 => "cortex-a57",
    };
    args.push("-cpu", cpu);
    args.push("-name", &format!("{},process=farrier-lab", spec.name));
    args.push("-uuid", &spec.uuid.to_string());
    args.push(
        "-smbios",
        &format!("type=1,manufacturer=Farrier,product=Lab,serial={},uuid={}", spec.name, spec.uuid),
    );
    for index in 0..spec.smbios.len() {
        args.push("-smbios", &format!("file={}", spec.smbios_file(index).display()));
    }
    args.push("-m", &spec.memory_mib.to_string());
    args.push("-smp", &spec.cpus.to_string());
    args.push("-device", "virtio-rng-pci");
    // We listen on the QMP socket and QEMU connects: no guessing when it is ready.
    args.push("-chardev", &format!("socket,id=qmp,path={}", spec.qmp_socket().display()));
    args.push("-mon", "chardev=qmp,mode=control");
    args.push(
        "-chardev",
        &format!(
            "socket,id={SERIAL},path={},server=on,wait=off,logfile={},logappend=on",
            spec.serial_socket().display(),
            spec.serial_log().display()
        ),
    );
    args.push("-serial", &format!("chardev:{SERIAL}"));
    if uefi {
        let (code, _) = self::uefi(spec);
        args.push("-drive", &format!("if=pflash,format=raw,unit=0,readonly=on,file={code}"));
        args.push("-drive", &format!("if=pflash,format=raw,unit=1,file={}", spec.uefi_variables().display()));
        // PXE by IPv6 would be tried, and waited for, on every network boot.
        args.push("-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n");
    }
    for (name, string) in &spec.fw_cfg {
        args.push("-fw_cfg", &format!("name={name},string={string}"));
    }
    let order = boot_indexes(spec, boot);
    for (index, nic) in spec.nics.iter().enumerate() {
        // OVMF would run the iPXE in the option ROM; an empty one makes it use its own PXE.
        let rom = if uefi { ",romfile=" } else { "" };
        args.push("-netdev", &format!("tap,id=hub{index},ifname={},script=no,downscript=no", nic.tap));
        let boot = bootindex(&order, &nic_id(index));
        args.push(
            "-device",
            &format!("virtio-net-pci,id={},netdev=hub{index},mac={}{boot}{rom}", nic_id(index), nic.mac),
        );
    }
    let mut ahci_ports = 0_u8..;
    for (index, disk) in spec.disks.iter().enumerate() {
        // The disks die with the machine's directory: flushing them to the host's disk buys nothing.
        args.push(
            "-drive",
            &format!(
                "if=none,id=drive{index},format=raw,cache=unsafe,discard=unmap,file={}",
                spec.disk_path(index).display()
            ),
        );
        let device = match disk.bus {
            DiskBus::VirtioBlk => "virtio-blk-pci".to_owned(),
            DiskBus::Nvme => "nvme".to_owned(),
            DiskBus::Ahci => format!("ide-hd,bus=ide.{}", ahci_ports.next().unwrap_or(0)),
        };
        let id = disk_id(index);
        let boot = bootindex(&order, &id);
        args.push("-device", &format!("{device},id={id},drive=drive{index},serial={}{boot}", disk.serial));
    }
    if spec.cd_drive {
        // An empty drive; or one whose disc QEMU reads from its URL, sector by sector, as a BMC does.
        let bus = match spec.architecture {
            Architecture::X86_64 => "ide-cd,bus=ide.5",
            Architecture::Arm64 => {
                args.push("-device", "virtio-scsi-pci,id=scsi");
                "scsi-cd,bus=scsi.0"
            }
        };
        let mut device = format!("{bus},id={CD}{}", bootindex(&order, CD));
        if let Some(url) = cd {
            args.push("-drive", &format!("if=none,id=disc,format=raw,readonly=on,media=cdrom,file={url}"));
            device.push_str(",drive=disc");
        }
        args.push("-device", &device);
    }
    if let Some(at) = spec.system_interface {
        args.push("-chardev", &format!("socket,id=kcs,host={},port={},reconnect=1", at.ip(), at.port()));
        args.push("-device", "ipmi-bmc-extern,id=own,chardev=kcs");
        args.push("-device", "isa-ipmi-kcs,bmc=own");
    }
    args.0
}

/// Device ids with their boot index: the wanted kind first, the others after it; a CD only where it is wanted.
pub(super) fn boot_indexes(spec: &MachineSpec, boot: BootDevice) -> Vec<(String, usize)> {
    let nics = (0..spec.nics.len()).map(nic_id);
    let disks = (0..spec.disks.len()).map(disk_id);
    let ids: Vec<String> = match boot {
        BootDevice::Network => nics.chain(disks).collect(),
        BootDevice::Disk => disks.chain(nics).collect(),
        BootDevice::Cd => spec.cd_drive.then(|| CD.to_owned()).into_iter().chain(disks).chain(nics).collect(),
    };
    ids.into_iter().enumerate().map(|(index, id)| (id, index)).collect()
}

/// All devices that may have a boot index.
pub(super) fn bootable(spec: &MachineSpec) -> Vec<String> {
    let cd = spec.cd_drive.then(|| CD.to_owned());
    (0..spec.nics.len()).map(nic_id).chain((0..spec.disks.len()).map(disk_id)).chain(cd).collect()
}

fn bootindex(order: &[(String, usize)], id: &str) -> String {
    match order.iter().find(|(device, _)| device == id) {
        Some((_, index)) => format!(",bootindex={index}"),
        None => String::new(),
    }
}

fn nic_id(index: usize) -> String {
    format!("nic{index}")
}

fn disk_id(index: usize) -> String {
    format!("disk{index}")
}

struct Args(Vec<String>);

impl Args {
    fn push(&mut self, option: &str, value: &str) {
        self.0.push(option.to_owned());
        self.0.push(value.to_owned());
    }

    fn flag(&mut self, option: &str) -> &mut Self {
        self.0.push(option.to_owned());
        self
    }
}

/// The CD drive's device id, by which QMP knows it too.
pub(super) const CD: &str = "cd0";
/// QEMU's name for the other end of the serial port.
pub(super) const SERIAL: &str = "ser";

/// Whether UEFI runs: there is no BIOS for Arm.
pub(super) fn is_uefi(spec: &MachineSpec, firmware: Firmware) -> bool {
    firmware == Firmware::Uefi || spec.architecture == Architecture::Arm64
}

/// The firmware of Debian's `ovmf` and `qemu-efi-aarch64`, and its variables as the factory leaves them; every machine has its own
/// copy.
pub(super) fn uefi(spec: &MachineSpec) -> (&'static str, &'static str) {
    match (spec.architecture, spec.secure_boot) {
        (Architecture::X86_64, true) => {
            ("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd")
        }
        (Architecture::X86_64, false) => {
            ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd")
        }
        (Architecture::Arm64, true) => {
            ("/usr/share/AAVMF/AAVMF_CODE.ms.fd", "/usr/share/AAVMF/AAVMF_VARS.ms.fd")
        }
        (Architecture::Arm64, false) => ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::spec::{DiskSpec, NicSpec};
    use std::path::Path;

    fn spec() -> MachineSpec {
        let mut spec = MachineSpec::new("m", Firmware::Bios, Path::new("/d"));
        spec.nics.push(NicSpec { mac: "52:54:00:00:00:01".into(), tap: "tap0".into() });
        for bus in [DiskBus::VirtioBlk, DiskBus::Ahci] {
            spec.disks.push(DiskSpec { bus, size: 1, serial: "s".into(), path: None });
        }
        spec
    }

    #[test]
    fn the_wanted_kind_of_device_comes_first_and_no_index_is_used_twice() {
        let order = |boot| boot_indexes(&spec(), boot).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(order(BootDevice::Network), ["nic0", "disk0", "disk1"]);
        assert_eq!(order(BootDevice::Disk), ["disk0", "disk1", "nic0"]);
    }

    #[test]
    fn an_arm64_machine_has_uefi_whatever_a_bmc_asks_for() {
        let mut spec = spec();
        (spec.architecture, spec.secure_boot) = (Architecture::Arm64, true);
        for firmware in [Firmware::Bios, Firmware::Uefi] {
            let args = arguments(&spec, firmware, BootDevice::Network, None).join(" ");
            assert!(args.contains("-machine virt ") && args.contains("AAVMF_CODE.ms.fd"), "{args}");
            assert!(!args.contains("smm") && !args.contains("q35"), "{args}");
        }
    }

    #[test]
    fn only_uefi_machines_lose_the_option_rom() {
        let has_rom = |firmware| {
            arguments(&spec(), firmware, BootDevice::Disk, None).iter().any(|a| a.ends_with("romfile="))
        };
        assert!(has_rom(Firmware::Uefi));
        assert!(!has_rom(Firmware::Bios));
    }
}
