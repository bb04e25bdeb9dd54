//! Two network namespaces and a cable between them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

pub(crate) struct Place {
    server: String,
    client: String,
    directory: tempfile::TempDir,
}

pub(crate) const SERVER: &str = "10.77.0.1";
pub(crate) const CLIENT: &str = "10.77.0.2";

impl Place {
    pub(crate) fn new(directory: &Path) -> anyhow::Result<Self> {
        let name = |end: &str| format!("fnbb-{}-{end}", std::process::id());
        let directory = tempfile::tempdir_in(directory)?;
        // dnsmasq, tftpd and Kea change their user, and look at their files as another one.
        std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        let place = Self { server: name("s"), client: name("c"), directory };
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
        for namespace in [&self.server, &self.client] {
            let _ = ip(&["netns", "del", namespace]);
        }
    }
}

fn inside(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg("--").arg(program);
    command
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("ip").args(arguments).status().context("ip")?;
    ensure!(status.success(), "ip {}: {status}", arguments.join(" "));
    Ok(())
}
