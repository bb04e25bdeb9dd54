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

impl BmcNotice {
    /// Whether a look at the machine may show what it is about. What is not known may be: only what is surely of the BMC's own
    /// doings, such as that we logged in, is not.
    #[must_use]
    pub fn may_be_of_the_machine(&self) -> bool {
        let id = self.message_id.as_str();
        let (registry, key) = (id.split('.').next().unwrap_or(id), id.rsplit('.').next().unwrap_or(id));
        let own = OWN_REGISTRIES.contains(&registry) || OWN_KEYS.iter().any(|own| key.starts_with(own));
        !own
    }
}

/// Registries of what the service itself does (DSP2065).
const OWN_REGISTRIES: &[&str] =
    &["Base", "TaskEvent", "HeartbeatEvent", "License", "LogService", "Update", "JobEvent"];
/// How keys of messages begin: those of log-ins of Dell (Event and Error Message Reference: USR), HPE and OpenBMC, jobs of Dell's.
const OWN_KEYS: &[&str] =
    &["USR", "JCP", "LOG", "UserLog", "Login", "Logout", "Session", "BMCLogin", "BMCLogout", "WebLog"];

/// Events as they come. Dropped, it ends the connection.
#[derive(Debug)]
pub struct EventStream {
    notices: mpsc::Receiver<Result<BmcNotice, BmcError>>,
    _reader: AbortOnDropHandle<()>,
}

impl EventStream {
    /// Of what `reader` tells; it ends with the stream.
    #[must_use]
    pub fn new(
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
        self.either(Capability::Events, |bmc| async move {
            bmc.give(&bmc.events, Capability::Events)?.events(deadline).await
        })
        .await
    }
}
