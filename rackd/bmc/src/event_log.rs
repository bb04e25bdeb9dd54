//! Capability: the event log that the BMC keeps (SEL; Redfish: a LogService).

use async_trait::async_trait;

use crate::{BmcError, Deadline};

/// Reads and clears a BMC's event log.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// The newest `last` records, oldest first, and how many there are. Other calls to the BMC come in between: a log of
    /// thousands takes a minute.
    async fn event_log(&self, last: usize, deadline: Deadline) -> Result<BmcEvents, BmcError>;

    /// Forgets all records, and waits until that is done.
    async fn clear_event_log(&self, deadline: Deadline) -> Result<(), BmcError>;
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
