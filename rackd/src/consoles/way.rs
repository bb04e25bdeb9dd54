//! How a desk comes to its BMC again.

use crate::bmc::{Access, Bmcs};
use async_trait::async_trait;
use farrier_bmc::{Bmc, BmcError, Deadline};
use std::sync::Arc;
use tokio::sync::watch;

/// Gives a handle of the BMC whose line was lost.
#[async_trait]
pub(super) trait Way: Send + Sync + 'static {
    async fn bmc(&self, deadline: Deadline) -> Result<Bmc, BmcError>;
}

/// By what the node says of its BMC now: its password may be another than when the desk was opened, and its name lead elsewhere.
pub(super) struct ByAccess {
    pub(super) bmcs: Arc<Bmcs>,
    pub(super) node: String,
    pub(super) access: watch::Receiver<Access>,
}

#[async_trait]
impl Way for ByAccess {
    async fn bmc(&self, deadline: Deadline) -> Result<Bmc, BmcError> {
        let access = self.access.borrow().clone();
        self.bmcs.console(&self.node, access.resolved_again().await, deadline).await
    }
}
