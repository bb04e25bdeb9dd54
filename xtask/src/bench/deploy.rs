//! `cargo xtask bench deploy`. The benchmark says itself which Debian packages it installs, as the demo does.

use anyhow::Result;

pub(super) fn run(options: &[String]) -> Result<()> {
    super::lab("deploy", options)
}
