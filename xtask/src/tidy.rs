//! `cargo xtask tidy`: the house rules that a compiler does not know.
//!
//! The shape of the API is checked by `xtask/tests/contract.rs`, which is run too: it needs the compiled
//! descriptors.

use anyhow::{Result, bail};

use crate::docs;
use crate::shell::{cargo, root, run as run_program};

mod imports;
mod lengths;
mod paths;

pub(crate) fn run() -> Result<()> {
    let mut found = imports::check()?;
    found.extend(paths::check(&root())?);
    found.extend(lengths::check(&root())?);
    for complaint in &found {
        eprintln!("tidy: {complaint}");
    }
    let stale = docs::check();
    let contract = run_program(cargo().args(["test", "--quiet", "--package", "xtask", "--test", "contract"]));
    if !found.is_empty() {
        bail!("{} complaints", found.len());
    }
    stale.and(contract)
}
