//! `cargo xtask bench bmc`: our driver beside ipmitool, pyghmi and sushy, over simulated BMCs.

use anyhow::{Context as _, Result};

use crate::shell::{self, cargo, program};
use crate::tools;

pub(super) fn run(options: &[String]) -> Result<()> {
    tools::install_missing(PACKAGES)?;
    let environment = tools::target_dir()?.join("tools").join(ENVIRONMENT);
    let python = environment.join("bin/python");
    if !python.exists() {
        shell::run(program("python3").args(["-m", "venv"]).arg(&environment))
            .context("no virtual environment for pyghmi and sushy: apt-get install python3-venv")?;
        let pip = environment.join("bin/pip");
        let install = ["install", "--quiet", "--disable-pip-version-check", PYGHMI, SUSHY];
        shell::run(program(&pip.to_string_lossy()).args(install))?;
    }
    eprintln!("building in the release profile (the first time takes minutes)");
    let example = ["--package", "farrier-sim", "--example", "bmc-bench"];
    shell::run(cargo().args(["build", "--release"]).args(example))?;
    let mut bench = program(&tools::release_dir()?.join("examples/bmc-bench").to_string_lossy());
    shell::run(bench.arg("--python").arg(python).args(options))
}

const PACKAGES: &[(&str, &str)] = &[("ipmitool", "/usr/bin/ipmitool")];
const PYGHMI: &str = "pyghmi==1.6.19";
const SUSHY: &str = "sushy==5.14.0";
const ENVIRONMENT: &str = "bmc-peers";
