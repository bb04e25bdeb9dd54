//! A machine without a disk boots the ramdisk from the network, on both kinds of firmware, from
//! stock servers: the network, the machine and the media fit before our own netboot exists.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::Path;
use std::time::Instant;

use common::{BOOT, Dnsmasq, http, rack, slot};
use farrier_sim::machine::{BootDevice, DiskBus, DiskSpec, Firmware, Machine};
use farrier_sim::media::cpio::Archive;
use farrier_sim::media::{KernelFlavour, MediaStore};

/// Stands in for the agent: loads the modules by the contract, gets a lease, calls the rack.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc && mount -t sysfs sysfs /sys && mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do insmod "$module" 2>/dev/null; done
ip link set eth0 up
udhcpc -q -n -t 20 -T 1 -i eth0 -s /bin/lease > /dev/null
wget -q -O /dev/null --post-data "disks=$(ls /sys/block | tr '\n' ' ')" http://10.90.0.1:8080/up
echo RAMDISK-UP uptime=$(cut -d' ' -f1 /proc/uptime) > /dev/console
poweroff -f
"#;
const LEASE: &str = "#!/bin/sh\n[ \"$1\" = bound ] && ip address add $ip/24 dev eth0\nexit 0\n";

#[tokio::test]
async fn a_bios_machine_boots_the_ramdisk_over_http() {
    // The iPXE in the NIC's ROM takes a script by HTTP straight away.
    network_boot(Firmware::Bios, KernelFlavour::Cloud, DiskBus::VirtioBlk, "vda").await;
}

#[tokio::test]
async fn a_uefi_machine_boots_the_ramdisk_by_tftp_and_then_http() {
    network_boot(Firmware::Uefi, KernelFlavour::Cloud, DiskBus::Nvme, "nvme0n1").await;
}

#[tokio::test]
async fn the_generic_kernel_finds_a_sata_disk() {
    network_boot(Firmware::Bios, KernelFlavour::Generic, DiskBus::Ahci, "sda").await;
}

/// A name that the kernel does not have would be left out in silence.
#[test]
fn every_driver_of_the_ramdisk_is_one_of_debians_kernel() {
    let store = MediaStore::of_workspace().unwrap();
    let kernel = store.kernel(KernelFlavour::Generic).unwrap();
    let unknown: Vec<_> = MediaStore::ramdisk_modules().iter().filter(|module| !kernel.has(module)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let further = |name: &str| {
        store.ramdisk_with(Path::new("/bin/busybox"), KernelFlavour::Generic, &[name.to_owned()])
    };
    let refused = further("no_such_driver").unwrap_err().to_string();
    assert!(refused.contains("no_such_driver") && refused.contains("no module of this kernel"), "{refused}");
    let (with, without) = (further("usb-storage").unwrap(), further("sd_mod").unwrap());
    let size = |ramdisk: &farrier_sim::media::Ramdisk| std::fs::metadata(&ramdisk.initrd).unwrap().len();
    assert!(size(&with) > size(&without));
}

async fn network_boot(firmware: Firmware, flavour: KernelFlavour, bus: DiskBus, disk: &str) {
    let _slot = slot().await;
    let rack = rack();
    let store = MediaStore::of_workspace().unwrap();
    let ramdisk = store.ramdisk(Path::new("/bin/busybox"), flavour).unwrap();
    let kernel = std::fs::read(&ramdisk.kernel).unwrap();
    let mut initrd = std::fs::read(&ramdisk.initrd).unwrap();
    assert!(initrd.len() < 25 << 20);
    // A second archive behind the first replaces its /init; archives begin at multiples of four.
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    let mut stand_in = Archive::new();
    stand_in.file("bin/busybox", 0o755, &std::fs::read("/bin/busybox").unwrap());
    stand_in.file("bin/lease", 0o755, LEASE.as_bytes()).file("init", 0o755, INIT.as_bytes());
    initrd.extend(stand_in.finish());

    let script = "#!ipxe\nkernel http://10.90.0.1:8080/vmlinuz initrd=initrd console=ttyS0 quiet\n\
                  initrd http://10.90.0.1:8080/initrd\nboot\n";
    let posts = http(&rack, "10.90.0.1:8080", move |path| match path {
        "/boot.ipxe" => Some(script.into()),
        "/vmlinuz" => Some(kernel.clone()),
        "/initrd" => Some(initrd.clone()),
        _ => None,
    });
    let options = [
        "--dhcp-match=set:ipxe,175",
        "--dhcp-boot=tag:ipxe,http://10.90.0.1:8080/boot.ipxe",
        "--dhcp-boot=tag:!ipxe,snponly.efi",
        "--enable-tftp",
        "--tftp-root=/usr/lib/ipxe",
    ];
    let _dnsmasq = Dnsmasq::start(&rack, &options.map(str::to_owned));

    let (mut spec, _tap) = rack.machine_spec(1, firmware).unwrap();
    spec.boot = BootDevice::Network;
    spec.disks.push(DiskSpec { bus, size: 64 << 20, serial: "empty".into(), path: None });
    let machine = Machine::new(spec).unwrap();
    let started = Instant::now();
    machine.power_on().await.unwrap();
    machine.wait_serial(0, "RAMDISK-UP", BOOT).await.unwrap();
    eprintln!("ramdisk, {firmware:?}, {flavour:?}: up after {:.1?}", started.elapsed());
    let post = posts.recv_timeout(BOOT).unwrap();
    assert!(post.contains(disk), "{post}");
    // The guest powers itself off, and that ends the process.
    machine.wait_off(BOOT).await.unwrap();
}
