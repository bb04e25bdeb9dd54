//! Capability: the locator LED.

use async_trait::async_trait;

use crate::{BmcError, Deadline};

/// What the LED should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Led {
    /// Off now.
    Off,
    /// Blink for so many seconds, then off.
    Seconds(u8),
    /// Blink until told otherwise.
    On,
}

/// Makes a machine findable in the rack.
#[async_trait]
pub trait Identify: Send + Sync {
    /// Sets the LED. Idempotent.
    async fn identify(&self, led: Led, deadline: Deadline) -> Result<(), BmcError>;
}
