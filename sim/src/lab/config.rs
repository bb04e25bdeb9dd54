//! `rackd.toml` as an operator would write it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use super::installation::Endpoints;
use crate::media::{Arm64, CdLoaders, Ramdisk, signed};
use crate::rack::Rack;

/// What an installation's rack serves.
#[derive(Debug, Clone)]
pub struct RackConfig {
    /// `bridge` or `none`.
    pub switch: &'static str,
    pub segments: Vec<Segment>,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    /// Further kernel arguments of the ramdisk.
    pub kernel_args: String,
    /// Directory with the iPXE programs; `None`: no TFTP.
    pub boot_files: Option<PathBuf>,
    /// Whether it has shim and GRUB for machines that run signed programs only.
    pub signed_boot: bool,
    /// Those of arm64.
    pub signed_boot_arm64: Option<Arm64>,
    /// The ramdisk of arm64 machines, beside that of x86, with its own kernel arguments.
    pub ramdisk_arm64: Option<(Ramdisk, String)>,
    /// Keys of `[timeouts]`, in seconds; what is not named keeps rackd's default.
    pub timeouts: BTreeMap<String, u64>,
    /// Seconds between two looks at each BMC, 0 for never; none: rackd's default.
    pub watch_seconds: Option<u32>,
    /// When consoles' logs are kept, in rackd's words; none: rackd's default.
    pub console_log: Option<&'static str>,
    /// Whether unknown machines boot the ramdisk and wait to be accepted.
    pub discovery: bool,
    /// Seconds that an inspection waits for LLDP: no bridge of the lab speaks it.
    pub neighbour_seconds: u8,
    /// What boot CDs start with; none: no machine boots from virtual media.
    pub virtual_media: Option<CdLoaders>,
    /// The images service, when the rack has another way to it than everybody.
    pub images: Option<String>,
}

/// A network of the rack.
#[derive(Debug, Clone, Serialize)]
pub struct Segment {
    pub name: String,
    /// `provisioning`, `tenant` or `management`.
    pub role: &'static str,
    /// Empty: DHCP is somebody else's.
    pub interface: String,
    /// `address/prefix` of rackd.
    pub address: String,
    /// `first-last`.
    pub pool: String,
    /// Whose DHCP it is; none: rackd's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<&'static str>,
    /// `first-last` for whoever is not known, where the DHCP is authoritative.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guests: Option<String>,
    /// BMCs of a management network that have addresses of their own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reservations: BTreeMap<String, Ipv4Addr>,
}

impl RackConfig {
    /// For QEMU machines in a virtual rack: both networks served, ports moved between its bridges.
    pub fn of_rack(rack: &Rack, ramdisk: &Ramdisk) -> Self {
        let segment = |name: &str, role, interface: &str, net: &str| Segment {
            name: name.to_owned(),
            role,
            interface: interface.to_owned(),
            address: format!("{net}.1/24"),
            pool: format!("{net}.100-{net}.199"),
            dhcp: None,
            guests: None,
            reservations: BTreeMap::new(),
        };
        Self {
            switch: "bridge",
            segments: vec![
                segment("provisioning", "provisioning", rack.provisioning().name(), "10.90.0"),
                segment("tenant", "tenant", rack.tenant().name(), "10.91.0"),
            ],
            kernel: ramdisk.kernel.clone(),
            initrd: ramdisk.initrd.clone(),
            kernel_args: KERNEL_ARGS.to_owned(),
            boot_files: Some(PathBuf::from(IPXE)),
            signed_boot: true,
            signed_boot_arm64: None,
            ramdisk_arm64: None,
            timeouts: BTreeMap::new(),
            watch_seconds: None,
            console_log: None,
            discovery: false,
            neighbour_seconds: 0,
            virtual_media: None,
            images: None,
        }
    }

    /// For pretend nodes on the loopback at `host`: no DHCP, no switch, any two files as a ramdisk.
    pub fn pretend(host: Ipv4Addr, kernel: &Path, initrd: &Path) -> Self {
        let [a, b, c, _] = host.octets();
        let segment = |name: &str, role| Segment {
            name: name.to_owned(),
            role,
            interface: String::new(),
            address: format!("{host}/8"),
            // Served to nobody: a pretend node has no DHCP client.
            pool: format!("{a}.{b}.{}.1-{a}.{b}.{}.254", c ^ 1, c ^ 1),
            dhcp: None,
            guests: None,
            reservations: BTreeMap::new(),
        };
        Self {
            switch: "none",
            segments: vec![segment("provisioning", "provisioning"), segment("tenant", "tenant")],
            kernel: kernel.to_owned(),
            initrd: initrd.to_owned(),
            kernel_args: String::new(),
            boot_files: None,
            signed_boot: false,
            signed_boot_arm64: None,
            ramdisk_arm64: None,
            timeouts: BTreeMap::new(),
            // A test that counts what a BMC is asked has it to itself.
            watch_seconds: Some(0),
            console_log: None,
            discovery: false,
            neighbour_seconds: 0,
            virtual_media: None,
            images: None,
        }
    }

    /// The file's text.
    pub(super) fn render(
        &self,
        rack: &str,
        host: Ipv4Addr,
        dir: &Path,
        endpoints: &Endpoints,
    ) -> Result<String> {
        // Machines of a virtual rack reach rackd on its bridges, pretend nodes on the loopback.
        let served = self.segments.iter().any(|segment| !segment.interface.is_empty());
        let open = if served { Ipv4Addr::UNSPECIFIED } else { host };
        let file = File {
            rack,
            listen: format!("{host}:{RACK_PORT}"),
            agent_listen: format!("{open}:{AGENT_PORT}"),
            http_listen: format!("{open}:{HTTP_PORT}"),
            block_listen: format!("{open}:{BLOCK_PORT}"),
            data: dir.join("rackd"),
            identity: dir.join("id/rack"),
            images: self.images.as_ref().unwrap_or(&endpoints.images),
            inventory: &endpoints.inventory,
            switch: self.switch,
            boot_files: self.boot_files.as_deref(),
            signed_boot: SignedBootTable {
                x86_64: self.signed_boot.then(|| SignedTable {
                    shim: signed::SHIM.as_ref(),
                    grub: signed::GRUB_NETWORK.as_ref(),
                }),
                arm64: self
                    .signed_boot_arm64
                    .as_ref()
                    .map(|files| SignedTable { shim: &files.shim, grub: &files.grub }),
            },
            ramdisk: RamdiskTable {
                kernel: &self.kernel,
                initrd: &self.initrd,
                args: &self.kernel_args,
                arm64: self.ramdisk_arm64.as_ref().map(|(ramdisk, args)| RamdiskFilesTable {
                    kernel: &ramdisk.kernel,
                    initrd: &ramdisk.initrd,
                    args,
                }),
            },
            timeouts: &self.timeouts,
            watch: self.watch_seconds.map(|every_seconds| WatchTable { every_seconds }),
            consoles: self.console_log.map(|log| ConsolesTable { log }),
            virtual_media: self
                .virtual_media
                .as_ref()
                .map(|cd| VirtualMediaTable { bios: &cd.bios, efi: &cd.efi }),
            discovery: self.discovery.then_some(DiscoveryTable { mode: "wait" }),
            inspection: InspectionTable { neighbour_seconds: self.neighbour_seconds },
            segment: &self.segments,
        };
        Ok(toml::to_string_pretty(&file)?)
    }
}

/// Tables last, as TOML wants them.
#[derive(Serialize)]
struct File<'a> {
    rack: &'a str,
    listen: String,
    agent_listen: String,
    http_listen: String,
    block_listen: String,
    data: PathBuf,
    identity: PathBuf,
    images: &'a str,
    inventory: &'a str,
    switch: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_files: Option<&'a Path>,
    signed_boot: SignedBootTable<'a>,
    ramdisk: RamdiskTable<'a>,
    timeouts: &'a BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    watch: Option<WatchTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consoles: Option<ConsolesTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    discovery: Option<DiscoveryTable>,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_media: Option<VirtualMediaTable<'a>>,
    inspection: InspectionTable,
    segment: &'a [Segment],
}

#[derive(Serialize)]
struct SignedBootTable<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    x86_64: Option<SignedTable<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arm64: Option<SignedTable<'a>>,
}

#[derive(Serialize)]
struct SignedTable<'a> {
    shim: &'a Path,
    grub: &'a Path,
}

#[derive(Serialize)]
struct RamdiskTable<'a> {
    kernel: &'a Path,
    initrd: &'a Path,
    args: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    arm64: Option<RamdiskFilesTable<'a>>,
}

#[derive(Serialize)]
struct RamdiskFilesTable<'a> {
    kernel: &'a Path,
    initrd: &'a Path,
    args: &'a str,
}

#[derive(Serialize)]
struct VirtualMediaTable<'a> {
    bios: &'a Path,
    efi: &'a Path,
}

#[derive(Serialize)]
struct DiscoveryTable {
    mode: &'static str,
}

#[derive(Serialize)]
struct ConsolesTable {
    log: &'static str,
}

#[derive(Serialize)]
struct InspectionTable {
    neighbour_seconds: u8,
}

#[derive(Serialize)]
struct WatchTable {
    every_seconds: u32,
}

/// For a ramdisk's kernel under emulation: a slow serial port and probing are most of a chatty boot.
pub(super) const KERNEL_ARGS: &str = "console=ttyS0 quiet nokaslr no_timer_check mitigations=off";
/// Of the Debian package `ipxe`.
pub(super) const IPXE: &str = "/usr/lib/ipxe";
pub(super) const RACK_PORT: u16 = 7400;
const AGENT_PORT: u16 = 7401;
const HTTP_PORT: u16 = 8080;
const BLOCK_PORT: u16 = 3260;
