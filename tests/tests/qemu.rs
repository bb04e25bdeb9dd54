//! The straight path for real: firmware, network boot, ramdisk, disk, operating system, and back again.
//!
//! As root; one machine at a time (`.config/nextest.toml`), because emulated ones take a core each.

// Helpers of tests may fail like tests; clippy's allowance covers only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod arm64;
mod inside;
mod virtual_media;

use std::io::Read as _;

use anyhow::{Context as _, Result, ensure};
use farrier_proto::inventory::Flavor;
use farrier_proto::rack::{ReadyGate, Step, StepState};
use farrier_proto::scheduler::{Instance, InstanceState};
use farrier_proto::types::{
    BootInterface, BootMode, DeployMethod, Hardware, NodeVerb, PowerState, ProvisionState,
};
use farrier_sim::lab::{
    Client, ImageFile, Installation, NewNode, Place, Programs, RackConfig, Service, compress, run_on,
};
use farrier_sim::machine::{Architecture, Firmware};
use farrier_sim::media::{KernelFlavour, MediaStore, Ramdisk};
use farrier_sim::rack::Rack;
use farrier_sim::tool::install_missing;
use farrier_sim::virtual_server::{ServerOptions, VirtualServer};
use futures::future::BoxFuture;

#[test]
fn a_bios_machine_is_deployed_and_taken_back() {
    deploy_and_take_back(Firmware::Bios, DeployMethod::Direct);
}

#[test]
fn a_uefi_machine_is_deployed_and_taken_back() {
    deploy_and_take_back(Firmware::Uefi, DeployMethod::Direct);
}

#[test]
fn an_image_is_copied_over_iscsi_in_the_second_of_two_provisioning_networks() {
    let two_rows = |config: &mut RackConfig, _: &MediaStore| {
        // No tenants: a system lives where its machine booted. No switch: that is where somebody plugged it in.
        config.switch = "none";
        for (segment, name) in config.segments.iter_mut().zip(["row-1", "row-2"]) {
            (segment.name, segment.role) = (name.to_owned(), "provisioning");
        }
    };
    on_a_rack_with(Firmware::Bios, ServerOptions::default(), two_rows, |lab| {
        Box::pin(async move {
            let (tap, row_2) = (lab.server.tap.name(), lab.rack.tenant().name());
            lab.rack.netns().ip(&format!("link set {tap} master {row_2}\n"))?;
            straight_path(lab, BootMode::Bios, DeployMethod::Iscsi).await?;
            let trace = lab.farrier.farrier(&["node", "boot-trace", "n1"])?;
            ensure!(trace.contains("wrong network"), "it was awaited in row-1 first: {trace}");
            restart_all(lab).await
        })
    });
}

#[test]
fn firmware_that_runs_signed_programs_only_is_deployed_by_the_network() {
    let options = ServerOptions { secure_boot: true, ..ServerOptions::default() };
    on_a_rack(Firmware::Uefi, options, |lab| Box::pin(deploy_locked(lab)));
}

/// Its diskless kind is in `diskless`.
#[test]
fn a_machine_boots_its_ramdisk_and_its_disk_while_no_service_of_the_centre_runs() {
    on_a_rack(Firmware::Bios, ServerOptions::default(), |lab| Box::pin(boot_without_a_centre(lab)));
}

async fn boot_without_a_centre(lab: &mut Lab) -> Result<()> {
    // What a person put onto a disk that Farrier has never written.
    let mini = MediaStore::of_workspace()?.mini()?;
    let mut disk = std::fs::OpenOptions::new().write(true).open(lab.server.machine.spec().disk_path(0))?;
    std::io::copy(&mut std::fs::File::open(&mini.path)?, &mut disk)?;
    lab.client.create_node(&new_node("n1", &lab.server, BootMode::Bios)).await?;
    let known = async {
        loop {
            let status = lab.farrier.farrier(&["rack", "status", "r1", "-o", "json"])?;
            let status: serde_json::Value = serde_json::from_str(&status)?;
            if status.pointer("/known_machines/port_count") == Some(&1.into()) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(PATIENCE, known).await.context("rackd does not hear of the node")??;
    lab.client.wait(lab.client.act("n1", NodeVerb::Manage).await?, |_| {}).await?;
    let inspection = lab.client.act("n1", NodeVerb::Inspect).await?;
    let awaited = async {
        let waits = |step: &Step| step.name == "wait_agent" && step.state() == StepState::Running;
        while !lab.client.operation(&inspection.name).await?.steps.iter().any(waits) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, awaited).await.context("no task waits for the agent")??;

    CENTRE.into_iter().for_each(|service| lab.farrier.kill(service));
    lab.farrier.kill(Service::Rackd);
    ipmitool(lab, &["chassis", "power", "off"]).await?;
    lab.farrier.restart(Service::Rackd).await?;
    // The ramdisk that its task waits for, until the agent has said what it found.
    let before = lab.server.machine.serial_position();
    for words in [["chassis", "bootdev", "pxe"], ["chassis", "power", "on"]] {
        ipmitool(lab, &words).await?;
    }
    lab.server.machine.wait_serial(before, "farrier-agent", PATIENCE).await?;
    lab.server.machine.wait_off(PATIENCE).await?;
    let trace = lab.client.boot_trace(&lab.server.macs[0]).await?;
    ensure!(trace.iter().any(|event| event.kind == "DHCPACK"), "{trace:#?}");
    ensure!(trace.iter().all(|event| event.kind != "unknown MAC"), "{trace:#?}");

    // Nobody works on it now. SeaBIOS, its own iPXE, the script that iPXE gets from rackd, and the disk.
    let before = lab.server.machine.serial_position();
    for words in [["chassis", "bootdev", "pxe"], ["chassis", "power", "on"]] {
        ipmitool(lab, &words).await?;
    }
    lab.server.machine.wait_serial(before, "FARRIER-MINI-UP", PATIENCE).await?;
    let trace = lab.client.boot_trace(&lab.server.macs[0]).await?;
    ensure!(trace.iter().filter(|event| event.kind == "HTTP boot script").count() >= 2, "{trace:#?}");
    lab.server.machine.power_off().await?;

    // The link is back: what ended meanwhile is told.
    for service in CENTRE {
        lab.farrier.restart(service).await?;
    }
    lab.client.wait(inspection, |_| {}).await?;
    let node = lab.client.node("n1").await?;
    ensure!(node.state() == ProvisionState::Manageable && node.hardware.is_some(), "{node:?}");
    Ok(())
}

/// Without these the rack is alone.
pub(crate) const CENTRE: [Service; 3] = [Service::Inventory, Service::Scheduler, Service::Images];

/// What a person on site has, at the server's BMC.
pub(crate) async fn ipmitool(lab: &Lab, words: &[&str]) -> Result<()> {
    let bmc = lab.server.bmc_address;
    let mut command = lab.rack.netns().command("ipmitool");
    command.args(["-I", "lanplus", "-C", "17", "-U", "admin", "-P", "farrier-lab"]);
    command.args(["-H", &bmc.ip().to_string(), "-p", &bmc.port().to_string()]).args(words);
    let mut command = tokio::process::Command::from(command);
    let run = command.stdin(std::process::Stdio::null()).kill_on_drop(true).output();
    let done = tokio::time::timeout(PATIENCE, run).await.context("ipmitool takes too long")??;
    ensure!(done.status.success(), "{words:?}: {done:?}");
    Ok(())
}

/// The mini image, until it has called home.
fn anvil() -> Instance {
    Instance {
        name: "anvil".into(),
        flavor: "flavors/any".into(),
        image: "images/mini".into(),
        hostname: "hammer".into(),
        ready: ReadyGate::PhoneHome.into(),
        ready_seconds: 300,
        ..Instance::default()
    }
}

/// Shim, GRUB, kernel and ramdisk from the rack; then the image's own shim from the disk, by the boot entry that was made.
async fn deploy_locked(lab: &mut Lab) -> Result<()> {
    import_mini(lab).await?;
    inspect_locked(
        lab,
        &new_node("n1", &lab.server, BootMode::Uefi),
        ["shimx64.efi", "grubx64.efi", "artifacts/kernel"],
    )
    .await?;
    let Lab { client, server, .. } = lab;
    client.wait(client.act("n1", NodeVerb::Provide).await?, |_| {}).await?;
    let before = server.machine.serial_position();
    let instance = anvil();
    let deployed = client.wait(client.create_instance(instance).await?, |_| {}).await?;
    let detail = |name: &str| deployed.steps.iter().find(|s| s.name == name).map(|s| s.detail.as_str());
    // The disk's own shim is what the firmware's entry starts.
    let entry = detail("set_boot_entry").context("no set_boot_entry")?;
    ensure!(entry.to_lowercase().contains(".efi"), "{entry}");
    let instance = client.instance("anvil").await?;
    let address = instance.addresses.first().context("an instance without an address")?;
    let up = format!("FARRIER-MINI-UP hostname=hammer address={address}/");
    server.machine.wait_serial(before, &up, PATIENCE).await?;
    Ok(())
}

/// The node `n1` with its firmware locked, and what the ramdisk found out of it, which these signed programs started.
async fn inspect_locked(lab: &Lab, new: &NewNode, started_by: [&str; 3]) -> Result<Hardware> {
    let Lab { farrier, client, .. } = lab;
    client.create_node(new).await?;
    farrier.farrier(&["node", "update", "n1", "--secure-boot", "true"])?;
    for verb in [NodeVerb::Manage, NodeVerb::Inspect] {
        client.wait(client.act("n1", verb).await?, |_| {}).await?;
    }
    let node = client.node("n1").await?;
    ensure!(node.state() == ProvisionState::Manageable);
    let found = node.hardware.context("no hardware")?;
    ensure!(found.secure_boot && found.boot_mode() == BootMode::Uefi, "{found:?}");
    let trace = farrier.farrier(&["node", "boot-trace", "n1"])?;
    for step in started_by.iter().chain(&["TFTP boot script", "artifacts/initrd"]) {
        ensure!(trace.contains(step), "{step}: {trace}");
    }
    Ok(found)
}

fn deploy_and_take_back(firmware: Firmware, method: DeployMethod) {
    on_a_rack(firmware, ServerOptions::default(), move |lab| {
        Box::pin(async move {
            straight_path(lab, boot_mode(firmware), method).await?;
            restart_all(lab).await
        })
    });
}

/// A restart of everything finds what was left.
async fn restart_all(lab: &mut Lab) -> Result<()> {
    for service in Service::ALL {
        lab.farrier.restart(service).await?;
    }
    ensure!(lab.client.node("n1").await?.state() == ProvisionState::Available);
    Ok(())
}

/// An installation with one rack and one server, and the small image.
pub(crate) struct Lab {
    pub(crate) farrier: Installation,
    pub(crate) client: Client,
    pub(crate) server: VirtualServer,
    pub(crate) image: ImageFile,
    /// What everything runs in: it goes last.
    pub(crate) rack: Rack,
}

/// Runs `work` inside a rack of its own. What the processes and the machine said is the story of a failure.
pub(crate) fn on_a_rack<W>(firmware: Firmware, options: ServerOptions, work: W)
where
    W: for<'a> FnOnce(&'a mut Lab) -> BoxFuture<'a, Result<()>> + Send + 'static,
{
    on_a_rack_with(firmware, options, |_, _| (), work);
}

/// The same on a rack whose configuration is not the usual one.
fn on_a_rack_with<W>(
    firmware: Firmware,
    options: ServerOptions,
    configure: impl FnOnce(&mut RackConfig, &MediaStore),
    work: W,
) where
    W: for<'a> FnOnce(&'a mut Lab) -> BoxFuture<'a, Result<()>> + Send + 'static,
{
    farrier_sim::cleanup::on_signals();
    install_missing(|text| eprintln!("{text}")).unwrap();
    let programs = Programs::build().unwrap();
    let store = MediaStore::of_workspace().unwrap();
    let ramdisk = small(store.ramdisk(programs.agent(), KernelFlavour::Cloud).unwrap());
    // A rack of both architectures.
    let arm64 = (options.architecture == Architecture::Arm64).then(|| {
        let agent = Programs::arm64_agent_for_tests(&store).unwrap();
        small(store.ramdisk(&agent, KernelFlavour::CloudArm64).unwrap())
    });
    // One that locked firmware starts, too.
    let mini = match options.architecture {
        Architecture::Arm64 => store.mini_arm64(),
        Architecture::X86_64 if options.secure_boot => store.mini_signed(),
        Architecture::X86_64 => store.mini(),
    }
    .unwrap();
    let image = ImageFile::raw(&compress(&mini.path).unwrap()).unwrap();
    let rack = Rack::build().unwrap();
    let mut config = RackConfig::of_rack(&rack, &ramdisk);
    if let Some(ramdisk) = arm64 {
        config.ramdisk_arm64 = Some((ramdisk, "console=ttyAMA0 quiet nokaslr mitigations=off".into()));
        config.signed_boot_arm64 = Some(store.arm64().unwrap());
    }
    configure(&mut config, &store);
    let runtime = rack.netns().runtime(2).unwrap();
    let done = run_on(runtime, async move {
        let server = VirtualServer::start(&rack, 1, firmware, options)?;
        let place = Place::inside(rack.netns());
        let mut farrier = Installation::start(place, &programs, &rack.dir().join("farrier")).await?;
        let client = farrier.client()?;
        client.create_site("s1").await?;
        client.create_rack("r1", "s1").await?;
        farrier.start_rack("r1", &config).await?;
        let mut lab = Lab { farrier, client, server, image, rack };
        let ended = work(&mut lab).await;
        let console = farrier_sim::lab::tail(&lab.server.machine.spec().serial_log(), 40);
        ended.with_context(|| format!("{}── console\n{console}", lab.farrier.tails(40)))?;
        lab.server.shutdown().await?;
        lab.farrier.shutdown().await
    });
    done.unwrap();
}

/// A ramdisk that firmware has soon.
fn small(ramdisk: Ramdisk) -> Ramdisk {
    let size = std::fs::metadata(&ramdisk.initrd).unwrap().len();
    assert!(size < 25 << 20, "{size} bytes: firmware loads it over a slow network");
    ramdisk
}

pub(crate) fn boot_mode(firmware: Firmware) -> BootMode {
    match firmware {
        Firmware::Bios => BootMode::Bios,
        Firmware::Uefi => BootMode::Uefi,
    }
}

/// Enrols the server as node `n1`, imports the image, makes the node available.
pub(crate) async fn make_available(
    client: &Client,
    server: &VirtualServer,
    image: &ImageFile,
    mode: BootMode,
) -> Result<NewNode> {
    client.import_image("mini", image, |_, _| {}).await?;
    client.create_flavor(Flavor { name: "any".into(), ..Flavor::default() }).await?;
    enrol(client, "n1", server, mode).await
}

/// Enrols a server and makes it available.
pub(crate) async fn enrol(
    client: &Client,
    name: &str,
    server: &VirtualServer,
    mode: BootMode,
) -> Result<NewNode> {
    let new = new_node(name, server, mode);
    enrol_as(client, &new, &[NodeVerb::Manage, NodeVerb::Inspect, NodeVerb::Provide]).await?;
    Ok(new)
}

/// The server as a node of the rack.
fn new_node(name: &str, server: &VirtualServer, mode: BootMode) -> NewNode {
    NewNode {
        name: name.into(),
        rack: "r1".into(),
        bmc_address: server.bmc_address.to_string(),
        bmc_user: "admin".into(),
        bmc_password: "farrier-lab".into(),
        redfish: None,
        boot_mode: mode,
        boot_interface: BootInterface::Unspecified,
        mac: server.macs[0].clone(),
        switch_port: server.tap.name().to_owned(),
    }
}

/// Enrols a node and takes it so far.
async fn enrol_as(client: &Client, new: &NewNode, verbs: &[NodeVerb]) -> Result<()> {
    client.create_node(new).await?;
    for verb in verbs {
        client.wait(client.act(&new.name, *verb).await?, |_| {}).await?;
    }
    Ok(())
}

/// The small image, and a flavor that any machine has.
async fn import_mini(lab: &Lab) -> Result<()> {
    lab.client.import_image("mini", &lab.image, |_, _| {}).await?;
    lab.client.create_flavor(Flavor { name: "any".into(), ..Flavor::default() }).await?;
    Ok(())
}

/// Somebody switched a machine on that nobody has enrolled: a person finds it in the events, with what to do.
async fn an_unknown_machine_is_history(client: &Client, server: &VirtualServer) -> Result<()> {
    server.machine.power_on().await?;
    let seen = async {
        loop {
            let events = client.events("action=\"unknown machine\"").await?;
            if let Some(event) = events.into_iter().find(|event| event.detail.contains(&server.macs[0])) {
                return anyhow::Ok(event);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let event = tokio::time::timeout(PATIENCE, seen).await.context("no event of an unknown machine")??;
    ensure!(event.resource == "racks/r1", "{event:?}");
    ensure!(event.detail.contains(&format!("farrier port create {} --node", server.macs[0])), "{event:?}");
    Ok(server.machine.power_off().await?)
}

/// Somebody at the console, by the command line, before anything is switched on.
async fn watch_console(farrier: &Installation, client: &Client) -> Result<tokio::process::Child> {
    let line = format!("exec {} node console n1 --read-only", farrier.farrier_line()?);
    let viewer = tokio::process::Command::new("sh")
        .args(["-c", &line])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    // rackd may have it open already, for the log: that somebody attaches is in the history.
    let attached = async {
        while client.events("action=\"console attach\"").await?.is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, attached).await.context("nobody attaches to the console")??;
    Ok(viewer)
}

/// Two power cycles, firmware to system, over SOL: the log has both, and is searched.
async fn console_has_the_boots(farrier: &Installation, mode: BootMode, up: &str) -> Result<()> {
    let has = async |text: &str| {
        // What was said reaches the log in its own time.
        let look = async {
            loop {
                let found = farrier.farrier(&["node", "console", "n1", "--search", text, "-o", "json"])?;
                let found: serde_json::Value = serde_json::from_str(&found)?;
                match found.as_array().map_or(0, Vec::len) {
                    0 => tokio::time::sleep(LOOK_EVERY).await,
                    count => return anyhow::Ok(count),
                }
            }
        };
        tokio::time::timeout(PATIENCE, look).await.with_context(|| format!("no {text:?} in the log"))?
    };
    let firmware = if mode == BootMode::Uefi { "BdsDxe: starting" } else { "SeaBIOS (version" };
    ensure!(has(firmware).await? >= 2, "a firmware's beginning is missing");
    ensure!(has("farrier-agent").await? >= 1);
    ensure!(has(up).await? == 1);
    Ok(())
}

/// Firmware, emulated and slow, asks within seconds.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(180);
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(200);

async fn straight_path(lab: &Lab, mode: BootMode, method: DeployMethod) -> Result<()> {
    let Lab { farrier, client, server, image, .. } = lab;
    if method == DeployMethod::Iscsi {
        an_unknown_machine_is_history(client, server).await?;
    }
    let new = make_available(client, server, image, mode).await?;
    let node = client.node("n1").await?;
    let found = node.hardware.context("no hardware")?;
    ensure!(found.boot_mode() == mode, "inspection says {:?}", found.boot_mode());
    ensure!(found.nics.iter().any(|nic| nic.mac_address == new.mac && nic.link_up), "{:?}", found.nics);
    ensure!(found.system.context("no system")?.serial_number == server.name);
    ensure!(
        found.disks.iter().any(|disk| disk.size_bytes == 8 << 30 && disk.serial_number == "disk0"),
        "{:?}",
        found.disks
    );
    let cpu = found.cpu.context("no processor")?;
    ensure!(cpu.architecture == "x86_64" && (cpu.socket_count, cpu.thread_count) == (1, 1), "{cpu:?}");
    // The kernel keeps some of the machine's 1 GiB for itself.
    ensure!((900 << 20..=1 << 30).contains(&found.memory_bytes), "{} bytes", found.memory_bytes);

    let viewer = watch_console(farrier, client).await?;
    let before = server.machine.serial_position();
    let instance = Instance { method: method.into(), ..anvil() };
    let deployed = client.wait(client.create_instance(instance).await?, |_| {}).await?;
    ensure!(deployed.steps.iter().all(|step| step.error.is_empty()), "{:?}", deployed.steps);
    let instance = client.instance("anvil").await?;
    ensure!(instance.state() == InstanceState::Active && instance.placed_node == "nodes/n1");
    let address = instance.addresses.first().context("an instance without an address")?;
    ensure!(address.starts_with("10.91.0."), "{address} is not in the tenant network");
    let node = client.node("n1").await?;
    ensure!(node.state() == ProvisionState::Active && node.power_state() == PowerState::On);
    // The system itself, with the host name of its config drive and the address of the tenant network.
    let up = format!("FARRIER-MINI-UP hostname=hammer address={address}/");
    server.machine.wait_serial(before, &up, PATIENCE).await?;
    console_has_the_boots(farrier, mode, &up).await?;
    drop(viewer);

    client.wait(client.delete_instance("anvil").await?, |_| {}).await?;
    let node = client.node("n1").await?;
    ensure!(node.state() == ProvisionState::Available && node.instance.is_empty());
    ensure!(server.machine.power_state().await == farrier_sim::machine::PowerState::Off);
    let mut start = vec![1; 64 << 10];
    std::fs::File::open(server.machine.spec().disk_path(0))?.read_exact(&mut start)?;
    ensure!(start.iter().all(|byte| *byte == 0), "the partition table is still there");
    Ok(())
}
