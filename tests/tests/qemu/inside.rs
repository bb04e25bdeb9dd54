//! What a discovered machine says of itself from inside: the switch at the other end of its cable, and its own BMC. The
//! switch is lldpd; the BMC behind the machine's KCS interface is OpenIPMI's.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use farrier_proto::types::NodeVerb;
use farrier_sim::lab::{Programs, RackConfig};
use farrier_sim::machine::Firmware;
use farrier_sim::media::{KernelFlavour, MediaStore};
use farrier_sim::net::Netns;
use farrier_sim::virtual_server::ServerOptions;
use serde_json::Value;

use super::{LOOK_EVERY, Lab, on_a_rack_with};

#[test]
fn a_discovered_machine_tells_its_switch_port_and_its_bmc() {
    let options = ServerOptions {
        system_interface: Some(SocketAddr::from(([127, 0, 0, 1], VM_PORT))),
        smbios: vec![host_interface()],
        ..ServerOptions::default()
    };
    let configure = |config: &mut RackConfig, store: &MediaStore| {
        // The kernel for hardware: the other one has no IPMI.
        let agent = Programs::build().unwrap();
        let ramdisk = store.ramdisk(agent.agent(), KernelFlavour::Generic).unwrap();
        let size = std::fs::metadata(&ramdisk.initrd).unwrap().len();
        assert!(size < 25 << 20, "{size} bytes: firmware loads it over a slow network");
        (config.kernel, config.initrd) = (ramdisk.kernel, ramdisk.initrd);
        (config.discovery, config.neighbour_seconds) = (true, 31);
        // UEFI's PXE gives up at the first offer without a boot file: it must not be a guest before it is known to be one.
        let provisioning = config.segments.first_mut().unwrap();
        provisioning.dhcp = Some("authoritative");
        provisioning.guests = Some("10.90.0.200-10.90.0.219".to_owned());
    };
    on_a_rack_with(Firmware::Uefi, options, configure, |lab| Box::pin(told(lab)));
}

async fn told(lab: &mut Lab) -> Result<()> {
    let Lab { farrier, client, server, rack, .. } = lab;
    let dir = rack.dir().to_owned();
    start_switch(rack.netns(), &dir, server.tap.name())?;
    start_own_bmc(rack.netns(), &dir)?;
    server.machine.power_on().await?;

    let mac = server.macs[0].clone();
    let shown = || -> Result<Value> {
        Ok(serde_json::from_str(&farrier.farrier(&["discovered", "show", &mac, "-o", "json"])?)?)
    };
    let seen = async {
        loop {
            if let Ok(seen) = shown() {
                return seen;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let seen = tokio::time::timeout(BOOT, seen).await.context("nothing is discovered")?;
    let nic = &seen["hardware"]["nics"][0];
    let neighbour = &nic["neighbour"];
    ensure!(nic["mac_address"] == mac.as_str() && neighbour["system_name"] == "tor-a1", "{nic}");
    ensure!(
        neighbour["port_id"] == "Ethernet1/7" && neighbour["port_description"] == "n1, left port",
        "{nic}"
    );
    ensure!(neighbour["management_addresses"][0] == "10.90.0.1", "{nic}");
    let own = &seen["hardware"]["own_bmc"];
    ensure!(own["mac_address"] == OWN_MAC && own["ip_address"] == "10.92.0.11", "{own}");
    ensure!(own["redfish_host_interface"] == "10.92.0.11:443", "{own}");
    let table = farrier.farrier(&["discovered", "list", "-o", "wide"])?;
    ensure!(table.contains("tor-a1 Ethernet1/7") && table.contains("10.92.0.11"), "{table}");

    // The list knows it by its BMC; the machine says where that is, in the network that the rule has BMCs in.
    let (plan, list) = (dir.join("plan.yaml"), dir.join("ordered.csv"));
    let rule = "rules:\n- { name: all, bmc: { driver: ipmi, user: admin }, bmc_subnet: 10.92.0.0/24, automatic: true }\n";
    std::fs::write(&plan, rule)?;
    std::fs::write(
        &list,
        format!("bmc_mac_address,bmc_password,node,rack_unit\n{OWN_MAC},farrier-lab,n1,7\n"),
    )?;
    let (plan, list) = (plan.to_string_lossy(), list.to_string_lossy());
    farrier.farrier(&["discovered", "plan", "apply", &plan, "--machines", &list])?;
    let proposal = shown()?["proposal"].take();
    ensure!(proposal["automatic"] == true && proposal["node"] == "nodes/n1", "{proposal}");
    farrier.farrier(&["discovered", "accept", &mac])?;
    // Not by the command: its BMC is served by this very thread.
    client.wait(client.act("n1", NodeVerb::Manage).await?, |_| {}).await?;
    let node = client.node("n1").await?;
    let bmc = node.bmc.context("no BMC")?;
    ensure!((bmc.address.as_str(), node.rack_unit) == ("10.92.0.11", 7), "{bmc:?}");
    Ok(())
}

/// Management Controller Host Interface (DSP0134 §7.43) of a network card with Redfish over IP (DSP0270 §8.3): the service is at
/// 10.92.0.11, port 443, of a network that others have a way to.
fn host_interface() -> Vec<u8> {
    let address = |[a, b, c, d]: [u8; 4]| [&[a, b, c, d][..], &[0; 12]].concat();
    // A fixed address, IPv4, its mask; the same of the service, and its port and VLAN; no host name.
    let record = [
        &[0_u8; 16][..],
        &[1, 1],
        &address([10, 92, 0, 12]),
        &address([255, 255, 255, 0]),
        &[1, 1],
        &address([10, 92, 0, 11]),
        &address([255, 255, 255, 0]),
        &443_u16.to_le_bytes(),
        &[0; 4],
        &[0],
    ]
    .concat();
    // Network host interface, a PCI card; one protocol record, of Redfish over IP.
    let card = [5, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let length = u8::try_from(record.len()).unwrap_or(u8::MAX);
    let area = [&[0x40, 10][..], &card, &[1, 4, length], &record].concat();
    let length = u8::try_from(4 + area.len()).unwrap_or(u8::MAX);
    [&[42, length, 0, 0x42][..], &area, &[0, 0]].concat()
}

/// lldpd at the rack's end of the machine's cable. It ends with the namespace.
fn start_switch(netns: &Netns, dir: &Path, port: &str) -> Result<()> {
    let conf = dir.join("lldpd.conf");
    let text = format!(
        "configure system hostname tor-a1\nconfigure lldp tx-interval 2\n\
         configure ports {port} lldp portidsubtype local Ethernet1/7 description \"n1, left port\"\n"
    );
    std::fs::write(&conf, text)?;
    let mut lldpd = Command::new("/usr/sbin/lldpd");
    lldpd.args(["-d", "-I", port, "-m", "10.90.0.1", "-u"]).arg(dir.join("lldpd.sock"));
    lldpd.arg("-O").arg(&conf).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    netns.spawn(lldpd).context("lldpd: apt-get install lldpd")?;
    Ok(())
}

/// ipmi_sim as the BMC that the machine itself sees. It ends with the namespace.
fn start_own_bmc(netns: &Netns, dir: &Path) -> Result<()> {
    let path = |name: &str| dir.join(name);
    let lan_control = path("lan-control");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = get ] || exit 0\nshift\nfor name in \"$@\"; do case $name in\n\
         ip_addr) echo ip_addr:10.92.0.11;;\nip_addr_src) echo ip_addr_src:static;;\n\
         mac_addr) echo mac_addr:{OWN_MAC};;\nsubnet_mask) echo subnet_mask:255.255.255.0;;\n\
         *) echo $name:0.0.0.0;;\nesac; done\n"
    );
    std::fs::write(&lan_control, script)?;
    std::fs::set_permissions(&lan_control, std::fs::Permissions::from_mode(0o755))?;
    let lan = format!(
        "name \"own\"\nset_working_mc 0x20\nstartlan 1\n addr 127.0.0.1 9623\n priv_limit admin\n \
         allowed_auths_admin none md2 md5 straight\n guid a123456789abcdefa123456789abcdef\n \
         lan_config_program \"{}\"\nendlan\nserial 15 127.0.0.1 {VM_PORT} codec VM\n\
         user 2 true \"admin\" \"test\" admin 10 none md2 md5 straight\n",
        lan_control.display()
    );
    std::fs::write(path("own-lan.conf"), lan)?;
    let emulation = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
                     sel_enable 0x20 1000 0x0a\nmc_enable 0x20\n";
    std::fs::write(path("own-emu"), emulation)?;
    let mut bmc = Command::new("ipmi_sim");
    bmc.arg("-n").arg("-c").arg(path("own-lan.conf")).arg("-f").arg(path("own-emu")).arg("-s").arg(dir);
    bmc.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    netns.spawn(bmc).context("ipmi_sim: apt-get install openipmi")?;
    Ok(())
}

/// Inside the rack's own namespace.
const VM_PORT: u16 = 9002;
const OWN_MAC: &str = "52:54:00:92:00:0b";
/// Firmware, a kernel with drivers for hardware, and half a minute of listening.
const BOOT: std::time::Duration = std::time::Duration::from_secs(240);
