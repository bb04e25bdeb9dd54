//! Capability: the BMC's own restart. The machine keeps running.

use async_trait::async_trait;

use crate::{BmcError, Deadline};

/// Restarts a BMC.
#[async_trait]
pub trait ResetBmc: Send + Sync {
    /// Asks for it, once. It does not answer then for a minute or more; sessions and consoles are gone. One that falls
    /// silent instead of answering has done it; one that goes on without an answer is [`BmcError::AnswerLost`].
    async fn reset_bmc(&self, deadline: Deadline) -> Result<(), BmcError>;
}
