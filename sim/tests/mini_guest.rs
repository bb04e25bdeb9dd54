//! The mini guest boots from a disk on both kinds of firmware, and a machine obeys every button.

mod common;

use std::time::{Duration, Instant};

use common::{BOOT, Dnsmasq, http, processes_with, rack, seeded_machine, slot};
use farrier_sim::machine::{DiskBus, Firmware, PowerState};
use farrier_sim::media::MediaStore;

const META: &str = "instance-id: i-1\nlocal-hostname: anvil\n";
const USER: &str = "#cloud-config\nphone_home:\n  url: http://10.90.0.1:8080/home/$INSTANCE_ID\n";

#[tokio::test]
async fn bios_boots_the_mini_guest_which_phones_home_and_obeys_every_button() {
    let _slot = slot().await;
    let image = MediaStore::of_workspace().unwrap().mini().unwrap();
    let rack = rack();
    let _dnsmasq = Dnsmasq::start(&rack, &[]);
    let posts = http(&rack, "10.90.0.1:8080", |_| None);
    let seed = [("meta-data", META), ("user-data", USER)];
    let machine = seeded_machine(&rack, 1, Firmware::Bios, DiskBus::VirtioBlk, &image, &seed);
    assert_eq!(machine.power_state().await, PowerState::Off);

    let started = Instant::now();
    machine.power_on().await.unwrap();
    assert_eq!(machine.power_state().await, PowerState::On);
    machine.wait_serial(0, "FARRIER-MINI-UP hostname=anvil address=10.90.0.", BOOT).await.unwrap();
    eprintln!("mini, BIOS, virtio-blk: up after {:.1?}", started.elapsed());
    let booted = machine.wait_serial(0, "FARRIER-MINI-READY", BOOT).await.unwrap();
    let post = posts.recv_timeout(BOOT).unwrap();
    assert_eq!(post, "/home/i-1 instance_id=i-1&hostname=anvil&fqdn=anvil");

    // Power on is idempotent: the same process.
    let pid = machine.pid().await;
    machine.power_on().await.unwrap();
    assert_eq!(machine.pid().await, pid);

    // Reset keeps the process and boots again.
    machine.reset().await.unwrap();
    let booted = machine.wait_serial(booted, "FARRIER-MINI-READY", BOOT).await.unwrap();
    assert_eq!(machine.pid().await, pid);

    // The power button reaches the guest, which ends the process.
    machine.power_soft().await.unwrap();
    machine.wait_off(BOOT).await.unwrap();
    assert_eq!(machine.power_state().await, PowerState::Off);
    assert_eq!(machine.pid().await, None);

    // Buttons of a machine without power do nothing.
    machine.reset().await.unwrap();
    machine.power_soft().await.unwrap();
    assert_eq!(machine.power_state().await, PowerState::Off);

    // A cycle is another process.
    machine.power_cycle().await.unwrap();
    assert_ne!(machine.pid().await, pid);
    machine.wait_serial(booted, "FARRIER-MINI-UP", BOOT).await.unwrap();
    machine.power_off().await.unwrap();
    machine.power_off().await.unwrap();
    assert_eq!(machine.power_state().await, PowerState::Off);
}

#[tokio::test]
async fn uefi_boots_the_mini_guest_with_a_static_address_from_nvme_and_drop_leaves_nothing() {
    let _slot = slot().await;
    let image = MediaStore::of_workspace().unwrap().mini().unwrap();
    let rack = rack();
    let network = "version: 2\nethernets:\n  id0:\n    match:\n      macaddress: \"52:54:00:90:00:02\"\n    \
                   addresses:\n      - 10.90.0.20/24\n    gateway4: 10.90.0.1\n";
    let seed = [("meta-data", META), ("user-data", "#cloud-config\n"), ("network-config", network)];
    let machine = seeded_machine(&rack, 2, Firmware::Uefi, DiskBus::Nvme, &image, &seed);
    let started = Instant::now();
    machine.power_on().await.unwrap();
    let up = "FARRIER-MINI-UP hostname=anvil address=10.90.0.20/24";
    machine.wait_serial(0, up, BOOT).await.unwrap();
    eprintln!("mini, UEFI, nvme: up after {:.1?}", started.elapsed());

    // A process of somebody else's making, left inside.
    let mut stray = std::process::Command::new("sleep");
    stray.arg("600");
    let mut stray = rack.netns().spawn(stray).unwrap();
    let (netns, dir) = (rack.netns().path(), rack.dir().to_owned());
    let needle = dir.display().to_string();
    assert_eq!(processes_with(&needle).len(), 1);
    drop(machine);
    assert_eq!(processes_with(&needle), Vec::<String>::new());
    drop(rack);
    assert!(!netns.exists());
    assert!(!dir.exists());
    assert!(!stray.wait().unwrap().success());
}

#[tokio::test]
async fn locked_uefi_boots_the_signed_guest_from_its_disk() {
    let _slot = slot().await;
    let image = MediaStore::of_workspace().unwrap().mini_signed().unwrap();
    let rack = rack();
    let seed = [("meta-data", META), ("user-data", "#cloud-config\n")];
    let machine = seeded_machine(&rack, 1, Firmware::Uefi, DiskBus::VirtioBlk, &image, &seed);
    let locked = farrier_sim::machine::MachineSpec { secure_boot: true, ..machine.spec().clone() };
    let machine = farrier_sim::machine::Machine::new(locked).unwrap();
    let started = Instant::now();
    machine.power_on().await.unwrap();
    machine.wait_serial(0, "FARRIER-MINI-UP hostname=anvil", BOOT).await.unwrap();
    eprintln!("mini, UEFI with Secure Boot: up after {:.1?}", started.elapsed());
}

#[tokio::test]
async fn a_machine_that_cannot_start_says_what_qemu_said() {
    let rack = rack();
    let (mut spec, _) = rack.machine_spec(3, Firmware::Bios).unwrap();
    spec.nics[0].mac = "not-a-mac".into();
    let machine = farrier_sim::machine::Machine::new(spec).unwrap();
    let error = machine.power_on().await.unwrap_err().to_string();
    assert!(error.contains("not-a-mac"), "{error}");
    assert_eq!(machine.power_state().await, PowerState::Off);
    machine.wait_off(Duration::ZERO).await.unwrap();
}
