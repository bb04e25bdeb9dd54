//! What a rack serves, as a file: raw text in, a checked boot table out.
//!
//! `rackd --standalone` takes one that somebody wrote; with a centre, rackd writes what it was told last.

mod kept;

#[cfg(test)]
mod tests;

pub(crate) use kept::Kept;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use crate::config::{DhcpMode, HttpsConfig, Role, SegmentConfig};
use anyhow::{Context as _, bail, ensure};
use farrier_netboot::{
    Artifact, ArtifactName, Boot, BootEntry, BootTable, ChapWord, Dhcp, Dhcp6, KernelArgs, MacAddr, Pool,
    Ramdisk, Ramdisks, San, Segment,
};
use serde::{Deserialize, Serialize};

/// Everything that is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// Grows with every change; an older one is refused.
    pub(crate) generation: u64,
    pub(crate) segments: Vec<SegmentText>,
    #[serde(default)]
    pub(crate) machines: Vec<MachineText>,
    /// Kernels and initrds, by the name they are served under.
    #[serde(default)]
    pub(crate) artifacts: BTreeMap<String, PathBuf>,
    /// Boot files over TLS, for UEFI's HTTP boot; missing: over http.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) https: Option<HttpsConfig>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentText {
    pub(crate) name: String,
    /// With our address; missing: DHCP and TFTP are somebody else's here.
    #[serde(default)]
    interface: String,
    /// Our address and the prefix length, 10.90.0.1/24.
    address: String,
    /// The subnet, 10.91.0.0/24, where its machines are behind a relay agent; `address` is then ours as they reach
    /// it, and there is no interface.
    #[serde(default)]
    behind_relay: Option<String>,
    #[serde(default)]
    gateway: Option<Ipv4Addr>,
    #[serde(default)]
    dns: Vec<Ipv4Addr>,
    /// Name servers for those that ask by DHCPv6, beside `address6`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dns6: Vec<Ipv6Addr>,
    #[serde(default)]
    domain: Option<String>,
    #[serde(default = "an_hour")]
    lease_seconds: u32,
    /// DHCPv6 for the machines that are named: our address and the prefix length, 2001:db8:90::1/64; a machine's address has
    /// its IPv4 address in the last 32 bits. Missing: none.
    #[serde(default)]
    pub(crate) address6: Option<String>,
    /// The subnet of IPv6, 2001:db8:91::/64, beside `behind_relay`; `address6` is then ours as its machines reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    behind_relay6: Option<String>,
    /// Whose DHCP it is.
    #[serde(default, with = "serde_yaml_ng::with::singleton_map")]
    dhcp: DhcpText,
    /// Addresses for machines that are not named; missing: they get no answer.
    #[serde(default)]
    pool: Option<PoolText>,
    /// False on a network of BMCs: they get addresses, and firmware that boots gets no answer.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    boots: bool,
    /// False: addresses are given without looking for them on the wire first.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    conflict_check: bool,
    /// False beside a router that says that addresses come by DHCPv6: router solicitations are its to answer.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    router_advertisements: bool,
}

/// As in `rackd.toml`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DhcpText {
    /// For everybody where there is a pool, else as `reservations`.
    #[default]
    Authoritative,
    /// For the machines that are named.
    Reservations,
    /// Boot files beside somebody else's server.
    Proxy,
    /// Somebody else's.
    Off,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PoolText {
    first: Ipv4Addr,
    last: Ipv4Addr,
    #[serde(default, with = "serde_yaml_ng::with::singleton_map")]
    boot: BootText,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MachineText {
    pub(crate) name: String,
    pub(crate) mac: String,
    pub(crate) segment: String,
    pub(crate) address: Ipv4Addr,
    /// Missing: its name.
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default, with = "serde_yaml_ng::with::singleton_map")]
    pub(crate) boot: BootText,
}

/// What a machine boots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BootText {
    /// An address and nothing else.
    #[default]
    None,
    /// An address, and for iPXE: go on to the disk.
    LocalDisk,
    /// A kernel and an initrd.
    Linux {
        kernel: String,
        initrd: String,
        #[serde(default)]
        args: String,
        /// Through shim and GRUB, for firmware with Secure Boot on.
        #[serde(default)]
        signed: bool,
        /// What arm64 machines start, whose kernel is another; missing: the same as all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arm64: Option<RamdiskText>,
    },
    /// An iSCSI disk, of whatever target there is: a machine without one of its own.
    Iscsi {
        /// The target's address and port.
        portal: SocketAddrV4,
        target: String,
        #[serde(default)]
        lun: u16,
        /// What the machine calls itself.
        initiator: String,
        /// CHAP name.
        user: String,
        /// A file with the CHAP secret: a snapshot has none in it, and neither has the copy that is kept.
        secret_file: PathBuf,
    },
}

/// A kernel and an initrd of one architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RamdiskText {
    kernel: String,
    initrd: String,
    #[serde(default)]
    args: String,
}

/// A CHAP secret as `secret_file` has it, without the end of its line.
fn chap_secret(path: &Path) -> anyhow::Result<ChapWord> {
    let mut text = String::new();
    let file = File::open(path).with_context(|| format!("secret_file: cannot read {}", path.display()))?;
    file.take(MOST_SECRET)
        .read_to_string(&mut text)
        .with_context(|| format!("secret_file: cannot read {}", path.display()))?;
    text.trim_end().parse().with_context(|| format!("secret_file: {}", path.display()))
}

/// More than any secret has, with the end of its line.
const MOST_SECRET: u64 = 256;

impl From<&SegmentConfig> for SegmentText {
    fn from(config: &SegmentConfig) -> Self {
        let prefixed = |ip: Ipv4Addr| format!("{ip}/{}", config.prefix);
        Self {
            name: config.name.clone(),
            interface: config.interface.clone(),
            address: prefixed(config.address),
            behind_relay: config.behind_relay.map(prefixed),
            gateway: config.gateway,
            dns: config.dns.clone(),
            dns6: config.dns6.clone(),
            domain: config.domain.clone(),
            lease_seconds: config.lease_seconds,
            address6: config.dhcp6.map(|six| format!("{}/{}", six.server_ip, six.prefix)),
            behind_relay6: config.dhcp6.and_then(|six| Some(format!("{}/{}", six.behind_relay?, six.prefix))),
            dhcp: match config.dhcp {
                DhcpMode::Authoritative => DhcpText::Authoritative,
                DhcpMode::Reservations => DhcpText::Reservations,
                DhcpMode::Proxy => DhcpText::Proxy,
                DhcpMode::Off => DhcpText::Off,
            },
            pool: config.strangers().map(|(first, last)| PoolText { first, last, boot: BootText::None }),
            boots: config.role != Role::Management,
            conflict_check: config.conflict_check,
            router_advertisements: config.router_advertisements,
        }
    }
}

impl MachineText {
    /// One that goes on to its disk.
    pub(crate) fn on_disk(name: &str, mac: &str, segment: &str, address: Ipv4Addr) -> Self {
        let (name, mac, segment) = (name.to_owned(), mac.to_owned(), segment.to_owned());
        Self { name, mac, segment, address, hostname: None, boot: BootText::LocalDisk }
    }

    /// One whose system is on an iSCSI disk that this does not say: an address, and no other disk's system.
    pub(crate) fn elsewhere(self) -> Self {
        Self { boot: BootText::None, ..self }
    }

    /// A BMC with an address of its own.
    pub(crate) fn bmc(mac: MacAddr, segment: &str, address: Ipv4Addr) -> Self {
        let mac_text = mac.to_string();
        Self { boot: BootText::None, ..Self::on_disk(&mac.hyphenated(), &mac_text, segment, address) }
    }
}

impl Snapshot {
    /// Reads YAML, of which JSON is a part. Unknown keys are refused: a typing error must not become a default.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let (snapshot, unknown) = Self::read(text);
        // Before what is missing: it is often the same key, written wrong.
        if let Some(key) = unknown.first() {
            bail!("{key}: expected a key of a snapshot, saw an unknown one");
        }
        Ok(snapshot?)
    }

    /// Reads our own copy, which a later rackd may have written before it was taken back: what it knew beyond this is left out.
    pub(crate) fn parse_copy(text: &str) -> anyhow::Result<Self> {
        let (snapshot, unknown) = Self::read(text);
        if !unknown.is_empty() {
            let unknown = unknown.join(" ");
            tracing::warn!(unknown, "the kept snapshot is of a later rackd: what it says there is left out");
        }
        Ok(snapshot?)
    }

    fn read(text: &str) -> (Result<Self, serde_yaml_ng::Error>, Vec<String>) {
        let mut unknown = Vec::new();
        let yaml = serde_yaml_ng::Deserializer::from_str(text);
        let snapshot = serde_ignored::deserialize(yaml, |path| unknown.push(path.to_string()));
        (snapshot, unknown)
    }

    /// The artifacts whose files are not there now: a new snapshot with one is refused, one that was served before
    /// goes on without it.
    pub(crate) fn absent(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.artifacts
            .iter()
            .filter(|(_, path)| !path.is_file())
            .map(|(name, path)| (name.as_str(), path.as_path()))
    }

    /// Whether each secret is there, and one: a new snapshot without is refused. One that was served before goes on without, as
    /// with artifacts.
    pub(crate) fn check_secrets(&self) -> anyhow::Result<()> {
        for machine in &self.machines {
            if let BootText::Iscsi { secret_file, .. } = &machine.boot {
                chap_secret(secret_file).with_context(|| format!("machine {}: boot", machine.name))?;
            }
        }
        Ok(())
    }

    /// The table it describes, if all of it makes sense. Files are read when they are asked for: one that is away
    /// is an error for who asks for it, and for nobody else.
    pub(crate) fn table(&self) -> anyhow::Result<BootTable> {
        let mut table = BootTable::new();
        self.https.as_ref().map(crate::secure::handshake).transpose()?;
        for (name, path) in &self.artifacts {
            let served: ArtifactName = name.parse().with_context(|| format!("artifact {name:?}"))?;
            table.publish_artifact(served, Artifact::File(path.clone()));
        }
        let segments = self.segments()?;
        let mut taken = Taken::default();
        for text in &self.machines {
            table.publish(self.machine_beside(text, &segments, &mut taken)?);
        }
        table.set_segments(segments);
        Ok(table)
    }

    /// All of them, each by itself and beside the others.
    fn segments(&self) -> anyhow::Result<Vec<Segment>> {
        let mut segments: Vec<Segment> = Vec::new();
        for text in &self.segments {
            let segment = self.segment(text).with_context(|| format!("segment {}", text.name))?;
            let twice = |other: &Segment| {
                other.network == segment.network
                    || (!segment.interface.is_empty() && other.interface == segment.interface)
            };
            ensure!(!segments.iter().any(twice), "segment {}: name or interface is used twice", text.name);
            segments.push(segment);
        }
        for far in segments.iter().filter(|s| s.behind_relay.is_some()) {
            let near = |s: &Segment| !s.interface.is_empty() && s.server_ip == far.server_ip;
            ensure!(
                segments.iter().any(near),
                "segment {}: address: expected that of a segment with an interface, where the relay brings packets to, saw {}",
                far.network,
                far.server_ip
            );
            let Some(six) = far.dhcp6 else { continue };
            let others = || segments.iter().filter(|s| s.network != far.network);
            let near = |s: &Segment| {
                !s.interface.is_empty() && s.dhcp6.is_some_and(|its| its.server_ip == six.server_ip)
            };
            ensure!(
                others().any(near),
                "segment {}: address6: expected that of a segment with an interface, where the relay brings packets to, saw {}",
                far.network,
                six.server_ip
            );
            ensure!(
                !others().any(|s| s.dhcp6.is_some_and(|its| its.overlaps(six))),
                "segment {}: behind_relay6: expected a subnet that no other segment has, saw {}",
                far.network,
                six.subnet()
            );
        }
        if let Some(name) = self.https.as_ref().and_then(|https| https.name.as_ref()) {
            for segment in segments.iter().filter(|s| s.boots) {
                let served = !segment.interface.is_empty() || segment.behind_relay.is_some();
                for (key, tells, servers) in [
                    ("dns", served && segment.dhcp == Dhcp::Ours, segment.dns.len()),
                    ("dns6", segment.dhcp6.is_some(), segment.dns6.len()),
                ] {
                    ensure!(
                        !tells || servers > 0,
                        "segment {}: {key}: expected a name server, since machines are sent to https.name {name}, saw none",
                        segment.network
                    );
                }
            }
        }
        Ok(segments)
    }

    /// Leaves out the machines that make no sense beside those before them. Why each is left out; nothing is, where the segments
    /// make none.
    pub(crate) fn leave_out_unusable(&mut self) -> Vec<anyhow::Error> {
        let Ok(segments) = self.segments() else { return Vec::new() };
        let (mut taken, mut why) = (Taken::default(), Vec::new());
        let mut machines = std::mem::take(&mut self.machines);
        machines.retain(|text| {
            let usable = self.machine_beside(text, &segments, &mut taken);
            usable.map_err(|error| why.push(error)).is_ok()
        });
        self.machines = machines;
        why
    }

    /// One machine, beside those before it.
    fn machine_beside(
        &self,
        text: &MachineText,
        segments: &[Segment],
        taken: &mut Taken,
    ) -> anyhow::Result<BootEntry> {
        let name = &text.name;
        let entry = self.machine(text, segments).with_context(|| format!("machine {name}"))?;
        let (mac, ip, network) = (entry.mac, entry.ip, &entry.network);
        ensure!(!taken.addresses.contains(&ip), "machine {name}: {ip} is another machine's too");
        ensure!(
            taken.ports.insert((mac, network.clone())),
            "machine {name}: {mac} has two addresses in segment {network}"
        );
        taken.addresses.insert(ip);
        Ok(entry)
    }

    fn segment(&self, text: &SegmentText) -> anyhow::Result<Segment> {
        ensure!(farrier_model::is_label(&text.name), "expected a name of 1 to 63 of a-z, 0-9 and '-'");
        let (address, mut prefix) = network("address", &text.address)?;
        let behind_relay =
            text.behind_relay.as_deref().map(|text| network("behind_relay", text)).transpose()?;
        if let Some((_, theirs)) = behind_relay {
            ensure!(text.interface.is_empty(), "behind_relay: expected no interface, saw {}", text.interface);
            prefix = theirs;
        }
        let mut segment = Segment::new(&text.name, &text.interface, address, prefix);
        segment.behind_relay = behind_relay.map(|(subnet, _)| subnet);
        segment.gateway = text.gateway;
        segment.dns.clone_from(&text.dns);
        segment.dns6.clone_from(&text.dns6);
        segment.domain.clone_from(&text.domain);
        segment.lease_seconds = text.lease_seconds;
        segment.dhcp6 = text.address6.as_deref().map(|text| six("address6", text)).transpose()?;
        ensure!(
            segment.dhcp6.is_none() || !text.interface.is_empty() || segment.behind_relay.is_some(),
            "address6: expected an interface to serve it on, or behind_relay, saw neither"
        );
        ensure!(
            text.dns6.is_empty() || segment.dhcp6.is_some(),
            "dns6: expected none without address6, saw {:?}",
            text.dns6
        );
        let far = text.behind_relay6.as_deref().map(|text| six("behind_relay6", text)).transpose()?;
        ensure!(
            far.is_some() == (segment.dhcp6.is_some() && segment.behind_relay.is_some()),
            "behind_relay6: expected the subnet of IPv6 where there are behind_relay and address6, and nowhere else"
        );
        if let (Some(six), Some(far)) = (segment.dhcp6.as_mut(), far) {
            (six.behind_relay, six.prefix) = (Some(far.server_ip), far.prefix);
        }
        segment.dhcp = match text.dhcp {
            DhcpText::Authoritative | DhcpText::Reservations => Dhcp::Ours,
            DhcpText::Proxy => Dhcp::Proxy,
            DhcpText::Off => Dhcp::Off,
        };
        ensure!(
            segment.behind_relay.is_none() || text.dhcp != DhcpText::Off,
            "dhcp: expected authoritative, reservations or proxy beside behind_relay, saw off: nobody would listen to the \
             relay, and no machine there would get its script; proxy is for somebody else's DHCP"
        );
        ensure!(
            text.pool.is_none() || text.dhcp == DhcpText::Authoritative,
            "pool: expected none unless dhcp is authoritative"
        );
        if let Some(pool) = &text.pool {
            let inside = segment.contains(pool.first) && segment.contains(pool.last);
            ensure!(
                inside && pool.first <= pool.last,
                "pool: expected first and last inside {}",
                text.address
            );
            ensure!(
                !matches!(pool.boot, BootText::Iscsi { .. }),
                "pool: boot: expected what many machines can boot, saw an iSCSI disk, which is one machine's"
            );
            segment.pool = Some(Pool { first: pool.first, last: pool.last, boot: self.boot(&pool.boot)? });
        }
        segment.boots = text.boots;
        segment.conflict_check = text.conflict_check;
        segment.router_advertisements = text.router_advertisements;
        ensure!(
            text.boots || (segment.dhcp6.is_none() && text.dhcp != DhcpText::Proxy),
            "boots: expected neither address6 nor a proxy where nobody boots"
        );
        Ok(segment)
    }

    fn machine(&self, text: &MachineText, segments: &[Segment]) -> anyhow::Result<BootEntry> {
        ensure!(farrier_model::is_label(&text.name), "expected a name of 1 to 63 of a-z, 0-9 and '-'");
        let mac: MacAddr = text.mac.parse().with_context(|| format!("mac {:?}", text.mac))?;
        let segment = segments.iter().find(|s| s.network == text.segment);
        let segment = segment.with_context(|| format!("there is no segment {:?}", text.segment))?;
        ensure!(
            segment.has_host(text.address) && segment.gateway != Some(text.address),
            "address: expected one of segment {} that is neither the subnet's first or last, nor ours, nor the gateway's, saw {}",
            text.segment,
            text.address
        );
        let hostname = text.hostname.as_ref().unwrap_or(&text.name);
        ensure!(farrier_model::is_label(hostname), "hostname: expected 1 to 63 of a-z, 0-9 and '-'");
        Ok(BootEntry {
            mac,
            node: text.name.clone(),
            hostname: hostname.clone(),
            ip: text.address,
            network: text.segment.clone(),
            boot: self.boot(&text.boot)?,
        })
    }

    fn boot(&self, text: &BootText) -> anyhow::Result<Boot> {
        Ok(match text {
            BootText::None => Boot::None,
            BootText::LocalDisk => Boot::LocalDisk,
            BootText::Iscsi { portal, target, lun, initiator, user, secret_file } => {
                let target = target.parse().context("boot: target")?;
                let initiator = initiator.parse().context("boot: initiator")?;
                let user = user.parse().context("boot: user")?;
                match chap_secret(secret_file) {
                    Ok(secret) => {
                        Boot::San(San { portal: *portal, target, lun: *lun, initiator, user, secret })
                    }
                    Err(error) => {
                        let error = farrier_runtime::telemetry::chain(error.as_ref());
                        tracing::error!(
                            error,
                            "a machine boots nothing until the secret of its iSCSI disk is there, and SIGHUP came"
                        );
                        Boot::None
                    }
                }
            }
            BootText::Linux { kernel, initrd, args, signed, arm64 } => {
                let first = self.ramdisk("boot", (kernel, initrd, args))?;
                let of_arm64 = |text: &RamdiskText| {
                    self.ramdisk("boot: arm64", (&text.kernel, &text.initrd, &text.args))
                };
                let ramdisks = Ramdisks::new(first, arm64.as_ref().map(of_arm64).transpose()?);
                if *signed { Boot::Signed(ramdisks) } else { Boot::Script(ramdisks) }
            }
        })
    }

    fn ramdisk(
        &self,
        key: &str,
        (kernel, initrd, args): (&String, &String, &String),
    ) -> anyhow::Result<Ramdisk> {
        for name in [kernel, initrd] {
            ensure!(self.artifacts.contains_key(name), "{key}: {name:?} is not among the artifacts");
        }
        let args = KernelArgs::parse(args).with_context(|| format!("{key}: args"))?;
        Ok(Ramdisk { kernel: kernel.parse()?, initrd: initrd.parse()?, args })
    }
}

/// What the machines that were looked at have.
#[derive(Default)]
struct Taken {
    addresses: HashSet<Ipv4Addr>,
    ports: HashSet<(MacAddr, String)>,
}

fn six(key: &str, text: &str) -> anyhow::Result<Dhcp6> {
    let parts = text.split_once('/').and_then(|(address, prefix)| {
        let server_ip: Ipv6Addr = address.parse().ok()?;
        let prefix = prefix.parse().ok().filter(|p| (32..=96).contains(p))?;
        (!server_ip.is_multicast() && !server_ip.is_unicast_link_local())
            .then_some(Dhcp6::new(server_ip, prefix))
    });
    parts.with_context(|| {
        format!("{key}: expected a global address and a prefix of 32 to 96 such as 2001:db8:90::1/64, saw {text:?}")
    })
}

/// An address and the length of its prefix.
fn network(key: &str, text: &str) -> anyhow::Result<(Ipv4Addr, u8)> {
    let parts = text.split_once('/').and_then(|(address, prefix)| {
        let prefix = prefix.parse().ok().filter(|p| (8..=30).contains(p))?;
        Some((address.parse().ok()?, prefix))
    });
    parts.with_context(|| format!("{key}: expected address/prefix such as 10.90.0.1/24, saw {text:?}"))
}

fn yes() -> bool {
    true
}

fn is_yes(boots: &bool) -> bool {
    *boots
}

fn an_hour() -> u32 {
    3600
}

/// What a snapshot's text has machines boot, as `--standalone` reads it.
///
/// # Errors
/// What is wrong with it, and where.
pub fn snapshot_table(text: &str) -> anyhow::Result<BootTable> {
    Snapshot::parse(text)?.table()
}
