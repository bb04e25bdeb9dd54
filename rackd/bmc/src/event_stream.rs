//! Capability: events that a BMC tells by itself while somebody listens.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::{Bmc, BmcError, Capability, Deadline};

/// What a BMC tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BmcNotice {
    /// The name of the message in its registry, such as `ResourceEvent.1.3.ResourcePoweredOff`; empty: it has none.
    pub message_id: String,
    /// In words; empty: it has none.
    pub message: String,
}

/// Events as they come. Dropped, it ends the connection.
#[derive(Debug)]
pub struct EventStream {
    notices: mpsc::Receiver<Result<BmcNotice, BmcError>>,
    _reader: AbortOnDropHandle<()>,
}

impl EventStream {
    pub(crate) fn new(
        notices: mpsc::Receiver<Result<BmcNotice, BmcError>>,
        reader: tokio::task::JoinHandle<()>,
    ) -> Self {
        Self { notices, _reader: AbortOnDropHandle::new(reader) }
    }

    /// The next event. What happened while nobody listened is not told. Cancel-safe.
    ///
    /// # Errors
    /// The stream has ended, and why.
    pub async fn next(&mut self) -> Result<BmcNotice, BmcError> {
        self.notices.recv().await.unwrap_or(Err(BmcError::ShuttingDown))
    }
}

/// Tells events by itself.
#[async_trait]
pub trait Events: Send + Sync {
    /// Listens, on a connection of its own. The deadline is for finding out where; what becomes of the connection the
    /// stream tells.
    async fn events(&self, deadline: Deadline) -> Result<EventStream, BmcError>;
}

impl Bmc {
    /// Adds events.
    #[must_use]
    pub fn with_events(mut self, events: Arc<dyn Events>) -> Self {
        self.events = Some((self.driver(), events));
        self
    }

    /// See [`Events::events`].
    pub async fn events(&self, deadline: Deadline) -> Result<EventStream, BmcError> {
        self.give(&self.events, Capability::Events)?.events(deadline).await
    }
}
