//! `cargo xtask bench block`: `rackd block serve` and tgt, each with the same file, under the same load; nginx for a
//! sequential read of it.

use anyhow::Result;

use crate::shell::{self, cargo, program};
use crate::tools;

pub(super) fn run(options: &[String]) -> Result<()> {
    tools::install_missing(PACKAGES)?;
    eprintln!("building in the release profile (the first time takes minutes)");
    shell::run(cargo().args(["build", "--release", "--package", "farrier-rackd", "--bin", "rackd"]))?;
    shell::run(cargo().args(["build", "--release", "--package", "farrier-block", "--example", "bench"]))?;
    let release = tools::release_dir()?;
    let mut bench = program(&release.join("examples/bench").to_string_lossy());
    shell::run(bench.arg("--rackd").arg(release.join("rackd")).args(options))
}

const PACKAGES: &[(&str, &str)] = &[
    ("tgt", "/usr/sbin/tgtd"),
    ("nginx", "/usr/sbin/nginx"),
    ("qemu-utils", "/usr/bin/qemu-img"),
    ("qemu-block-extra", "/usr/lib/x86_64-linux-gnu/qemu/block-iscsi.so"),
];
