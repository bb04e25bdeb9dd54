//! Capability: what the sensors of a machine say now.

use async_trait::async_trait;

use crate::{BmcError, Deadline};

/// Reads a machine's sensors.
#[async_trait]
pub trait ReadSensors: Send + Sync {
    /// All of them, in the BMC's order. Other calls to the BMC come in between: a hundred sensors take seconds.
    async fn sensors(&self, deadline: Deadline) -> Result<Sensors, BmcError>;
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sensors {
    /// In the BMC's order.
    pub sensors: Vec<SensorValue>,
    /// What could not be read. It never stops the others.
    pub warnings: Vec<String>,
}

/// One sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct SensorValue {
    /// The board's name for it.
    pub name: String,
    /// What it measures, such as `Temperature`.
    pub kind: String,
    /// `None`: it has only states, or does not measure now.
    pub value: Option<f64>,
    /// Of the value; may be empty.
    pub unit: &'static str,
    /// Whether that is well.
    pub health: SensorHealth,
    /// In words: states of a sensor without a number.
    pub states: Vec<String>,
}

/// By the thresholds that the board has set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SensorHealth {
    /// It does not say: switched off, absent, or without thresholds.
    Unknown,
    /// No threshold is crossed.
    Ok,
    /// A non-critical threshold is.
    Warning,
    /// A critical one, or one that hardware does not recover from.
    Critical,
}
