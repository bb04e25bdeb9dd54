//! `cargo xtask bench diskless`. It needs no root: the machines are pretended.

use anyhow::Result;

pub(super) fn run(options: &[String]) -> Result<()> {
    super::lab("diskless", options)
}
