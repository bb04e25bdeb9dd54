//! Two network namespaces and a cable between them, a good one or a bad one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, ensure};

pub(crate) struct Place {
    server: String,
    client: String,
    directory: tempfile::TempDir,
    /// The middle of a bad cable, and what carries its frames.
    middle: Option<(String, Child)>,
}

/// A bad cable: `farrier-sim wan`.
pub(crate) struct Cable<'a> {
    pub(crate) program: &'a Path,
    /// In milliseconds.
    pub(crate) round_trip: u64,
    /// Frames of a thousand.
    pub(crate) loss: u32,
}

pub(crate) const SERVER: &str = "10.77.0.1";
pub(crate) const CLIENT: &str = "10.77.0.2";

impl Place {
    pub(crate) fn new(directory: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir_in(directory)?;
        // dnsmasq, tftpd and Kea change their user, and look at their files as another one.
        std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        let place = Self { server: name("s"), client: name("c"), directory, middle: None };
        let (server, client) = (&place.server, &place.client);
        ip(&["netns", "add", server])?;
        ip(&["netns", "add", client])?;
        ip(&["link", "add", "s0", "netns", server, "type", "veth", "peer", "name", "c0", "netns", client])?;
        for (namespace, interface, address) in [(server, "s0", SERVER), (client, "c0", CLIENT)] {
            ip(&["-n", namespace, "addr", "add", &format!("{address}/16"), "dev", interface])?;
            ip(&["-n", namespace, "link", "set", interface, "up"])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        Ok(place)
    }

    /// The same at the ends of a bad cable.
    pub(crate) fn far(directory: &Path, cable: &Cable<'_>) -> anyhow::Result<Self> {
        let mut place = Self::new(directory)?;
        let middle = name("m");
        ip(&["netns", "add", &middle])?;
        let mut wan = inside(&middle, &cable.program.to_string_lossy());
        wan.args(["wan", "w0", "w1", "--round-trip", &cable.round_trip.to_string()]);
        wan.args(["--loss", &cable.loss.to_string()]);
        let ready = (|| {
            // Both ends of the good cable go with it.
            ip(&["-n", &place.server, "link", "del", "s0"])?;
            for (namespace, interface, address, other) in
                [(&place.server, "s0", SERVER, "w0"), (&place.client, "c0", CLIENT, "w1")]
            {
                ip(&[
                    "link", "add", interface, "netns", namespace, "type", "veth", "peer", "name", other,
                    "netns", &middle,
                ])?;
                ip(&["-n", namespace, "addr", "add", &format!("{address}/16"), "dev", interface])?;
                ip(&["-n", namespace, "link", "set", interface, "up"])?;
                ip(&["-n", &middle, "link", "set", other, "up"])?;
                // Nobody in the middle finishes what is left to a network card.
                let off = ["-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off"];
                let done = inside(namespace, "ethtool").args(off).output().context("ethtool")?;
                ensure!(done.status.success(), "ethtool: {}", String::from_utf8_lossy(&done.stderr));
            }
            wan.stdin(Stdio::null()).spawn().context("farrier-sim")
        })();
        match ready {
            Ok(child) => place.middle = Some((middle, child)),
            Err(error) => {
                let _ = ip(&["netns", "del", &middle]);
                return Err(error);
            }
        }
        Ok(place)
    }

    /// A program at the server's end. `nsenter` becomes it, so its process id is the program's.
    pub(crate) fn server(&self, program: &str) -> Command {
        inside(&self.server, program)
    }

    /// A program at the clients' end.
    pub(crate) fn client(&self, program: &str) -> Command {
        inside(&self.client, program)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((middle, mut wan)) = self.middle.take() {
            let _ = wan.kill();
            let _ = wan.wait();
            let _ = ip(&["netns", "del", &middle]);
        }
        for namespace in [&self.server, &self.client] {
            let _ = ip(&["netns", "del", namespace]);
        }
    }
}

/// The names of network namespaces that are made from now on are on a file system of our own, which ends with us.
pub(crate) fn keep_names_here() -> anyhow::Result<()> {
    std::fs::create_dir_all(NAMES).context(NAMES)?;
    let status = Command::new("mount").args(["-t", "tmpfs", "netns", NAMES]).status().context("mount")?;
    ensure!(status.success(), "mount {NAMES}: {status}");
    Ok(())
}

/// Where `ip netns` keeps them.
const NAMES: &str = "/run/netns";

/// Of a namespace: no two of this machine have one.
fn name(end: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("fnbb-{}-{}-{end}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn inside(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={NAMES}/{namespace}")).arg("--").arg(program);
    command
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("ip").args(arguments).status().context("ip")?;
    ensure!(status.success(), "ip {}: {status}", arguments.join(" "));
    Ok(())
}
