//! How a desk comes to its BMC again.

use crate::bmc::{Access, Bmcs};
use async_trait::async_trait;
use farrier_bmc::{Bmc, BmcError, Deadline};
use std::sync::Arc;

/// Gives a handle of the BMC whose line was lost.
#[async_trait]
pub(super) trait Way: Send + Sync + 'static {
    async fn bmc(&self, deadline: Deadline) -> Result<Bmc, BmcError>;
}

/// By what the node says of its BMC: a name may lead elsewhere by now.
pub(super) struct ByAccess {
    pub(super) bmcs: Arc<Bmcs>,
    pub(super) node: String,
    pub(super) access: Access,
}

#[async_trait]
impl Way for ByAccess {
    async fn bmc(&self, deadline: Deadline) -> Result<Bmc, BmcError> {
        self.bmcs.console(&self.node, self.access.resolved_again().await, deadline).await
    }
}
