//! A BMC that was just plugged in asks the rack for an address: it is recognised, found, accepted and managed, before its
//! machine was ever switched on. Its DHCP client is udhcpc, as in many BMCs.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use farrier_identity::device::SelfSigned;
use farrier_proto::types::{NodeVerb, ProvisionState};
use farrier_sim::bmc::redfish::{Facts, Personality, RedfishConfig, RedfishHandle, RedfishServer};
use farrier_sim::bmc::{BmcConfig, BmcServer, MemoryChassis, Secret};
use farrier_sim::lab::{Installation, Place, Programs, RackConfig, Segment, Service, run_on};
use farrier_sim::media::Ramdisk;
use farrier_sim::net::{Bridge, Netns};
use farrier_sim::rack::Rack;
use serde_json::Value;

/// Of the first BMC in the network of BMCs.
const RESERVED: Ipv4Addr = Ipv4Addr::new(10, 92, 0, 50);
const PASSWORD: &str = "on-the-label";

#[test]
fn a_bmc_that_asks_for_an_address_is_discovered_and_becomes_a_node() {
    with_rack(|farrier, rack| Box::pin(discovered(farrier, rack)));
}

/// It asks again half a day later.
#[test]
fn a_bmc_that_asked_while_the_centre_was_away_is_discovered_when_it_is_back_and_by_a_rackd_that_starts() {
    with_rack(|farrier, rack| Box::pin(found_later(farrier, rack)));
}

type Work<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// In an installation whose rack discovers, with a network of BMCs.
fn with_rack(work: for<'a> fn(&'a mut Installation, &'a Rack) -> Work<'a>) {
    farrier_sim::cleanup::on_signals();
    let programs = Programs::beside_tests().unwrap();
    let rack = Rack::build().unwrap();
    let nothing = rack.dir().join("nothing");
    std::fs::write(&nothing, "boots nobody").unwrap();
    let ramdisk = Ramdisk { kernel: nothing.clone(), initrd: nothing };
    let mut config = RackConfig::of_rack(&rack, &ramdisk);
    (config.discovery, config.signed_boot) = (true, false);
    let provisioning = config.segments.first_mut().unwrap();
    provisioning.dhcp = Some("authoritative");
    provisioning.guests = Some("10.90.0.200-10.90.0.219".to_owned());
    config.segments.push(Segment {
        name: "bmcs".to_owned(),
        role: "management",
        interface: rack.bmcs().name().to_owned(),
        address: "10.92.0.1/24".to_owned(),
        pool: "10.92.0.100-10.92.0.119".to_owned(),
        dhcp: None,
        guests: None,
        reservations: [(mac(4), RESERVED)].into(),
    });
    let runtime = rack.netns().runtime(2).unwrap();
    let done = run_on(runtime, async move {
        let place = Place::inside(rack.netns());
        let mut farrier = Installation::start(place, &programs, &rack.dir().join("farrier")).await?;
        let client = farrier.client()?;
        client.create_site("s1").await?;
        client.create_rack("r1", "s1").await?;
        farrier.start_rack("r1", &config).await?;
        let ended = work(&mut farrier, &rack).await;
        ended.with_context(|| farrier.tails(40))?;
        farrier.shutdown().await
    });
    done.unwrap();
}

async fn found_later(farrier: &mut Installation, rack: &Rack) -> Result<()> {
    farrier.kill(Service::Inventory);
    let away = Plugged::into(rack, rack.provisioning(), 1, &["-V", "iDRAC", "-x", "hostname:idrac-ABC1234"])?;
    let dell = away.serve_redfish().await?;
    // It was looked at, and nobody said whose it is.
    let log = farrier.log(Service::Rackd);
    let put_off = async {
        while !std::fs::read_to_string(&log)?.contains("their BMCs are looked at later") {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, put_off).await.context("it is not looked at")??;
    farrier.restart(Service::Inventory).await?;
    let seen = shown(farrier, &away.mac).await?;
    ensure!(seen["bmc"]["driver"] == "idrac" && seen["bmc"]["maker"] == "Dell iDRAC", "{seen}");

    // One in the network of BMCs, and its rackd ends before the centre is back.
    farrier.kill(Service::Inventory);
    let managed = Plugged::into(rack, rack.bmcs(), 5, &[])?;
    let other = managed.serve_ipmi()?;
    farrier.kill(Service::Rackd);
    farrier.restart(Service::Inventory).await?;
    farrier.restart(Service::Rackd).await?;
    let seen = shown(farrier, &managed.mac).await?;
    ensure!(seen["bmc"]["driver"] == "ipmi" && seen["bmc_address"] == managed.ip.to_string(), "{seen}");
    dell.shutdown().await;
    other.shutdown().await;
    Ok(())
}

/// What is said of one that is discovered, as soon as it is.
async fn shown(farrier: &Installation, mac: &str) -> Result<Value> {
    let found = async {
        loop {
            if let Ok(text) = farrier.farrier(&["discovered", "show", mac, "-o", "json"]) {
                return anyhow::Ok(serde_json::from_str(&text)?);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.with_context(|| format!("{mac} is not discovered"))?
}

async fn discovered(farrier: &Installation, rack: &Rack) -> Result<()> {
    // A Redfish BMC of Dell's make, and one that speaks IPMI alone.
    let redfish =
        Plugged::into(rack, rack.provisioning(), 1, &["-V", "iDRAC", "-x", "hostname:idrac-ABC1234"])?;
    let dell = redfish.serve_redfish().await?;
    let ipmi = Plugged::into(rack, rack.provisioning(), 2, &["-x", "hostname:ILO2M293100R6"])?;
    let hpe = ipmi.serve_ipmi()?;
    // A stranger that is no BMC by its own word is not asked.
    let other = Plugged::into(rack, rack.provisioning(), 3, &["-x", "hostname:web-1"])?;
    let _quiet = other.serve_redfish().await?;

    // In the network of BMCs nobody has to say that it is one; the first has an address of its own there.
    let reserved = Plugged::into(rack, rack.bmcs(), 4, &[])?;
    ensure!(reserved.ip == RESERVED, "{}", reserved.ip);
    let third = reserved.serve_redfish().await?;
    let pooled = Plugged::into(rack, rack.bmcs(), 5, &[])?;
    ensure!(pooled.ip.octets().starts_with(&[10, 92, 0]) && pooled.ip.octets()[3] >= 100, "{}", pooled.ip);
    let fourth = pooled.serve_ipmi()?;
    for (of, driver) in [(&reserved, "idrac"), (&pooled, "ipmi")] {
        let seen = shown(farrier, &of.mac).await?;
        ensure!(seen["bmc"]["driver"] == driver && seen["bmc_address"] == of.ip.to_string(), "{seen}");
        farrier.farrier(&["discovered", "forget", &of.mac])?;
    }
    nobody_boots_among_bmcs(farrier, rack)?;
    let seen = shown(farrier, &redfish.mac).await?;
    ensure!(seen["bmc"]["driver"] == "idrac" && seen["bmc"]["maker"] == "Dell iDRAC", "{seen}");
    ensure!(seen["bmc_address"] == redfish.ip.to_string() && seen["boot_mac_address"] == "", "{seen}");
    let pin: String = redfish.tls.fingerprint().iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(seen["bmc"]["certificate_sha256"] == pin, "{seen}");
    let seen = shown(farrier, &ipmi.mac).await?;
    ensure!(seen["bmc"]["driver"] == "ipmi" && seen["bmc"]["maker"] == "HPE iLO", "{seen}");

    // By what the rack saw, and by what is on the label.
    let (plan, list) = (rack.dir().join("plan.yaml"), rack.dir().join("ordered.csv"));
    std::fs::write(&plan, "rules: []\n")?;
    let row = format!("\"{}\",admin,\"{PASSWORD}\",n2", ipmi.mac);
    std::fs::write(&list, format!("bmc_mac_address,bmc_user,bmc_password,node\n{row}\n"))?;
    let (plan, list) = (plan.to_string_lossy(), list.to_string_lossy());
    farrier.farrier(&["discovered", "plan", "apply", &plan, "--machines", &list])?;
    farrier.farrier(&["discovered", "accept", &ipmi.mac])?;
    let password = rack.dir().join("password");
    std::fs::write(&password, PASSWORD)?;
    let account = ["--bmc-user", "admin", "--bmc-password-file", &password.to_string_lossy()];
    farrier.farrier(&[&["discovered", "accept", &redfish.mac, "--as", "n1"], &account[..]].concat())?;
    let client = farrier.client()?;
    for (name, of) in [("n1", &redfish), ("n2", &ipmi)] {
        // Not by the command: their BMCs are served by these very threads.
        client.wait(client.act(name, NodeVerb::Manage).await?, |_| {}).await?;
        let node = client.node(name).await?;
        let bmc = node.bmc.clone().context("no BMC")?;
        ensure!(node.state() == ProvisionState::Manageable && bmc.address == of.ip.to_string(), "{node:?}");
    }
    ensure!(client.node("n1").await?.bmc.context("no BMC")?.certificate_sha256 == pin);
    // Somebody's laptop that boots from the network is a machine to be discovered: an address of `guests` is no boot.
    let laptop = laptop(rack)?;
    ensure!(laptop.contains("file=http://10.90.0.1:8080/boot/52-54-00-93-00-09.ipxe"), "{laptop}");
    ensure!(laptop.contains("ip=10.90.0.1"), "of the pool of machines: {laptop}");
    let found = farrier.farrier(&["rack", "dhcp", "reservations", "r1"])?;
    ensure!(found.contains("52:54:00:93:00:09"), "{found}");
    // Its system is a guest like any other.
    ensure!(!found.contains(&other.mac), "{found}");
    // It is a node's now: asking again does not make it another machine.
    let left: Value = serde_json::from_str(&farrier.farrier(&["discovered", "list", "-o", "json"])?)?;
    ensure!(left == serde_json::json!([]), "{left}");
    third.shutdown().await;
    fourth.shutdown().await;
    dell.shutdown().await;
    hpe.shutdown().await;
    Ok(())
}

/// Firmware that was plugged in there gets no address and no boot file, and a person is told why.
fn nobody_boots_among_bmcs(farrier: &Installation, rack: &Rack) -> Result<()> {
    let pxe = ["-V", "PXEClient:Arch:00007:UNDI:003016", "-x", "0x5d:0007", "-t", "3", "-T", "1"];
    let Err(silence) = Plugged::into(rack, rack.bmcs(), 6, &pxe) else { bail!("firmware has an address") };
    ensure!(format!("{silence:#}").contains("no lease"), "{silence:#}");
    let log = farrier.farrier(&["rack", "dhcp", "log", "r1", "--mac", &mac(6)])?;
    ensure!(log.contains("boots on management network bmcs"), "{log}");
    ensure!(!log.contains("DHCPOFFER"), "{log}");
    let status = farrier.farrier(&["rack", "status", "r1", "-o", "json"])?;
    ensure!(status.contains("\"management\""), "{status}");
    // Nor by TFTP.
    let netns = Netns::create()?;
    rack.netns().ip(&format!(
        "link add mgmt7 type veth peer name eth0 netns {}\nlink set mgmt7 master {} up\n",
        netns.name(),
        rack.bmcs().name()
    ))?;
    netns.ip("link set eth0 up\naddr add 10.92.0.7/24 dev eth0\n")?;
    let mut curl = netns.command("curl");
    let fetched = curl.args(["-sS", "--max-time", "6", "-o", "/dev/null", "tftp://10.92.0.1/undionly.kpxe"]);
    ensure!(!fetched.status()?.success(), "a boot file by TFTP");
    Ok(())
}

/// A namespace with one cable to one of the rack's networks: a BMC.
struct Plugged {
    netns: Netns,
    mac: String,
    ip: Ipv4Addr,
    tls: SelfSigned,
}

impl Plugged {
    /// Plugs it in, and asks for an address.
    fn into(rack: &Rack, network: &Bridge, index: u8, dhcp: &[&str]) -> Result<Self> {
        let netns = Netns::create()?;
        let (mac, bridge) = (mac(index), network.name());
        rack.netns().ip(&format!(
            "link add bmc{index} type veth peer name eth0 address {mac} netns {}\n\
             link set bmc{index} master {bridge} up\n",
            netns.name()
        ))?;
        netns.ip("link set eth0 up\n")?;
        let script = rack.dir().join("udhcpc.sh");
        std::fs::write(&script, "#!/bin/sh\n[ \"$1\" != bound ] || ip addr add $ip/24 dev $interface\n")?;
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
        let mut udhcpc: Command = netns.command("udhcpc");
        udhcpc.args(["-f", "-q", "-n", "-t", "10", "-T", "2", "-i", "eth0", "-s"]).arg(&script).args(dhcp);
        let output = udhcpc.output().context("udhcpc: apt-get install udhcpc")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let shown = netns.ip("-4 -o addr show dev eth0\n").or_else(|_| netns.ip("addr show dev eth0\n"))?;
        let ip = shown.split_ascii_whitespace().find_map(|word| word.strip_suffix("/24")?.parse().ok());
        let ip: Ipv4Addr = ip.with_context(|| format!("no address in {shown}"))?;
        let tls = SelfSigned::generate(&[ip.to_string()])?;
        Ok(Self { netns, mac, ip, tls })
    }

    async fn serve_redfish(&self) -> Result<RedfishHandle> {
        let facts = Facts { serial_number: "ABC1234".to_owned(), ..Facts::default() };
        let mut config = RedfishConfig::new("admin", Secret::new(PASSWORD), facts).of(Personality::Idrac);
        config.tls = Some(self.tls.clone());
        let listener = self.netns.tcp_listen(SocketAddr::from((self.ip, 443)))?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        Ok(RedfishServer::start(listener, config, Arc::new(MemoryChassis::new()))?)
    }

    fn serve_ipmi(&self) -> Result<farrier_sim::bmc::BmcHandle> {
        let socket = tokio::net::UdpSocket::from_std(self.netns.udp_bind(SocketAddr::from((self.ip, 623)))?)?;
        let config = BmcConfig::new("admin", Secret::new(PASSWORD));
        Ok(BmcServer::start(socket, config, Arc::new(MemoryChassis::new()))?)
    }
}

/// Of who is plugged in.
fn mac(index: u8) -> String {
    format!("52:54:00:93:00:{index:02x}")
}

/// Asks as iPXE does, until it is told what to boot. It is sent on from the address of a guest: by a NAK, or when it asks again.
fn laptop(rack: &Rack) -> Result<String> {
    let netns = Netns::create()?;
    let (mac, bridge) = ("52:54:00:93:00:09", rack.provisioning().name());
    rack.netns().ip(&format!(
        "link add laptop type veth peer name eth0 address {mac} netns {}\nlink set laptop master {bridge} up\n",
        netns.name()
    ))?;
    netns.ip("link set eth0 up\n")?;
    let script = rack.dir().join("laptop.sh");
    std::fs::write(&script, "#!/bin/sh\n[ \"$1\" != bound ] || echo \"ip=$ip file=$boot_file\"\n")?;
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let begun = std::time::Instant::now();
    loop {
        let mut udhcpc = netns.command("udhcpc");
        udhcpc
            .args(["-f", "-q", "-n", "-t", "4", "-T", "2", "-i", "eth0", "-O", "bootfile", "-s"])
            .arg(&script);
        udhcpc.args(["-V", "PXEClient:Arch:00007:UNDI:003016", "-x", "0x5d:0007", "-x", "0x4d:69505845"]);
        let output = udhcpc.output().context("udhcpc: apt-get install udhcpc")?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if told.contains("file=http") || begun.elapsed() > PATIENCE {
            return Ok(told);
        }
    }
}

/// From the first question to the last pause before another.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(200);
