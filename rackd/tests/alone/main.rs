//! `rackd` where there is no centre: its target, and its network boot, each by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod block_serve;
mod control;
mod https_boot;
mod readme;
mod standalone;
