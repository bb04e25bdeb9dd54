//! The event log of the machine (DSP0268: LogService, LogEntry): what its power button did, in pages.

use std::collections::VecDeque;
use std::time::SystemTime;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::resources::{View, collection};
use crate::bmc::PowerAction;

/// Small BMCs have room for so many.
const CAPACITY: usize = 512;
/// Entries of one page.
const PAGE: usize = 16;

/// Entries, oldest first.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: VecDeque<Entry>,
    newest: u64,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    created: String,
    sensor: &'static str,
    message: String,
    severity: &'static str,
    asserted: bool,
}

impl Log {
    /// The button was pressed, and it did something.
    pub(super) fn pressed(&mut self, action: PowerAction) {
        let (sensor, message, severity, asserted) = match action {
            PowerAction::On => ("Power Unit", "Power off", "OK", false),
            PowerAction::Off | PowerAction::Soft => ("Power Unit", "Power off", "OK", true),
            PowerAction::Cycle | PowerAction::Reset => ("Power Unit", "Power cycle", "OK", true),
            PowerAction::Interrupt => ("Critical Interrupt", "Front panel NMI", "Critical", true),
        };
        self.wrote(sensor, message.to_owned(), severity, asserted);
    }

    /// Something of the BMC's own happened.
    pub(super) fn noted(&mut self, message: String) {
        self.wrote("Audit", message, "OK", true);
    }

    fn wrote(&mut self, sensor: &'static str, message: String, severity: &'static str, asserted: bool) {
        self.newest += 1;
        if self.entries.len() == CAPACITY {
            self.entries.pop_front();
        }
        let created = OffsetDateTime::from(SystemTime::now()).format(&Rfc3339).unwrap_or_default();
        self.entries.push_back(Entry { id: self.newest, created, sensor, message, severity, asserted });
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}

/// A log among those of a system or a BMC.
pub(super) struct Kind {
    id: &'static str,
    name: &'static str,
    entry: &'static str,
    of: for<'a> fn(&View<'a>) -> &'a Log,
}

pub(super) const SEL: Kind = Kind { id: "SEL", name: "System Event Log", entry: "SEL", of: |view| view.log };
/// Dell's.
pub(super) const LIFECYCLE: Kind =
    Kind { id: "Lclog", name: "Lifecycle Controller Log", entry: "Event", of: |view| view.lifecycle };

/// Something at or below the collection of logs, whose path is `all`.
pub(super) fn get(view: &View<'_>, path: &str, all: &str, rest: &[&str], kind: &Kind) -> Option<Value> {
    let log = (kind.of)(view);
    let id = kind.id;
    let entries = format!("{all}/{id}/Entries");
    Some(match rest {
        [] => collection(path, "LogServiceCollection", &[format!("{all}/{id}")]),
        [one] if *one == id => json!({
            "@odata.id": path, "@odata.type": "#LogService.v1_2_0.LogService", "Id": id,
            "Name": kind.name, "LogEntryType": kind.entry, "MaxNumberOfRecords": CAPACITY,
            "OverWritePolicy": "WrapsWhenFull", "ServiceEnabled": true,
            "Entries": { "@odata.id": entries },
            "Actions": { "#LogService.ClearLog": { "target": format!("{path}/Actions/LogService.ClearLog") } },
        }),
        [one, "Entries"] if *one == id => page(view, log, &entries, kind.entry),
        [one, "Entries", number] if *one == id => {
            let id: u64 = number.parse().ok()?;
            entry(log.entries.iter().find(|entry| entry.id == id)?, &entries, kind.entry)
        }
        _ => return None,
    })
}

/// From `$skip` on, newest first.
fn page(view: &View<'_>, log: &Log, path: &str, kind: &str) -> Value {
    let skip = view.query.split('&').find_map(|part| part.strip_prefix("$skip=")?.parse().ok()).unwrap_or(0);
    let newest_first = log.entries.iter().rev();
    let members: Vec<_> = newest_first.skip(skip).take(PAGE).map(|one| entry(one, path, kind)).collect();
    let mut page = json!({
        "@odata.id": path, "@odata.type": "#LogEntryCollection.LogEntryCollection", "Name": "Entries",
        "Members@odata.count": log.entries.len(), "Members": members,
    });
    let next = skip + PAGE;
    if next < log.entries.len()
        && let Some(page) = page.as_object_mut()
    {
        page.insert("Members@odata.nextLink".to_owned(), json!(format!("{path}?$skip={next}")));
    }
    page
}

fn entry(entry: &Entry, collection: &str, kind: &str) -> Value {
    let Entry { id, created, sensor, message, severity, asserted } = entry;
    json!({
        "@odata.id": format!("{collection}/{id}"), "@odata.type": "#LogEntry.v1_8_0.LogEntry",
        "Id": id.to_string(), "Name": "Log Entry", "EntryType": kind, "Created": created,
        "SensorType": sensor, "SensorNumber": 1, "Message": message, "MessageId": "Farrier.1.0.PowerButton", "Severity": severity,
        "EntryCode": if *asserted { "Assert" } else { "Deassert" },
    })
}
