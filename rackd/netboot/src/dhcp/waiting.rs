//! Answers that wait for the disk: nobody is told of a lease that a crash could undo.
//!
//! One write is under way at a time; what comes in meanwhile is the next one. So the disk's pace decides how many leases
//! go into a write, not how many machines can be served.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::{Reply, Request};
use crate::lease::Record;
use crate::{Leases, MacAddr};

pub(super) struct Waiting {
    leases: Leases,
    records: Vec<Record>,
    /// By client and transaction: a client that asks again while its answer waits is answered once.
    replies: HashMap<(MacAddr, u32), Reply>,
    under_way: Option<(JoinHandle<io::Result<()>>, Vec<Reply>)>,
    /// When the next write may begin. One machine alone never waits for that.
    due: Option<Instant>,
    /// When it was last told that the disk does not take them.
    told: Option<Instant>,
}

impl Waiting {
    pub(super) fn new(leases: Leases) -> Self {
        Self { leases, records: Vec::new(), replies: HashMap::new(), under_way: None, due: None, told: None }
    }

    /// A record to be written, and what is to be said then; given back where there is no disk to wait for.
    #[must_use]
    pub(super) fn add(&mut self, request: &Request, record: Record, reply: Option<Reply>) -> Option<Reply> {
        if !self.leases.durable() {
            return reply;
        }
        // A disk that stands still: machines ask again, memory does not come again.
        if self.records.len() >= MOST {
            return None;
        }
        self.records.push(record);
        if let Some(reply) = reply {
            self.replies.insert((request.mac, request.xid), reply);
        }
        None
    }

    /// Begins a write, if there is something to write, none under way, and the last one long enough ago.
    pub(super) fn begin(&mut self) {
        let now = Instant::now();
        if self.under_way.is_some() || self.records.is_empty() || self.due > Some(now) {
            return;
        }
        self.due = Some(now + GATHER);
        let write = self.leases.commit(std::mem::take(&mut self.records));
        self.under_way = Some((write, self.replies.drain().map(|(_, reply)| reply).collect()));
    }

    /// The answers of the next write that is on disk; never without one. Nothing is lost when the future is dropped
    /// before.
    pub(super) async fn committed(&mut self) -> Vec<Reply> {
        if self.under_way.is_none() && !self.records.is_empty() {
            if let Some(due) = self.due {
                tokio::time::sleep_until(due.into()).await;
            }
            self.begin();
        }
        let Some((write, _)) = &mut self.under_way else { return std::future::pending().await };
        let done = write.await;
        let replies = self.under_way.take().map(|(_, replies)| replies).unwrap_or_default();
        match done.map_err(io::Error::other).flatten() {
            Ok(()) => {
                self.begin();
                replies
            }
            Err(error) => {
                let now = Instant::now();
                self.due = Some(now + AFTER_ERROR);
                if self.told.is_none_or(|at| now.duration_since(at) >= TELL_EVERY) {
                    self.told = Some(now);
                    tracing::error!(%error, "leases cannot be written: nobody gets one until they can");
                }
                Vec::new()
            }
        }
    }
}

/// Records that wait, at most: twice what a row of racks asks for at once.
const MOST: usize = 8192;
/// Writes begin this far apart at least: in a storm a sync is dear, and two milliseconds are nothing to a firmware.
const GATHER: Duration = Duration::from_millis(2);
/// A disk that is full or broken is not asked at every packet.
const AFTER_ERROR: Duration = Duration::from_secs(1);
const TELL_EVERY: Duration = Duration::from_secs(60);
