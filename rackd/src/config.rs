//! What an operator writes in `rackd.toml`: raw text in, checked values out.

mod segment;

use crate::tasks::Timeouts;
use segment::RawSegment;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

pub(crate) use segment::DhcpMode;
pub use segment::{Role, SegmentConfig};

/// Checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Id of the rack, as in `racks/<id>`.
    pub rack: String,
    /// RackService: the centre, and an operator on site.
    pub listen: SocketAddr,
    /// AgentService: ramdisks on the provisioning network.
    pub agent_listen: SocketAddr,
    /// Boot scripts, kernels, image chunks, phone-home.
    pub http_listen: SocketAddr,
    /// Boot files over TLS, for UEFI's HTTP boot; unset: over http.
    pub https: Option<HttpsConfig>,
    /// `/metrics`, on loopback; unset: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// iSCSI target: images for ramdisks, disks of diskless machines.
    pub block_listen: SocketAddr,
    /// Journal, image cache, volumes, agent authority.
    pub data: PathBuf,
    /// Program that prints the key of the secrets in `data`, from a key management system: 32 bytes, or the same in
    /// hexadecimal or base64. Words are parted by spaces. It has to answer without the centre, or a rackd that restarts while
    /// that is away does not start. Unset: `secrets.key` in `data`, made when missing.
    pub secrets_key_command: Option<String>,
    /// `cert.pem`, `key.pem`, `ca.pem`.
    pub identity: PathBuf,
    /// The images service, `https://host:port`.
    pub images: String,
    /// Inventory, `https://host:port`, which renews the certificate; unset: somebody else does.
    pub inventory: Option<String>,
    pub ramdisk: RamdiskConfig,
    /// Directory with undionly.kpxe and snponly.efi, and snponly-arm64.efi where somebody built that; unset: no TFTP.
    pub boot_files: Option<PathBuf>,
    /// Shim and GRUB for nodes with Secure Boot.
    pub signed_boot: SignedBootConfig,
    /// TFTP answers from port 69 alone.
    pub tftp_single_port: bool,
    pub segments: Vec<SegmentConfig>,
    /// How ports are plugged into segments.
    pub switch: SwitchDriver,
    pub timeouts: Timeouts,
    pub cache: CacheConfig,
    pub watch: WatchConfig,
    pub consoles: ConsolesConfig,
    pub discovery: DiscoveryConfig,
    pub inspection: InspectionConfig,
    /// What boot CDs are made of; unset: no node boots from virtual media.
    pub virtual_media: Option<VirtualMediaConfig>,
    /// Not of the file: the program that `ssh` asks for host keys and passwords, [`crate::ssh_help`], which is this one as a
    /// rule. Unset: there are no consoles over SSH.
    pub ssh_helper: Option<PathBuf>,
}

/// Looking at BMCs without being asked; what is seen goes to inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchConfig {
    /// Each BMC once in so long; 0: never.
    pub every_seconds: u32,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self { every_seconds: 60 }
    }
}

/// Serial consoles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConsolesConfig {
    pub log: LogWhen,
}

/// When a console's log is kept. It is written whenever its line is open, whoever wanted that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogWhen {
    /// Of every machine that is looked at.
    Always,
    /// Of a machine that a task boots, until that ends.
    #[default]
    Tasks,
    /// While somebody is attached.
    Attended,
}

/// Boot CDs, which BMCs pretend to their machines.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VirtualMediaConfig {
    /// GRUB for BIOS, as an El Torito program.
    pub bios: PathBuf,
    /// A FAT file system with `EFI/BOOT`: shim and GRUB, of each architecture that has a ramdisk here.
    pub efi: PathBuf,
    /// `http_listen` as the BMCs reach it, `http://host:port`; unset: rackd's address in the provisioning segment.
    pub url: Option<String>,
}

/// Machines that nobody described, when they ask to boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiscoveryConfig {
    pub mode: DiscoveryMode,
    /// They are sent shim and GRUB, where they are UEFI, since their firmware may run nothing else.
    pub secure_boot: bool,
    /// Who of those with an address of the provisioning network's `guests` is asked whether it is a BMC.
    pub bmcs: BmcDiscovery,
}

/// Who of a provisioning network is asked whether it is a BMC: by https and IPMI, without a password. In a management network
/// everybody is, but with `off`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BmcDiscovery {
    /// Nobody.
    Off,
    /// Who calls itself one when it asks for the address, and whose MAC address the plan expects.
    #[default]
    Known,
    /// Everybody who is not firmware that boots.
    All,
}

/// What a machine's inspection waits for, discovery included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InspectionConfig {
    /// For the switch at the other end of each cable (LLDP), from the start of the ramdisk; 0: what was heard is told.
    pub neighbour_seconds: u8,
}

impl Default for InspectionConfig {
    /// Switches tell every 30 s (IEEE 802.1AB §9.2.5.7).
    fn default() -> Self {
        Self { neighbour_seconds: 31 }
    }
}

/// What becomes of an unknown machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiscoveryMode {
    /// It gets no answer.
    #[default]
    Off,
    /// It boots the ramdisk, and waits in inventory to be accepted.
    Wait,
}

/// Boot files over TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpsConfig {
    /// `address:port`
    pub listen: SocketAddr,
    /// PEM, with what is between it and the authority that firmware knows.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// The DNS name in the certificate; unset: it has rackd's address in each segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How long a client may take over the handshake, and over the head of each request; unset: 10 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake_seconds: Option<u64>,
}

/// The boot programs that firmware runs under UEFI Secure Boot, by the machine's architecture.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignedBootConfig {
    pub x86_64: Option<SignedBoot>,
    pub arm64: Option<SignedBoot>,
}

/// Files as a distribution has them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedBoot {
    /// Signed with a key that the firmware has.
    pub shim: PathBuf,
    /// For the network, signed with a key that the shim has.
    pub grub: PathBuf,
}

/// How much disk the image cache takes. What a running task or a volume needs is never removed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Images beyond this go, those first that were not used for longest; unset: no limit.
    pub most_mib: Option<u64>,
    /// The same when less than this is free on its disk.
    pub keep_free_mib: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { most_mib: None, keep_free_mib: 4096 }
    }
}

/// The deploy ramdisk, or one for each architecture of the rack's machines.
#[derive(Debug, Clone)]
pub struct RamdiskConfig {
    /// For the machines that its kernel is for: x86 or arm64, and x86 where there is the other one.
    pub files: RamdiskFiles,
    /// `[ramdisk.arm64]`, for arm64 machines beside those of x86.
    pub arm64: Option<RamdiskFiles>,
}

/// A ramdisk.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RamdiskFiles {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    /// Further kernel arguments, for example `console=ttyS0,115200n8`.
    #[serde(default)]
    pub args: String,
}

/// `[ramdisk]`: the keys of one, and a table of the other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRamdisk {
    kernel: PathBuf,
    initrd: PathBuf,
    #[serde(default)]
    args: String,
    arm64: Option<RamdiskFiles>,
}

impl From<RawRamdisk> for RamdiskConfig {
    fn from(RawRamdisk { kernel, initrd, args, arm64 }: RawRamdisk) -> Self {
        Self { files: RamdiskFiles { kernel, initrd, args }, arm64 }
    }
}

/// Switch driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum SwitchDriver {
    /// The fabric is static: every port is where it should be.
    #[default]
    None,
    /// One Linux bridge a segment on this machine; a switch port is an interface name.
    Bridge,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadConfig {
    #[error("the configuration cannot be read")]
    Syntax(#[from] toml::de::Error),
    #[error("{key}: expected {expected}, saw {seen:?}")]
    Value { key: String, expected: &'static str, seen: String },
    #[error("expected a segment with role = \"provisioning\", saw none")]
    Provisioning,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    rack: String,
    #[serde(default = "listen")]
    listen: String,
    #[serde(default = "agent_listen")]
    agent_listen: String,
    #[serde(default = "http_listen")]
    http_listen: String,
    #[serde(default = "block_listen")]
    block_listen: String,
    https: Option<HttpsConfig>,
    metrics_listen: Option<String>,
    data: PathBuf,
    secrets_key_command: Option<String>,
    identity: PathBuf,
    images: String,
    inventory: Option<String>,
    ramdisk: RawRamdisk,
    boot_files: Option<PathBuf>,
    #[serde(default)]
    signed_boot: SignedBootConfig,
    #[serde(default)]
    tftp_single_port: bool,
    #[serde(default)]
    switch: SwitchDriver,
    #[serde(default)]
    timeouts: Timeouts,
    #[serde(default)]
    cache: CacheConfig,
    #[serde(default)]
    watch: WatchConfig,
    #[serde(default)]
    consoles: ConsolesConfig,
    #[serde(default)]
    discovery: DiscoveryConfig,
    #[serde(default)]
    inspection: InspectionConfig,
    virtual_media: Option<VirtualMediaConfig>,
    segment: Vec<RawSegment>,
}

fn listen() -> String {
    "0.0.0.0:7400".to_owned()
}
fn agent_listen() -> String {
    "0.0.0.0:7401".to_owned()
}
fn http_listen() -> String {
    "0.0.0.0:8080".to_owned()
}
/// The registered port of iSCSI (RFC 7143 section 14).
fn block_listen() -> String {
    "0.0.0.0:3260".to_owned()
}

impl Config {
    /// Reads `rackd.toml`. Unknown keys are refused: a typing error must not become a default.
    pub fn parse(text: &str) -> Result<Self, BadConfig> {
        let raw: Raw = toml::from_str(text)?;
        let bad = |key: &str, expected, seen: &str| BadConfig::Value {
            key: key.to_owned(),
            expected,
            seen: seen.to_owned(),
        };
        let socket =
            |key: &str, text: &str| text.parse::<SocketAddr>().map_err(|_| bad(key, "address:port", text));
        if !farrier_model::is_label(&raw.rack) {
            return Err(bad("rack", "1 to 63 of a-z, 0-9 and '-'", &raw.rack));
        }
        for (key, url) in [("images", Some(&raw.images)), ("inventory", raw.inventory.as_ref())] {
            if let Some(url) = url.filter(|url| !url.starts_with("https://")) {
                return Err(bad(key, "https://host:port", url));
            }
        }
        if let Some(url) = raw.virtual_media.as_ref().and_then(|media| media.url.as_ref())
            && !is_base(url)
        {
            return Err(bad("virtual_media: url", "http://host:port", url));
        }
        let segments = segment::check(raw.segment)?;
        if let Some(far) = segments.iter().find(|s| s.behind_relay.is_some())
            && raw.switch != SwitchDriver::None
        {
            let key = format!("segment {}: behind_relay", far.name);
            return Err(bad(
                &key,
                "switch = \"none\": no bridge of this host is there",
                "switch = \"bridge\"",
            ));
        }
        if !segments.iter().any(|s| s.role == Role::Provisioning) {
            return Err(BadConfig::Provisioning);
        }
        if raw.consoles.log == LogWhen::Always && (raw.watch.every_seconds == 0 || raw.inventory.is_none()) {
            let expected = "`inventory` and [watch] with every_seconds, which tell the BMCs";
            return Err(bad("consoles: log", expected, "always"));
        }
        if raw.discovery.mode != DiscoveryMode::Off && raw.inventory.is_none() {
            return Err(bad("inventory", "https://host:port, which keeps what is discovered", "none"));
        }
        if let Some(name) =
            raw.https.as_ref().and_then(|https| https.name.as_ref()).filter(|name| !is_host(name))
        {
            return Err(bad("https.name", "a DNS name", name));
        }
        if let Some(name) = raw.https.as_ref().and_then(|https| https.name.as_deref()) {
            segment::resolve(name, &segments)?;
        }
        let http_listen = socket("http_listen", &raw.http_listen)?;
        if http_listen.is_ipv4() && segments.iter().any(|s| s.dhcp6.is_some()) {
            let expected = "\"[::]:8080\" or so, where a segment has dhcp6: it is for IPv4 too";
            return Err(bad("http_listen", expected, &raw.http_listen));
        }
        if let Some(https) = raw.https.as_ref().filter(|https| https.listen.is_ipv4())
            && segments.iter().any(|s| s.dhcp6.is_some())
        {
            let expected = "\"[::]:8443\" or so, where a segment has dhcp6: it is for IPv4 too";
            return Err(bad("https.listen", expected, &https.listen.to_string()));
        }
        let metrics_listen =
            raw.metrics_listen.as_deref().map(|text| socket("metrics_listen", text)).transpose()?;
        if let Some(open) = metrics_listen.filter(|address| !address.ip().is_loopback()) {
            let expected = "an address on loopback: it has no TLS and no password";
            return Err(bad("metrics_listen", expected, &open.to_string()));
        }
        if raw.discovery.secure_boot && raw.signed_boot.x86_64.is_none() && raw.signed_boot.arm64.is_none() {
            let expected = "shim and GRUB in [signed_boot.x86_64] or [signed_boot.arm64]";
            return Err(bad("discovery.secure_boot", expected, "neither"));
        }
        Ok(Self {
            listen: socket("listen", &raw.listen)?,
            agent_listen: socket("agent_listen", &raw.agent_listen)?,
            http_listen,
            https: raw.https,
            metrics_listen,
            block_listen: socket("block_listen", &raw.block_listen)?,
            rack: raw.rack,
            data: raw.data,
            secrets_key_command: raw.secrets_key_command,
            identity: raw.identity,
            images: raw.images,
            inventory: raw.inventory,
            ramdisk: raw.ramdisk.into(),
            boot_files: raw.boot_files,
            signed_boot: raw.signed_boot,
            tftp_single_port: raw.tftp_single_port,
            segments,
            switch: raw.switch,
            timeouts: raw.timeouts,
            cache: raw.cache,
            watch: raw.watch,
            consoles: raw.consoles,
            discovery: raw.discovery,
            inspection: raw.inspection,
            virtual_media: raw.virtual_media,
            ssh_helper: None,
        })
    }
}

fn is_host(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

/// `http://host` or `http://host:port`, and nothing behind it.
fn is_base(url: &str) -> bool {
    url.strip_prefix("http://")
        .is_some_and(|host| !host.is_empty() && !host.contains(['/', ' ', '?', '#', '@']))
}

#[cfg(test)]
mod tests;
