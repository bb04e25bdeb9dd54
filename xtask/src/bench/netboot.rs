//! `cargo xtask bench netboot`: `rackd --standalone` beside Kea, ISC dhcpd, dnsmasq, tftpd-hpa and nginx; and over bad links.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::shell::{self, cargo, program};
use crate::tools;

pub(super) fn run(options: &[String]) -> Result<()> {
    tools::install_missing(PACKAGES)?;
    eprintln!("building in the release profile (the first time takes minutes)");
    shell::run(cargo().args(["build", "--release", "--package", "farrier-rackd", "--bin", "rackd"]))?;
    let example = ["--package", "farrier-netboot", "--example", "netboot-bench"];
    shell::run(cargo().args(["build", "--release"]).args(example))?;
    shell::run(cargo().args(["build", "--release", "--package", "farrier-sim", "--bin", "farrier-sim"]))?;
    let release = tools::release_dir()?;
    let mut bench = alone(&release.join("examples/netboot-bench"));
    shell::run(
        bench
            .arg("--rackd")
            .arg(release.join("rackd"))
            .arg("--sim")
            .arg(release.join("farrier-sim"))
            .arg("--atftpd")
            .arg(atftpd()?)
            .args(options),
    )
}

/// Where whatever it starts ends with it, and its network namespaces with that, also when we are ended by a signal: it is the first
/// process of its own, and the names of its network namespaces are mounts that nobody else sees.
fn alone(bench: &Path) -> Command {
    let mut command = program("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]);
    command.args(["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL"]);
    command.args(["--mount-proc", "--"]).arg(bench).arg("--own-mounts");
    command
}

/// Debian's program, out of its package: it conflicts with tftpd-hpa, so that the two are not installed together.
fn atftpd() -> Result<PathBuf> {
    let tools = tools::target_dir()?.join("tools/atftpd");
    let own = tools.join("usr/sbin/atftpd");
    if !own.exists() {
        std::fs::create_dir_all(&tools)?;
        shell::run(program("apt-get").args(["-q", "update"]))?;
        shell::run(program("apt-get").args(["-q", "download", "atftpd"]).current_dir(&tools))?;
        let packages = std::fs::read_dir(&tools)?.filter_map(|entry| Some(entry.ok()?.path()));
        let mut packages = packages.filter(|path| path.extension().is_some_and(|end| end == "deb"));
        let package = packages.next().context("apt-get downloaded no package of atftpd")?;
        shell::run(program("dpkg-deb").arg("-x").arg(package).arg(&tools))?;
    }
    Ok(own)
}

/// perfdhcp is in kea-admin.
const PACKAGES: &[(&str, &str)] = &[
    ("kea-admin", "/usr/sbin/perfdhcp"),
    ("kea-dhcp4-server", "/usr/sbin/kea-dhcp4"),
    ("isc-dhcp-server", "/usr/sbin/dhcpd"),
    ("dnsmasq-base", "/usr/sbin/dnsmasq"),
    ("tftpd-hpa", "/usr/sbin/in.tftpd"),
    ("atftp", "/usr/bin/atftp"),
    ("nginx", "/usr/sbin/nginx"),
    ("curl", "/usr/bin/curl"),
    ("iproute2", "/sbin/ip"),
    ("ethtool", "/usr/sbin/ethtool"),
    ("util-linux", "/usr/bin/unshare"),
    ("mount", "/bin/mount"),
];
