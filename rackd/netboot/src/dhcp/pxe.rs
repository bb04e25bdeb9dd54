//! Which boot file for which firmware.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use super::request::Client;
use crate::{Boot, BootEntry, script};

/// Boot files by client architecture, and where HTTP is.
#[derive(Debug, Clone)]
pub struct BootFiles {
    /// Architecture (RFC 4578 §2.1 and IANA's registry) and file name, as served by TFTP.
    pub by_architecture: Vec<(u16, String)>,
    /// Programs that firmware runs under UEFI Secure Boot; empty where there are none.
    pub signed: Vec<SignedChain>,
    /// Port of the HTTP server that has our router.
    pub http_port: u16,
    /// Where the same is over TLS, for UEFI's HTTP boot; `None`: nowhere.
    pub https: Option<Https>,
    /// Octets of the files that are served; a start fills it in.
    pub sizes: BTreeMap<String, u64>,
}

/// https for firmware, which must know the authority of its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Https {
    /// Its port.
    pub port: u16,
    /// The name that the certificate has; `None`: it has the address of each segment.
    pub name: Option<String>,
}

/// Shim, which firmware makers' keys have signed, and GRUB, which shim's maker has signed, by the names under which they
/// are served: shim asks for its GRUB by that name, in the place that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedChain {
    /// Architectures (RFC 4578 §2.1) that it is for, by PXE. Not UEFI's HTTP boot: GRUB as distributions sign it cannot go
    /// on from there.
    pub architectures: &'static [u16],
    /// The first program.
    pub shim: &'static str,
    /// The second.
    pub grub: &'static str,
}

impl SignedChain {
    /// For x86-64 UEFI.
    pub const X64: Self = Self { architectures: &[7, 9], shim: "shimx64.efi", grub: "grubx64.efi" };
    /// For arm64 UEFI.
    pub const ARM64: Self = Self { architectures: &[11], shim: "shimaa64.efi", grub: "grubaa64.efi" };
}

impl BootFiles {
    /// iPXE's usual names: BIOS, x86-64 UEFI (7, and 9 as older firmware says), arm64 UEFI, and both over HTTP.
    #[must_use]
    pub fn new(http_port: u16) -> Self {
        let by_architecture = [
            (0, "undionly.kpxe"),
            (7, "snponly.efi"),
            (9, "snponly.efi"),
            (11, "snponly-arm64.efi"),
            (16, "snponly.efi"),
            (19, "snponly-arm64.efi"),
        ];
        let by_architecture = by_architecture.map(|(a, f)| (a, f.to_owned())).into();
        Self { by_architecture, signed: Vec::new(), http_port, https: None, sizes: BTreeMap::new() }
    }

    /// Leaves out what is not `there`: firmware that is offered a file nobody has stops with an error of its own,
    /// where one that is offered none goes on to the next boot device, and is told of.
    pub(crate) fn keep(&mut self, there: impl Fn(&str) -> bool) {
        self.by_architecture.retain(|(_, file)| there(file));
    }

    /// A file's size in blocks of 512 octets, the last one counted whole. `None`: it is not ours, or more than 16 bits say.
    pub(crate) fn blocks(&self, file: &str) -> Option<NonZeroU16> {
        let blocks = self.sizes.get(file)?.div_ceil(512);
        u16::try_from(blocks).ok().and_then(NonZeroU16::new)
    }

    /// What firmware of an architecture runs that runs everything.
    pub(crate) fn file(&self, architecture: u16) -> Option<&str> {
        self.by_architecture.iter().find(|(a, _)| *a == architecture).map(|(_, f)| f.as_str())
    }

    /// What locked firmware of an architecture runs, or why there is nothing.
    fn shim(&self, architecture: u16) -> Result<&'static str, &'static str> {
        let chain = self.signed.iter().find(|chain| chain.architectures.contains(&architecture));
        match architecture {
            _ if let Some(chain) = chain => Ok(chain.shim),
            15..=20 => Err("UEFI HTTP boot with Secure Boot: signed GRUBs have no HTTP, let it boot by PXE"),
            _ => Err("no signed boot file for this firmware"),
        }
    }

    /// Whether a name is that of a first program for locked firmware.
    pub(crate) fn is_signed(&self, name: &str) -> bool {
        self.signed.iter().any(|chain| chain.shim == name)
    }

    /// A file's address for UEFI's HTTP boot.
    fn url(&self, server: SocketAddr, file: &str) -> String {
        let Some(https) = &self.https else { return format!("http://{server}/firmware/{file}") };
        match &https.name {
            Some(name) => format!("https://{name}:{}/firmware/{file}", https.port),
            None => format!("https://{}/firmware/{file}", SocketAddr::new(server.ip(), https.port)),
        }
    }

    pub(crate) fn server(&self, ip: impl Into<IpAddr>) -> SocketAddr {
        SocketAddr::new(ip.into(), self.http_port)
    }
}

/// What to put into the boot fields of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BootFile {
    /// No boot file: an address is all.
    Nothing,
    /// A file on our TFTP server.
    Tftp(String),
    /// The script's address, for iPXE.
    Script(String),
    /// A program's address, for UEFI HTTP boot.
    Http(String),
    /// Firmware nobody has a file for, and why.
    Unknown(u16, &'static str),
}

impl BootFile {
    /// How long its name is.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Tftp(name) | Self::Script(name) | Self::Http(name) => name.len(),
            Self::Nothing | Self::Unknown(..) => 0,
        }
    }
}

/// Picks the boot file, over HTTP from `server`. Firmware gets one only while there is a script to run: a machine that is to start from
/// its disk sees no boot file and goes on to the next boot device.
pub(crate) fn boot_file(
    server: SocketAddr,
    files: &BootFiles,
    entry: &BootEntry,
    client: Client,
    architecture: Option<u16>,
) -> BootFile {
    // A PXE client that says nothing about itself is older than option 93: BIOS.
    let architecture = architecture.unwrap_or(BIOS);
    match (client, &entry.boot) {
        (_, Boot::None) | (Client::Other, _) => BootFile::Nothing,
        (
            Client::Ipxe,
            Boot::Script { .. } | Boot::Signed { .. } | Boot::San(_) | Boot::LocalDisk | Boot::Wait,
        ) => BootFile::Script(format!("http://{server}{}", script::path(entry.mac))),
        (Client::Pxe | Client::Http, Boot::LocalDisk) => BootFile::Nothing,
        (Client::Pxe | Client::Http, Boot::Signed { .. }) if architecture != BIOS => {
            match files.shim(architecture) {
                Ok(shim) => BootFile::Tftp(shim.to_owned()),
                Err(why) => BootFile::Unknown(architecture, why),
            }
        }
        (client, Boot::Script { .. } | Boot::Signed { .. } | Boot::San(_) | Boot::Wait) => {
            let nothing = BootFile::Unknown(architecture, "no boot file for this firmware");
            match (files.file(architecture), client) {
                // No distribution has iPXE for arm64. What locked firmware runs starts a kernel on any.
                (None, Client::Pxe) if matches!(entry.boot, Boot::Script { .. }) => {
                    files.shim(architecture).map_or(nothing, |shim| BootFile::Tftp(shim.to_owned()))
                }
                (None, _) => nothing,
                (Some(file), Client::Http) => BootFile::Http(files.url(server, file)),
                (Some(file), _) => BootFile::Tftp(file.to_owned()),
            }
        }
    }
}

/// Intel x86PC, RFC 4578 §2.1.
const BIOS: u16 = 0;
