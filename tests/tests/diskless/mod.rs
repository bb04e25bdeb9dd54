//! A machine without any disk lives on an iSCSI disk of its rack: firmware, sanboot, iBFT, the kernel's initiator.

// Helpers of tests may fail like tests; clippy's allowance covers only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod outage;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use farrier_proto::rack::{PowerAction, ReadyGate};
use farrier_proto::scheduler::{Instance, InstanceState};
use farrier_proto::types::{DeployMethod, PowerState, ProvisionState};
use farrier_sim::lab::Service;
use farrier_sim::machine::Firmware;
use farrier_sim::virtual_server::ServerOptions;

use crate::qemu::{Lab, boot_mode, make_available, on_a_rack};

#[test]
fn a_bios_machine_without_a_disk_lives_on_its_rack() {
    live_and_go(Firmware::Bios);
}

#[test]
fn a_uefi_machine_without_a_disk_lives_on_its_rack() {
    live_and_go(Firmware::Uefi);
}

fn live_and_go(firmware: Firmware) {
    let options = ServerOptions { disks: Vec::new(), ..ServerOptions::default() };
    on_a_rack(firmware, options, move |lab| Box::pin(live(lab, firmware)));
}

async fn live(lab: &mut Lab, firmware: Firmware) -> Result<()> {
    make_available(&lab.client, &lab.server, &lab.image, boot_mode(firmware)).await?;
    let before = lab.server.machine.serial_position();
    let instance = Instance {
        name: "anvil".into(),
        flavor: "flavors/any".into(),
        image: "images/mini".into(),
        hostname: "hammer".into(),
        method: DeployMethod::Diskless.into(),
        ready: ReadyGate::PhoneHome.into(),
        ready_seconds: 300,
        ..Instance::default()
    };
    let deployed = lab.client.wait(lab.client.create_instance(instance).await?, |_| {}).await?;
    ensure!(deployed.steps.iter().all(|step| step.error.is_empty()), "{:?}", deployed.steps);
    let instance = lab.client.instance("anvil").await?;
    ensure!(instance.state() == InstanceState::Active && instance.placed_node == "nodes/n1");
    let address = instance.addresses.first().context("an instance without an address")?.clone();
    expect(lab, before, "FARRIER-MINI-ISCSI-BOOT count=1").await?;
    let up = format!("FARRIER-MINI-UP hostname=hammer address={address}/");
    expect(lab, before, &up).await?;

    // What it wrote is there at the next boot, although rackd was killed in between.
    lab.farrier.restart(Service::Rackd).await?;
    let before = lab.server.machine.serial_position();
    lab.client.wait(lab.client.power("n1", PowerAction::Cycle).await?, |_| {}).await?;
    expect(lab, before, "FARRIER-MINI-ISCSI-BOOT count=2").await?;
    expect(lab, before, &up).await?;

    // A power cycle is the node's last task now: the disk and the address are there after a restart all the same.
    lab.farrier.restart(Service::Rackd).await?;
    let before = lab.server.machine.serial_position();
    lab.client.wait(lab.client.power("n1", PowerAction::Cycle).await?, |_| {}).await?;
    expect(lab, before, "FARRIER-MINI-ISCSI-BOOT count=3").await?;

    let begin = Instant::now();
    lab.client.wait(lab.client.delete_instance("anvil").await?, |_| {}).await?;
    eprintln!("taken back in {:.2?}", begin.elapsed());
    let node = lab.client.node("n1").await?;
    ensure!(node.state() == ProvisionState::Available && node.instance.is_empty());
    ensure!(node.power_state() == PowerState::Off);
    let volumes = lab.farrier.data(Service::Rackd).join("volumes");
    let left: Vec<_> = std::fs::read_dir(&volumes)?.flatten().map(|entry| entry.path()).collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

async fn expect(lab: &Lab, after: usize, text: &str) -> Result<()> {
    lab.server.machine.wait_serial(after, text, BOOT).await?;
    Ok(())
}

/// An emulated boot takes half a minute on an idle machine.
const BOOT: Duration = Duration::from_secs(240);
