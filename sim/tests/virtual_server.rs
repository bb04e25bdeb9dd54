//! A server under its BMC, with a foreign program at the button: ipmitool inside the rack.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::time::Duration;

use common::{BOOT, rack, slot};
use farrier_sim::bmc::{BootFlags, Chassis as _};
use farrier_sim::machine::{BootDevice, DiskSpec, Firmware, PowerState};
use farrier_sim::media::{MediaStore, seed_volume};
use farrier_sim::rack::Rack;
use farrier_sim::virtual_server::{ServerOptions, VirtualServer};

const META: &str = "instance-id: i-1\nlocal-hostname: anvil\n";
// A set address: no DHCP server to wait for.
const NETWORK: &str = "version: 2\nethernets:\n  id0:\n    addresses:\n      - 10.90.0.20/24\n";

/// A server with the mini guest on its disk.
fn server(rack: &Rack, index: u8, firmware: Firmware) -> VirtualServer {
    let image = MediaStore::of_workspace().unwrap().mini().unwrap();
    let (os, seed) = (rack.dir().join("os.raw"), rack.dir().join("seed.raw"));
    image.copy_to(&os).unwrap();
    let files = [("meta-data", META), ("user-data", "#cloud-config\n"), ("network-config", NETWORK)];
    seed_volume(&seed, &files).unwrap();
    let disks = [("os", os), ("seed", seed)]
        .map(|(serial, path)| DiskSpec { path: Some(path), ..ServerOptions::disk(serial, 0) })
        .to_vec();
    let options = ServerOptions { memory_mib: 512, disks, ..ServerOptions::default() };
    VirtualServer::start(rack, index, firmware, options).unwrap()
}

async fn ipmitool(rack: &Rack, server: &VirtualServer, suite: &str, words: &str) -> String {
    let mut command = rack.netns().command("ipmitool");
    command.args(["-I", "lanplus", "-C", suite, "-U", "admin", "-P", "farrier-lab", "-R", "3", "-N", "5"]);
    command.args(["-H", &server.bmc_address.ip().to_string()]).args(words.split(' '));
    let output = tokio::process::Command::from(command).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

async fn power(rack: &Rack, server: &VirtualServer) -> String {
    ipmitool(rack, server, "17", "chassis power status").await.trim().to_owned()
}

#[tokio::test]
async fn ipmitool_starts_resets_and_ends_a_bios_guest() {
    let _slot = slot().await;
    let rack = rack();
    let server = server(&rack, 1, Firmware::Bios);
    assert_eq!(server.macs, ["52:54:00:90:00:01"]);
    assert_eq!(power(&rack, &server).await, "Chassis Power is off");

    ipmitool(&rack, &server, "17", "chassis power on").await;
    assert_eq!(power(&rack, &server).await, "Chassis Power is on");
    let booted = server.machine.wait_serial(0, "FARRIER-MINI-READY", BOOT).await.unwrap();

    // A plain reset keeps the process.
    let pid = server.machine.pid().await;
    ipmitool(&rack, &server, "17", "chassis power reset").await;
    let booted = server.machine.wait_serial(booted, "FARRIER-MINI-READY", BOOT).await.unwrap();
    assert_eq!(server.machine.pid().await, pid);

    // From the network once: nobody serves there, so firmware goes on to the disk; the flag is gone.
    ipmitool(&rack, &server, "3", "chassis bootdev pxe").await;
    ipmitool(&rack, &server, "3", "chassis power reset").await;
    assert_eq!(server.chassis.boot_flags().await, BootFlags::NONE);
    assert_eq!(server.machine.boot().await, (BootDevice::Disk, Firmware::Bios));
    let netboot = server.machine.wait_serial(booted, "Booting from ROM", BOOT).await.unwrap();
    let booted = server.machine.wait_serial(netboot, "FARRIER-MINI-READY", BOOT).await.unwrap();

    // The guest switches itself off; the BMC says so without being told.
    ipmitool(&rack, &server, "17", "chassis power soft").await;
    server.machine.wait_off(BOOT).await.unwrap();
    assert_eq!(power(&rack, &server).await, "Chassis Power is off");

    // From the disk for good: SeaBIOS does not go to the network card's ROM before it.
    ipmitool(&rack, &server, "17", "chassis bootdev disk options=persistent").await;
    ipmitool(&rack, &server, "17", "chassis power on").await;
    let up = server.machine.wait_serial(booted, "FARRIER-MINI-UP", BOOT).await.unwrap();
    let rom = server.machine.wait_serial(booted, "Booting from ROM", Duration::ZERO).await;
    assert!(!rom.is_ok_and(|at| at < up));
    ipmitool(&rack, &server, "17", "chassis power off").await;
    assert_eq!(server.machine.power_state().await, PowerState::Off);
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn ipmitool_starts_and_cycles_a_uefi_guest() {
    let _slot = slot().await;
    let rack = rack();
    let server = server(&rack, 2, Firmware::Uefi);
    ipmitool(&rack, &server, "17", "chassis bootdev disk options=persistent,efiboot").await;
    ipmitool(&rack, &server, "17", "chassis power on").await;
    let booted = server.machine.wait_serial(0, "FARRIER-MINI-READY", BOOT).await.unwrap();
    let pid = server.machine.pid().await;
    ipmitool(&rack, &server, "17", "chassis power cycle").await;
    assert_ne!(server.machine.pid().await, pid);
    server.machine.wait_serial(booted, "FARRIER-MINI-UP", BOOT).await.unwrap();
    assert!(server.chassis.boot_flags().await.persistent);
    server.shutdown().await.unwrap();
}
