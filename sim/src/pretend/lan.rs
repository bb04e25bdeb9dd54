//! A pretend node's network card, in a network namespace that has nothing else: it has no address but the one that DHCP gives
//! it. udhcpc asks, curl fetches by TFTP: nothing of ours is at this end of the wire.
//!
//! The node has to be started on a runtime whose threads are in that namespace ([`crate::net::Netns::runtime`]).

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use crate::tool::SEARCH_PATH;

/// The network card of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lan {
    /// In the node's namespace.
    pub interface: String,
    pub rom: Rom,
}

/// What is on the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rom {
    /// It fetches a boot program by TFTP, which is iPXE and asks once more.
    Pxe,
    /// iPXE itself.
    Ipxe,
}

/// What DHCP told firmware to do.
#[derive(Debug)]
pub(super) enum Told {
    /// URL of a script.
    Script(String),
    /// An address and no boot file: on to the next boot device.
    Nothing,
}

impl Lan {
    /// As firmware: the address that the machine has then, and what it boots. Dropping it is what cutting power does.
    pub(super) async fn boot(&self, dir: &Path) -> anyhow::Result<(Ipv4Addr, Told)> {
        if self.rom == Rom::Pxe {
            let lease = self.ask(dir, PXE).await?;
            if lease.file.is_empty() {
                return Ok((lease.ip, Told::Nothing));
            }
            let url = format!("tftp://{}/{}", lease.server, lease.file);
            let bytes = tftp(&url).await.with_context(|| url.clone())?;
            ensure!(bytes > 0, "{url}: expected a boot program, saw nothing");
        }
        let lease = self.ask(dir, IPXE).await?;
        let told = if lease.file.is_empty() { Told::Nothing } else { Told::Script(lease.file) };
        Ok((lease.ip, told))
    }

    /// As a system: an address.
    pub(super) async fn address(&self, dir: &Path) -> anyhow::Result<Ipv4Addr> {
        Ok(self.ask(dir, &[]).await?.ip)
    }

    async fn ask(&self, dir: &Path, who: &[&str]) -> anyhow::Result<Lease> {
        let script = dir.join("udhcpc.sh");
        if !script.exists() {
            std::fs::write(&script, SCRIPT)?;
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
        }
        let mut udhcpc = command("udhcpc");
        udhcpc.args(["-f", "-q", "-n", "-t", "4", "-T", "2", "-i", &self.interface, "-s"]);
        let done = udhcpc.arg(&script).args(who).output().await;
        let done = done.context("udhcpc: the Debian package of this name has it")?;
        let said = String::from_utf8_lossy(&done.stdout);
        ensure!(done.status.success(), "udhcpc: {} {}", done.status, String::from_utf8_lossy(&done.stderr));
        let word = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        let ip = word("ip=").parse().with_context(|| format!("expected an address, saw {said:?}"))?;
        Ok(Lease { ip, server: word("server=").to_owned(), file: word("file=").to_owned() })
    }
}

struct Lease {
    ip: Ipv4Addr,
    /// `siaddr`, where the boot file is.
    server: String,
    /// `file`; empty: none.
    file: String,
}

async fn tftp(url: &str) -> anyhow::Result<u64> {
    let mut curl = command("curl");
    // The block size of most network cards' firmware.
    curl.args(["-sS", "--fail", "--max-time", "60", "--tftp-blksize", "1432", "-o", "/dev/null"]);
    let done = curl.args(["-w", "%{size_download}", url]).output().await.context("curl")?;
    ensure!(done.status.success(), "{} {}", done.status, String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8_lossy(&done.stdout).trim().parse()?)
}

/// It is born on this very thread, and so in its namespace; it ends with the machine's power.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", SEARCH_PATH).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Vendor class and architecture of a BIOS (RFC 4578 §2.1).
const PXE: &[&str] = &["-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000", "-O", "bootfile"];
/// The same with iPXE's user class (option 77).
const IPXE: &[&str] =
    &["-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000", "-x", "0x4d:69505845", "-O", "bootfile"];
const SCRIPT: &str = "#!/bin/sh\n\
    case \"$1\" in\n\
    deconfig) ip addr flush dev \"$interface\" ;;\n\
    bound)\n\
    ip addr flush dev \"$interface\"\n\
    ip addr add \"$ip/$mask\" dev \"$interface\" || exit 1\n\
    echo \"ip=$ip\"; echo \"server=$siaddr\"; echo \"file=$boot_file\" ;;\n\
    esac\n";
