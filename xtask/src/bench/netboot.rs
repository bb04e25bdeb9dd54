//! `cargo xtask bench netboot`: `rackd --standalone` beside Kea, ISC dhcpd, dnsmasq, tftpd-hpa and nginx; and over bad links.

use std::path::PathBuf;

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
    let mut bench = program(&release.join("examples/netboot-bench").to_string_lossy());
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
    ("util-linux", "/usr/bin/nsenter"),
];
