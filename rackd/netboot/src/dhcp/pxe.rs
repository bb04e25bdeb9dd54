//! Which boot file for which firmware.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::request::{Client, Request};
use crate::{Boot, BootEntry, Segment};

/// Boot files by client architecture, and where HTTP is.
#[derive(Debug, Clone)]
pub struct BootFiles {
    /// Architecture (RFC 4578 §2.1 and IANA's registry) and file name, as served by TFTP.
    pub by_architecture: Vec<(u16, String)>,
    /// Port of the HTTP server that has our router.
    pub http_port: u16,
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
        Self { by_architecture: by_architecture.map(|(a, f)| (a, f.to_owned())).into(), http_port }
    }

    /// Leaves out what is not `there`: firmware that is offered a file nobody has stops with an error of its own,
    /// where one that is offered none goes on to the next boot device, and is told of.
    pub(crate) fn keep(&mut self, there: impl Fn(&str) -> bool) {
        self.by_architecture.retain(|(_, file)| there(file));
    }

    fn file(&self, architecture: u16) -> Option<&str> {
        self.by_architecture.iter().find(|(a, _)| *a == architecture).map(|(_, f)| f.as_str())
    }

    pub(crate) fn server(&self, ip: Ipv4Addr) -> SocketAddrV4 {
        SocketAddrV4::new(ip, self.http_port)
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
    /// Firmware nobody has a file for.
    Unknown(u16),
}

/// Picks the boot file. Firmware gets one only while there is a script to run: a machine that is to start from
/// its disk sees no boot file and goes on to the next boot device.
pub(crate) fn boot_file(
    segment: &Segment,
    files: &BootFiles,
    entry: &BootEntry,
    request: &Request,
) -> BootFile {
    let server = files.server(segment.server_ip);
    match (request.client, &entry.boot) {
        (_, Boot::None) | (Client::Other, _) => BootFile::Nothing,
        (Client::Ipxe, Boot::Script { .. } | Boot::San(_) | Boot::LocalDisk) => {
            BootFile::Script(format!("http://{server}/boot/{}.ipxe", entry.mac.hyphenated()))
        }
        (Client::Pxe | Client::Http, Boot::LocalDisk) => BootFile::Nothing,
        (client, Boot::Script { .. } | Boot::San(_)) => {
            // A PXE client that says nothing about itself is older than option 93: BIOS.
            let architecture = request.architecture.unwrap_or(0);
            match (files.file(architecture), client) {
                (None, _) => BootFile::Unknown(architecture),
                (Some(file), Client::Http) => BootFile::Http(format!("http://{server}/firmware/{file}")),
                (Some(file), _) => BootFile::Tftp(file.to_owned()),
            }
        }
    }
}
