//! A rack of both architectures. An arm64 machine goes all the way: AAVMF with Secure Boot on, Debian's shim, GRUB and kernel, our
//! agent, by the network and from a CD, an image of its own. Beside it an x86 machine that nobody described is discovered.

use farrier_identity::device::SelfSigned;
use farrier_sim::machine::{Architecture, Firmware};
use farrier_sim::virtual_server::ServerOptions;
use serde_json::Value;

use super::*;

#[test]
fn an_arm64_machine_is_inspected_deployed_and_taken_back_beside_one_of_x86() {
    let tls = SelfSigned::generate(&["10.92.0.11".to_owned()]).unwrap();
    let pin: String = tls.fingerprint().iter().map(|byte| format!("{byte:02x}")).collect();
    let options = ServerOptions {
        architecture: Architecture::Arm64,
        secure_boot: true,
        redfish: Some(tls),
        ..ServerOptions::default()
    };
    let configure = |config: &mut RackConfig, store: &MediaStore| {
        config.virtual_media = Some(store.cd_loaders_with(&store.arm64().unwrap()).unwrap());
        config.discovery = true;
    };
    on_a_rack_with(Firmware::Uefi, options, configure, |lab| {
        Box::pin(async move {
            // Both at once: each finds the ramdisk of its own architecture by itself.
            let other = VirtualServer::start(&lab.rack, 2, Firmware::Bios, ServerOptions::default())?;
            other.machine.power_on().await?;
            straight(lab, pin, &other).await?;
            Ok(other.shutdown().await?)
        })
    });
}

async fn straight(lab: &mut Lab, pin: String, other: &VirtualServer) -> Result<()> {
    import_mini(lab).await?;
    let mut new = new_node("n1", &lab.server, BootMode::Uefi);
    new.bmc_address = lab.server.bmc_address.ip().to_string();
    new.redfish = Some(pin);
    let found = inspect_locked(lab, &new, ["shimaa64.efi", "grubaa64.efi", "artifacts/kernel-arm64"]).await?;
    let Lab { farrier, client, server, .. } = lab;
    let cpu = found.cpu.as_ref().context("no processor")?;
    ensure!(cpu.architecture == "aarch64" && cpu.thread_count == 1, "{cpu:?}");
    ensure!(found.system.as_ref().is_some_and(|system| system.serial_number == server.name), "{found:?}");
    ensure!(found.disks.iter().any(|disk| disk.size_bytes == 8 << 30), "{found:?}");
    let trace = farrier.farrier(&["node", "boot-trace", "n1"])?;
    ensure!(trace.contains("agent registered"), "{trace}");
    discovered_by_x86(farrier, other).await?;

    // Its clean is from a CD.
    farrier.farrier(&["node", "update", "n1", "--boot-interface", "virtual-media"])?;
    let cleaned = client.wait(client.act("n1", NodeVerb::Provide).await?, |_| {}).await?;
    ensure!(cleaned.steps.iter().any(|step| step.name == "insert_cd"), "{:?}", cleaned.steps);
    farrier.farrier(&["node", "update", "n1", "--boot-interface", "network"])?;

    let before = server.machine.serial_position();
    client.wait(client.create_instance(anvil()).await?, |_| {}).await?;
    let instance = client.instance("anvil").await?;
    let address = instance.addresses.first().context("an instance without an address")?;
    let up = format!("FARRIER-MINI-UP hostname=hammer address={address}/");
    server.machine.wait_serial(before, &up, PATIENCE).await?;
    client.wait(client.delete_instance("anvil").await?, |_| {}).await?;
    ensure!(client.node("n1").await?.state() == ProvisionState::Available);
    Ok(())
}

/// The machine of x86 has said what it is, out of the ramdisk that its iPXE chose.
async fn discovered_by_x86(farrier: &Installation, other: &VirtualServer) -> Result<()> {
    let mac = &other.macs[0];
    let seen = async {
        loop {
            if let Ok(seen) = farrier.farrier(&["discovered", "show", mac, "-o", "json"]) {
                return seen;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, seen).await.context("no x86 machine is discovered")?;
    let seen: Value = serde_json::from_str(&seen)?;
    ensure!(seen["hardware"]["cpu"]["architecture"] == "x86_64", "{seen:#}");
    Ok(())
}
