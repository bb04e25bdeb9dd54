//! `cargo xtask tidy`: the house rules that a compiler does not know.
//!
//! The shape of the API is checked by `xtask/tests/contract.rs`, a test like any other: it needs the compiled
//! descriptors.

use anyhow::{Result, bail};

use crate::docs;
use crate::shell::root;

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
    if !found.is_empty() {
        bail!("{} complaints", found.len());
    }
    stale
}
