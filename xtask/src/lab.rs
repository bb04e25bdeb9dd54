//! `cargo xtask demo`, `cargo xtask ramdisk`: builds and becomes `farrier-lab`.

use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result};

use crate::shell;
use crate::tools;

pub(crate) fn run(what: &str, options: &[String]) -> Result<()> {
    if !options.iter().any(|option| matches!(option.as_str(), "-h" | "--help")) {
        eprintln!("building (the first time takes minutes)");
    }
    // Everything at once: it needs it all, and one set of features means one build.
    shell::run(shell::cargo().args(["build", "--workspace", "--bins"]))?;
    let lab = tools::programs_dir()?.join("farrier-lab");
    // Not a child: Ctrl-C and exit code are its own.
    let error = std::process::Command::new(&lab).arg(what).args(options).exec();
    Err(error).with_context(|| format!("cannot run {}", lab.display()))
}
