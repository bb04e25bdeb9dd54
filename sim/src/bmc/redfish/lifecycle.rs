//! What a BMC keeps of its own doings: Dell's Lifecycle Controller log.

use std::collections::VecDeque;
use std::time::SystemTime;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Small BMCs have room for so many.
const CAPACITY: usize = 512;

/// Entries, oldest first.
#[derive(Debug, Default)]
pub(super) struct Lifecycle {
    entries: VecDeque<Entry>,
    newest: u64,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    created: String,
    message: String,
}

impl Lifecycle {
    pub(super) fn noted(&mut self, message: String) {
        self.newest += 1;
        if self.entries.len() == CAPACITY {
            self.entries.pop_front();
        }
        let created = OffsetDateTime::from(SystemTime::now()).format(&Rfc3339).unwrap_or_default();
        self.entries.push_back(Entry { id: self.newest, created, message });
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// `LogEntry` resources, newest first.
    pub(super) fn newest_first<'a>(&'a self, collection: &'a str) -> impl Iterator<Item = Value> + 'a {
        self.entries.iter().rev().map(move |one| entry(one, collection))
    }

    pub(super) fn get(&self, id: &str, collection: &str) -> Option<Value> {
        let id: u64 = id.parse().ok()?;
        self.entries.iter().find(|entry| entry.id == id).map(|one| entry(one, collection))
    }
}

fn entry(entry: &Entry, collection: &str) -> Value {
    let Entry { id, created, message } = entry;
    json!({
        "@odata.id": format!("{collection}/{id}"), "@odata.type": "#LogEntry.v1_8_0.LogEntry",
        "Id": id.to_string(), "Name": "Log Entry", "EntryType": "Event", "Created": created,
        "Message": message, "MessageId": "Farrier.1.0.Audit", "Severity": "OK",
        "Oem": { "Dell": { "@odata.type": "#DellLCLogEntry.v1_0_0.DellLCLogEntry", "Category": "Audit" } },
    })
}
