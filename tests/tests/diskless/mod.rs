//! A machine without any disk lives on an iSCSI disk of its rack: firmware, sanboot, iBFT, the kernel's initiator. It does so
//! too while no service of the centre runs.

// Helpers of tests may fail like tests; clippy's allowance covers only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod login;
mod outage;

use std::io::Read as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use farrier_agent::machine::FileDisk;
use farrier_agent::partitions::PartitionTable;
use farrier_proto::images::image_service_client::ImageServiceClient;
use farrier_proto::images::{GetImageRequest, GetManifestRequest, ReadChunksRequest};
use farrier_proto::rack::{PowerAction, ReadyGate};
use farrier_proto::scheduler::{Instance, InstanceState};
use farrier_proto::types::{DeployMethod, PowerState, ProvisionState};
use farrier_sim::lab::Service;
use farrier_sim::machine::Firmware;
use farrier_sim::virtual_server::{ServerOptions, VirtualServer};

use crate::qemu::{CENTRE, Lab, boot_mode, enrol, ipmitool, make_available, on_a_rack};

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
    expect(lab, before, "FARRIER-MINI-ISCSI-DIGESTS header=1 data=1.").await?;
    expect(lab, before, "FARRIER-MINI-ISCSI-BOOT count=1").await?;
    let up = format!("FARRIER-MINI-UP hostname=hammer address={address}/");
    expect(lab, before, &up).await?;

    // An image of its disk while it runs: what it has written and synced is in it.
    let begin = Instant::now();
    lab.client.wait(lab.client.snapshot_instance("anvil", "golden").await?, |_| {}).await?;
    eprintln!("snapshot in {:.2?}", begin.elapsed());
    ensure!(boots(lab, "mini").await?.is_none(), "the image it was deployed from is untouched");
    ensure!(boots(lab, "golden").await?.as_deref() == Some("1\n"));

    // What it wrote is there at the next boot, although rackd was killed in between.
    lab.farrier.restart(Service::Rackd).await?;
    let before = lab.server.machine.serial_position();
    lab.client.wait(lab.client.power("n1", PowerAction::Cycle).await?, |_| {}).await?;
    expect(lab, before, "FARRIER-MINI-ISCSI-BOOT count=2").await?;
    expect(lab, before, &up).await?;

    let node = match firmware {
        Firmware::Uefi => {
            // A power cycle is the node's last task now: the disk, its next account and the address are there after a restart
            // all the same, also while nobody but the rack is. A person on site presses the button, by the BMC.
            CENTRE.into_iter().for_each(|service| lab.farrier.kill(service));
            lab.farrier.restart(Service::Rackd).await?;
            let before = lab.server.machine.serial_position();
            ipmitool(lab, &["chassis", "power", "cycle"]).await?;
            expect(lab, before, "FARRIER-MINI-ISCSI-BOOT count=3").await?;
            expect(lab, before, &up).await?;
            for service in CENTRE {
                lab.farrier.restart(service).await?;
            }
            "n1"
        }
        Firmware::Bios => {
            moves_to_another_machine(lab).await?;
            "n2"
        }
    };

    let begin = Instant::now();
    lab.client.wait(lab.client.delete_instance("anvil").await?, |_| {}).await?;
    eprintln!("taken back in {:.2?}", begin.elapsed());
    let node = lab.client.node(node).await?;
    ensure!(node.state() == ProvisionState::Available && node.instance.is_empty());
    ensure!(node.power_state() == PowerState::Off);
    let volumes = lab.farrier.data(Service::Rackd).join("volumes");
    let left: Vec<_> = std::fs::read_dir(&volumes)?.flatten().map(|entry| entry.path()).collect();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// Its machine breaks, and another one boots what the first had written; as an operator types it.
async fn moves_to_another_machine(lab: &mut Lab) -> Result<()> {
    let options = ServerOptions { disks: Vec::new(), ..ServerOptions::default() };
    let second = VirtualServer::start(&lab.rack, 2, Firmware::Bios, options)?;
    enrol(&lab.client, "n2", &second, boot_mode(Firmware::Bios)).await?;
    let before = second.machine.serial_position();
    let moved = ["instance", "recover", "anvil", "--onto", "n2", "--wait", "--yes"];
    tokio::task::block_in_place(|| lab.farrier.farrier(&moved))?;
    second.machine.wait_serial(before, "FARRIER-MINI-ISCSI-BOOT count=3", BOOT).await?;
    let instance = lab.client.instance("anvil").await?;
    ensure!(instance.state() == InstanceState::Active && instance.placed_node == "nodes/n2");
    // Off, and without an instance; its machine is the other one from here on.
    let broken = lab.client.node("n1").await?;
    ensure!(broken.instance.is_empty() && broken.power_state() == PowerState::Off, "{broken:?}");
    std::mem::replace(&mut lab.server, second).shutdown().await?;
    Ok(())
}

/// The file on an image's EFI system partition in which the guest counts its boots.
async fn boots(lab: &Lab, image: &str) -> Result<Option<String>> {
    let mut images = ImageServiceClient::new(lab.client.images.clone());
    let name = format!("images/{image}");
    let manifest_sha256 =
        images.get_image(GetImageRequest { name: name.clone() }).await?.into_inner().manifest_sha256;
    let request = GetManifestRequest { name, manifest_sha256: manifest_sha256.clone() };
    let manifest = images.get_manifest(request).await?.into_inner();
    let mut disk = vec![0; usize::try_from(manifest.size_bytes)?];
    let mut pieces =
        images.read_chunks(ReadChunksRequest { manifest_sha256, ..Default::default() }).await?.into_inner();
    while let Some(piece) = pieces.message().await? {
        let at = usize::try_from(piece.chunk * manifest.chunk_bytes + piece.offset)?;
        disk[at..at + piece.data.len()].copy_from_slice(&piece.data);
    }
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &disk)?;
    let device = FileDisk::open(file.path(), u64::try_from(disk.len())?, 512)?;
    for extent in PartitionTable::read(&device)?.extents() {
        let (from, len) = (usize::try_from(extent.offset)?, usize::try_from(extent.len)?);
        let partition = std::io::Cursor::new(disk[from..from + len].to_vec());
        let Ok(fat) = fatfs::FileSystem::new(partition, fatfs::FsOptions::new()) else { continue };
        if let Ok(mut file) = fat.root_dir().open_file("boots") {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            return Ok(Some(text));
        }
    }
    Ok(None)
}

async fn expect(lab: &Lab, after: usize, text: &str) -> Result<()> {
    lab.server.machine.wait_serial(after, text, BOOT).await?;
    Ok(())
}

/// An emulated boot takes half a minute on an idle machine.
const BOOT: Duration = Duration::from_secs(240);
