//! An arm64 machine, all the way: AAVMF with Secure Boot on, Debian's shim, GRUB and kernel, our agent, an image of its own.

use farrier_sim::machine::{Architecture, Firmware};
use farrier_sim::virtual_server::ServerOptions;

use super::*;

#[test]
fn an_arm64_machine_is_inspected_deployed_and_taken_back() {
    let options =
        ServerOptions { architecture: Architecture::Arm64, secure_boot: true, ..ServerOptions::default() };
    let configure = |config: &mut RackConfig, store: &MediaStore| {
        (config.signed_boot, config.signed_boot_arm64) = (false, Some(store.arm64().unwrap()));
        config.kernel_args = "console=ttyAMA0 quiet nokaslr mitigations=off".into();
    };
    on_a_rack_with(Firmware::Uefi, options, configure, |lab| Box::pin(straight(lab)));
}

async fn straight(lab: &mut Lab) -> Result<()> {
    import_mini(lab).await?;
    let found = inspect_locked(lab, ["shimaa64.efi", "grubaa64.efi"]).await?;
    let Lab { farrier, client, server, .. } = lab;
    let cpu = found.cpu.as_ref().context("no processor")?;
    ensure!(cpu.architecture == "aarch64" && cpu.thread_count == 1, "{cpu:?}");
    ensure!(found.system.as_ref().is_some_and(|system| system.serial_number == server.name), "{found:?}");
    ensure!(found.disks.iter().any(|disk| disk.size_bytes == 8 << 30), "{found:?}");
    let trace = farrier.farrier(&["node", "boot-trace", "n1"])?;
    ensure!(trace.contains("agent registered"), "{trace}");
    client.wait(client.act("n1", NodeVerb::Provide).await?, |_| {}).await?;
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
