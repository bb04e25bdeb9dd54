//! Deployment without DHCP and TFTP, and under UEFI Secure Boot: the ramdisk comes from a CD that the BMC pretends over Redfish, and the system has a
//! fixed address. QEMU reads the CD from rackd's URL sector by sector, as a BMC does.

use anyhow::{Context as _, Result, ensure};
use farrier_identity::device::SelfSigned;
use farrier_proto::types::{BootInterface, NodeVerb, ProvisionState};
use farrier_sim::lab::RackConfig;
use farrier_sim::machine::Firmware;
use farrier_sim::media::MediaStore;
use farrier_sim::virtual_server::ServerOptions;
use futures::future::BoxFuture;

use super::{Lab, anvil, boot_mode, enrol_as, import_mini, new_node, on_a_rack_with};

#[test]
fn a_machine_with_secure_boot_is_deployed_from_virtual_media() {
    on_media(Firmware::Uefi, |lab| {
        Box::pin(async move {
            deploy(lab).await?;
            lab.client.wait(lab.client.delete_instance("anvil").await?, |_| {}).await?;
            ensure!(lab.client.node("n1").await?.state() == ProvisionState::Available);
            Ok(())
        })
    });
}

#[test]
fn a_bios_machine_is_inspected_from_virtual_media() {
    on_media(Firmware::Bios, |_| Box::pin(async { Ok(()) }));
}

/// A rack without DHCP and boot files, and a machine that was inspected from a CD.
fn on_media<W>(firmware: Firmware, work: W)
where
    W: for<'a> FnOnce(&'a mut Lab) -> BoxFuture<'a, Result<()>> + Send + 'static,
{
    let tls = SelfSigned::generate(&["10.92.0.11".to_owned()]).unwrap();
    let pin: String = tls.fingerprint().iter().map(|byte| format!("{byte:02x}")).collect();
    // The locked firmware starts what is signed and nothing else: shim, GRUB and kernel of the CD, and those of the image.
    let secure_boot = firmware == Firmware::Uefi;
    let options = ServerOptions { redfish: Some(tls), secure_boot, ..ServerOptions::default() };
    let configure = |config: &mut RackConfig, store: &MediaStore| {
        config.virtual_media = Some(store.cd_loaders().unwrap());
        config.boot_files = None;
        for segment in &mut config.segments {
            segment.dhcp = Some("off");
        }
    };
    on_a_rack_with(firmware, options, configure, move |lab| {
        Box::pin(async move {
            let mut new = new_node("n1", &lab.server, boot_mode(firmware));
            new.bmc_address = lab.server.bmc_address.ip().to_string();
            new.redfish = Some(pin);
            new.boot_interface = BootInterface::VirtualMedia;
            import_mini(lab).await?;
            enrol_as(&lab.client, &new, &[NodeVerb::Manage, NodeVerb::Inspect]).await?;
            let found = lab.client.node("n1").await?.hardware.context("no hardware")?;
            ensure!(found.boot_mode() == boot_mode(firmware), "inspection says {:?}", found.boot_mode());
            ensure!(found.secure_boot == secure_boot);
            nobody_asked_the_network(lab)?;
            work(lab).await
        })
    });
}

async fn deploy(lab: &Lab) -> Result<()> {
    lab.client.wait(lab.client.act("n1", NodeVerb::Provide).await?, |_| {}).await?;
    let before = lab.server.machine.serial_position();
    let instance = anvil();
    let deployed = lab.client.wait(lab.client.create_instance(instance).await?, |_| {}).await?;
    let detail = |name: &str| deployed.steps.iter().find(|s| s.name == name).map(|s| s.detail.clone());
    let waited = detail("wait_agent").context("no wait_agent")?;
    ensure!(waited.starts_with("agent up"), "{waited}");
    // The BMC that is asked is on this runtime, too.
    let show = ["node", "virtual-media", "show", "n1", "-o", "json"];
    let drive = tokio::task::block_in_place(|| lab.farrier.farrier(&show))?;
    let drive: serde_json::Value = serde_json::from_str(&drive)?;
    ensure!(drive.get("inserted") == Some(&false.into()), "the CD is still in the drive: {drive}");
    let instance = lab.client.instance("anvil").await?;
    let address = instance.addresses.first().context("an instance without an address")?;
    // The system itself, with the address that its config drive names: nobody gives one here.
    let up = format!("FARRIER-MINI-UP hostname=hammer address={address}/");
    lab.server.machine.wait_serial(before, &up, super::PATIENCE).await?;
    nobody_asked_the_network(lab)
}

/// Nothing of a boot by the network is in the machine's trace.
fn nobody_asked_the_network(lab: &Lab) -> Result<()> {
    let trace = lab.farrier.farrier(&["node", "boot-trace", "n1", "-o", "json"])?;
    let trace: serde_json::Value = serde_json::from_str(&trace)?;
    ensure!(trace.as_array().is_some_and(Vec::is_empty), "{trace:#}");
    Ok(())
}
