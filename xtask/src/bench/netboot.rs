//! `cargo xtask bench netboot`: `rackd --standalone` beside Kea, ISC dhcpd, dnsmasq, tftpd-hpa and nginx; and over bad links.

use anyhow::Result;

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
            .args(options),
    )
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
