//! Documents that are made from the source.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::shell::{cargo, output, root};

/// Writes them.
pub(crate) fn run() -> Result<()> {
    fs::write(root().join(LIFE_CYCLE), life_cycle()?)?;
    eprintln!("{LIFE_CYCLE} written");
    Ok(())
}

/// Fails when one is not what the source says.
pub(crate) fn check() -> Result<()> {
    let there = fs::read_to_string(root().join(LIFE_CYCLE)).context(LIFE_CYCLE)?;
    ensure!(there == life_cycle()?, "{LIFE_CYCLE} is stale: run `cargo xtask docs`");
    Ok(())
}

fn life_cycle() -> Result<String> {
    output(cargo().args(["run", "--quiet", "--package", "farrier-model", "--example", "life_cycle"]))
}

const LIFE_CYCLE: &str = "docs/life-cycle.md";
