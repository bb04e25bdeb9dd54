//! Capability: the diagnostic interrupt (NMI), which makes an operating system write down why it hangs.

use async_trait::async_trait;

use crate::{BmcError, Deadline};

/// Interrupts a machine.
#[async_trait]
pub trait Interrupt: Send + Sync {
    /// Sends it. Not idempotent, so it is sent once: a lost answer is [`BmcError::AnswerLost`].
    async fn diagnostic_interrupt(&self, deadline: Deadline) -> Result<(), BmcError>;
}
