//! Capability: in which order a machine's firmware tries what it can start from.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Bmc, BmcError, Capability, Deadline};

/// The order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    /// As the next start tries them; behind them those that no start tries.
    pub options: Vec<BootOption>,
    /// That start changes the order.
    pub pending: bool,
    /// The BMC's task or job that will apply it; empty: it needs none.
    pub task: String,
}

/// Something that a machine can start from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootOption {
    /// The BMC's name for it.
    pub id: String,
    /// For people.
    pub name: String,
    /// In UEFI's words; empty: the BMC does not say.
    pub device_path: String,
    /// Whether a start tries it; `None`: the BMC does not say.
    pub enabled: Option<bool>,
}

/// Reads and changes the order.
#[async_trait]
pub trait BootOrder: Send + Sync {
    /// Reads it.
    async fn boot_order(&self, deadline: Deadline) -> Result<Order, BmcError>;

    /// Puts these first, in this order; all others keep their order behind them. What is returned was read back:
    /// [`BmcError::NotApplied`] if it is not as it was asked for. Idempotent.
    async fn set_boot_order(&self, first: Vec<String>, deadline: Deadline) -> Result<Order, BmcError>;
}

impl Bmc {
    /// Adds the boot order.
    #[must_use]
    pub fn with_boot_order(mut self, boot_order: Arc<dyn BootOrder>) -> Self {
        self.boot_order = Some((self.driver(), boot_order));
        self
    }

    /// See [`BootOrder::boot_order`].
    pub async fn boot_order(&self, deadline: Deadline) -> Result<Order, BmcError> {
        self.either(Capability::BootOrder, |bmc| async move {
            bmc.give(&bmc.boot_order, Capability::BootOrder)?.boot_order(deadline).await
        })
        .await
    }

    /// See [`BootOrder::set_boot_order`].
    pub async fn set_boot_order(&self, first: Vec<String>, deadline: Deadline) -> Result<Order, BmcError> {
        self.either(Capability::BootOrder, |bmc| { let first = first.clone(); async move { bmc.give(&bmc.boot_order, Capability::BootOrder)?.set_boot_order(first, deadline).await } }).await
    }
}
