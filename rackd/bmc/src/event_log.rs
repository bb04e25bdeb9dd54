//! Capability: the event log that the BMC keeps (SEL; Redfish: a LogService).

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Bmc, BmcError, Capability, Deadline};

/// Reads and clears a BMC's event log.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// The newest `last` records, oldest first, and how many there are. Other calls to the BMC come in between: a log of
    /// thousands takes a minute. `log`: the BMC's name for it; empty: the one of the machine's hardware.
    async fn event_log(&self, log: &str, last: usize, deadline: Deadline) -> Result<BmcEvents, BmcError>;

    /// Forgets all records of a log, and waits until that is done.
    async fn clear_event_log(&self, log: &str, deadline: Deadline) -> Result<(), BmcError>;
}

/// What a log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BmcEvents {
    /// Oldest first.
    pub events: Vec<BmcEvent>,
    /// Records in the log, those included.
    pub total: u64,
    /// The log was full, and the BMC lost records.
    pub overflow: bool,
    /// The BMC's name for this log.
    pub log: String,
    /// Its names of all its logs.
    pub logs: Vec<String>,
    /// What of it could not be read.
    pub warnings: Vec<String>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BmcEvent {
    /// The BMC's name for it.
    pub id: String,
    /// Unix seconds by the BMC's clock; `None`: it does not say.
    pub time: Option<i64>,
    /// What it is about.
    pub sensor: String,
    /// What happened.
    pub message: String,
    /// Whether it began or ended; `None`: neither.
    pub asserted: Option<bool>,
}

impl Bmc {
    /// Adds the event log.
    #[must_use]
    pub fn with_event_log(mut self, event_log: Arc<dyn EventLog>) -> Self {
        self.event_log = Some((self.driver(), event_log));
        self
    }

    /// See [`EventLog::event_log`]: of the machine's hardware.
    pub async fn event_log(&self, last: usize, deadline: Deadline) -> Result<BmcEvents, BmcError> {
        self.named_log("", last, deadline).await
    }

    /// See [`EventLog::event_log`].
    pub async fn named_log(&self, log: &str, last: usize, deadline: Deadline) -> Result<BmcEvents, BmcError> {
        self.either(Capability::EventLog, |bmc| async move {
            bmc.give(&bmc.event_log, Capability::EventLog)?.event_log(log, last, deadline).await
        })
        .await
    }

    /// See [`EventLog::clear_event_log`]: of the machine's hardware.
    pub async fn clear_event_log(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.clear_named_log("", deadline).await
    }

    /// See [`EventLog::clear_event_log`].
    pub async fn clear_named_log(&self, log: &str, deadline: Deadline) -> Result<(), BmcError> {
        self.either(Capability::EventLog, |bmc| async move {
            bmc.give(&bmc.event_log, Capability::EventLog)?.clear_event_log(log, deadline).await
        })
        .await
    }
}
