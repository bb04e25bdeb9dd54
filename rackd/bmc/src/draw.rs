//! Capability: how much power the whole machine draws.

use std::time::Duration;

use async_trait::async_trait;

use crate::{BmcError, Deadline};

/// Reads the power draw.
#[async_trait]
pub trait ReadPowerDraw: Send + Sync {
    /// As the BMC measures it.
    async fn power_draw(&self, deadline: Deadline) -> Result<PowerDraw, BmcError>;
}

/// In watts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PowerDraw {
    /// `None`: it does not measure now.
    pub now: Option<f64>,
    /// Over [`PowerDraw::period`]; `None`: the BMC does not say.
    pub average: Option<f64>,
    /// Over the same time.
    pub least: Option<f64>,
    /// Over the same time.
    pub most: Option<f64>,
    /// Over how long; `None`: the BMC does not say.
    pub period: Option<Duration>,
}
