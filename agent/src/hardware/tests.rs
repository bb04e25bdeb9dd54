//! Fixture trees are written by the test: small, readable, and the shape of real ones
//! (QEMU q35 with virtio, NVMe and AHCI disks; paths from the kernel's own sysfs).
use super::*;
use farrier_proto::types::{Disk, Nic};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    fn link(&self, path: &str, target: PathBuf) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// A disk at `device` below sys/devices, with its link in sys/block.
    fn disk(&self, device: &str, sectors: u64, attributes: &[(&str, &str)]) {
        let name = device.rsplit('/').next().unwrap();
        self.file(&format!("sys/devices/{device}/size"), format!("{sectors}\n"));
        for (file, value) in attributes {
            self.file(&format!("sys/devices/{device}/{file}"), format!("{value}\n"));
        }
        self.link(&format!("sys/block/{name}"), self.root().join("sys/devices").join(device));
    }
}

fn disk_named<'a>(disks: &'a [Disk], name: &str) -> &'a Disk {
    disks.iter().find(|d| d.name == name).unwrap()
}

#[test]
fn disks_of_every_bus_are_read_and_named_by_path() {
    let tree = Tree::new();
    let pci = "pci0000:00/0000:00";
    tree.disk(
        &format!("{pci}:03.0/virtio0/block/vda"),
        2_097_152,
        &[("serial", "v-1"), ("queue/rotational", "1")],
    );
    tree.disk(
        &format!("{pci}:1c.0/0000:01:00.0/nvme/nvme0/nvme0n1"),
        4_194_304,
        &[
            ("nsid", "1"),
            ("wwid", "eui.0025385B71B0D1F2"),
            ("device/serial", "S4X  "),
            ("device/model", "SAMSUNG MZ "),
            ("queue/rotational", "0"),
            ("queue/logical_block_size", "4096"),
        ],
    );
    let sda = format!("{pci}:1f.2/ata3/host2/target2:0:0/2:0:0:0/block/sda");
    tree.disk(&sda, 8, &[("device/model", "QEMU HARDDISK"), ("device/wwid", "naa.5000c500a1b2c3d4")]);
    tree.file(&format!("sys/devices/{sda}/device/vpd_pg80"), b"\x00\x80\x00\x04ZA12garbage");
    tree.file(&format!("sys/devices/{pci}:1f.2/ata3/ata_port/ata3/port_no"), "3\n");
    tree.disk(&format!("{pci}:05.0/virtio2/host0/target0:0:1/0:0:1:0/block/sdb"), 8, &[]);
    tree.disk(&format!("{pci}:1d.7/usb1/1-2/1-2:1.0/host6/target6:0:0/6:0:0:0/block/sdc"), 8, &[]);

    let disks = disks(tree.root());
    let by_path: Vec<_> = disks.iter().map(|d| (d.name.as_str(), d.by_path.as_str())).collect();
    assert_eq!(
        by_path,
        [
            ("/dev/nvme0n1", "pci-0000:01:00.0-nvme-1"),
            ("/dev/sda", "pci-0000:00:1f.2-ata-3"),
            ("/dev/sdb", "pci-0000:00:05.0-scsi-0:0:1:0"),
            ("/dev/sdc", "pci-0000:00:1d.7-usb-0:2:1.0-scsi-0:0:0:0"),
            ("/dev/vda", "pci-0000:00:03.0"),
        ]
    );
    let vda = disk_named(&disks, "/dev/vda");
    assert_eq!((vda.size_bytes, vda.serial_number.as_str(), vda.rotational), (1 << 30, "v-1", true));
    let nvme = disk_named(&disks, "/dev/nvme0n1");
    assert_eq!((nvme.serial_number.as_str(), nvme.model.as_str()), ("S4X", "SAMSUNG MZ"));
    assert_eq!((nvme.wwn.as_str(), nvme.logical_block_bytes), ("0025385b71b0d1f2", 4096));
    let sda = disk_named(&disks, "/dev/sda");
    assert_eq!((sda.serial_number.as_str(), sda.wwn.as_str()), ("ZA12", "5000c500a1b2c3d4"));
}

#[test]
fn what_is_no_disk_is_left_out() {
    let tree = Tree::new();
    for name in ["loop0", "ram1", "zram0", "sr0", "fd0", "dm-0", "md127", "nbd3", "mmcblk0boot0"] {
        tree.disk(&format!("virtual/block/{name}"), 100, &[]);
    }
    tree.disk("virtual/block/sda", 0, &[]);
    tree.disk("virtual/block/sdb", 8, &[("ro", "1")]);
    tree.disk("virtual/block/nvme0c0n1", 8, &[("hidden", "1")]);
    tree.disk("virtual/block/mmcblk0", 8, &[("ro", "0")]);
    let names: Vec<_> = disks(tree.root()).into_iter().map(|d| d.name).collect();
    assert_eq!(names, ["/dev/mmcblk0"]);
}

#[test]
fn nics_report_carrier_speed_and_driver() {
    let tree = Tree::new();
    let net = "sys/class/net";
    tree.file(&format!("{net}/lo/type"), "772\n");
    tree.file(&format!("{net}/eno1/type"), "1\n")
        .file(&format!("{net}/eno1/address"), "52:54:00:AB:CD:01\n")
        .file(&format!("{net}/eno1/carrier"), "1\n")
        .file(&format!("{net}/eno1/speed"), "25000\n");
    tree.link(&format!("{net}/eno1/device/driver"), PathBuf::from("../../bus/pci/drivers/mlx5_core"));
    tree.file(&format!("{net}/eno2/type"), "1\n")
        .file(&format!("{net}/eno2/address"), "52:54:00:ab:cd:02\n")
        .file(&format!("{net}/eno2/speed"), "-1\n")
        .file(&format!("{net}/eno2/device/x"), "");
    assert_eq!(
        nics(tree.root()),
        [
            Nic {
                name: "eno1".into(),
                mac_address: "52:54:00:ab:cd:01".into(),
                link_up: true,
                speed_mbps: 25_000,
                driver: "mlx5_core".into(),
                neighbour: None,
            },
            Nic { name: "eno2".into(), mac_address: "52:54:00:ab:cd:02".into(), ..Nic::default() },
        ]
    );
    assert_eq!(nic_by_mac(tree.root(), [0x52, 0x54, 0, 0xab, 0xcd, 2]).as_deref(), Some("eno2"));
    assert_eq!(nic_by_mac(tree.root(), [0; 6]), None);
}

#[test]
fn system_memory_firmware_and_processors() {
    let tree = Tree::new();
    tree.file("sys/class/dmi/id/sys_vendor", "Dell Inc.  \n")
        .file("sys/class/dmi/id/product_name", "PowerEdge R640\0\0\n")
        .file("sys/class/dmi/id/product_uuid", "4C4C4544-0042-3510-8052-B4C04F385931\n")
        .file("proc/meminfo", "MemTotal:       16384 kB\nMemFree: 1 kB\n")
        .file("proc/sys/kernel/osrelease", "6.1.0-50-amd64\n")
        .file(&format!("sys/firmware/efi/efivars/SecureBoot-{GLOBAL_GUID}"), [6, 0, 0, 0, 1])
        .file(
            "proc/cpuinfo",
            (0..8)
                .map(|n| format!("processor\t: {n}\nmodel name\t: Xeon Gold\nphysical id\t: 0\n\n"))
                .collect::<String>(),
        );
    for cpu in 0..8 {
        let dir = format!("sys/devices/system/cpu/cpu{cpu}/topology");
        tree.file(&format!("{dir}/physical_package_id"), format!("{}\n", cpu / 4));
        tree.file(&format!("{dir}/core_id"), format!("{}\n", cpu % 2));
    }
    tree.file("sys/devices/system/cpu/cpufreq/topology/physical_package_id", "9\n");

    let hardware = inspect(tree.root());
    let system = hardware.system.unwrap();
    assert_eq!((system.manufacturer.as_str(), system.product.as_str()), ("Dell Inc.", "PowerEdge R640"));
    assert_eq!(system.uuid, "4c4c4544-0042-3510-8052-b4c04f385931");
    assert_eq!(hardware.memory_bytes, 16 << 20);
    assert!(hardware.secure_boot);
    assert_eq!(hardware.boot_mode, i32::from(BootMode::Uefi));
    assert_eq!(hardware.kernel_release, "6.1.0-50-amd64");
    let cpu = hardware.cpu.unwrap();
    assert_eq!((cpu.socket_count, cpu.core_count, cpu.thread_count), (2, 4, 8));
    assert_eq!(cpu.model, "Xeon Gold");
}

#[test]
fn arm_processors_have_numbers_for_names() {
    let tree = Tree::new();
    tree.file(
        "proc/cpuinfo",
        "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n\nprocessor\t: 1\n",
    );
    let cpu = cpu::cpu(tree.root(), "aarch64");
    assert_eq!(cpu.model, "implementer 0x41 part 0xd0c");
    assert_eq!((cpu.socket_count, cpu.core_count, cpu.thread_count), (1, 2, 2));
}

#[test]
fn an_empty_tree_is_a_machine_of_which_nothing_is_known() {
    let tree = Tree::new();
    let hardware = inspect(tree.root());
    assert!(hardware.disks.is_empty() && hardware.nics.is_empty());
    assert_eq!(hardware.boot_mode, i32::from(BootMode::Bios));
}

proptest::proptest! {
    #[test]
    fn no_attribute_makes_it_panic(raw: Vec<u8>) {
        let tree = Tree::new();
        tree.file("proc/cpuinfo", &raw).file("proc/meminfo", &raw);
        tree.disk("pci0000:00/0000:00:03.0/ata1/host0/x/y/block/sda", 8, &[]);
        let dir = "sys/devices/pci0000:00/0000:00:03.0/ata1/host0/x/y/block/sda";
        for file in ["device/vpd_pg80", "device/wwid", "serial", "device/model", "queue/logical_block_size"] {
            tree.file(&format!("{dir}/{file}"), &raw);
        }
        let _ = inspect(tree.root());
    }
}
