//! The event log of the machine (DSP0268: LogService, LogEntry), in pages: the records that IPMI has.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::resources::{View, collection};
use crate::bmc::sel::{
    self, CAPACITY, CRITICAL_INTERRUPT, DEASSERTED, FRONT_PANEL_NMI, POWER_CYCLE, POWER_UNIT,
};

/// Entries of one page.
const PAGE: usize = 16;

/// Words for sensor types and offsets of sensor-specific events (IPMI 2.0 Table 42-3): sensor, message, severity.
const WORDS: &[(u8, u8, &str, &str, &str)] = &[
    (POWER_UNIT, sel::POWER_OFF, "Power Unit", "Power off", "OK"),
    (POWER_UNIT, POWER_CYCLE, "Power Unit", "Power cycle", "OK"),
    (CRITICAL_INTERRUPT, FRONT_PANEL_NMI, "Critical Interrupt", "Front panel NMI", "Critical"),
];

/// A log among those of a system or a BMC.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// The machine's, which IPMI has too.
    Sel,
    /// Dell's, of the BMC's own doings.
    Lifecycle,
}

impl Kind {
    /// Its id, its name, and what kind of entries it has.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Sel => ("SEL", "System Event Log", "SEL"),
            Self::Lifecycle => ("Lclog", "Lifecycle Controller Log", "Event"),
        }
    }
}

/// Something at or below the collection of logs, whose path is `all`.
pub(super) fn get(view: &View<'_>, path: &str, all: &str, rest: &[&str], kind: Kind) -> Option<Value> {
    let (id, name, entries_are) = kind.words();
    let entries = format!("{all}/{id}/Entries");
    Some(match rest {
        [] => collection(path, "LogServiceCollection", &[format!("{all}/{id}")]),
        [one] if *one == id => json!({
            "@odata.id": path, "@odata.type": "#LogService.v1_2_0.LogService", "Id": id,
            "Name": name, "LogEntryType": entries_are, "MaxNumberOfRecords": CAPACITY,
            "OverWritePolicy": "WrapsWhenFull", "ServiceEnabled": true,
            "Entries": { "@odata.id": entries },
            "Actions": { "#LogService.ClearLog": { "target": format!("{path}/Actions/LogService.ClearLog") } },
        }),
        [one, "Entries"] if *one == id => page(view, &entries, kind),
        [one, "Entries", number] if *one == id => match kind {
            Kind::Sel => {
                let id: u16 = number.parse().ok()?;
                entry(view.config.log.sel().records().find(|record| sel::id(record) == id)?, &entries)
            }
            Kind::Lifecycle => view.lifecycle.get(number, &entries)?,
        },
        _ => return None,
    })
}

/// From `$skip` on, newest first.
fn page(view: &View<'_>, path: &str, kind: Kind) -> Value {
    let skip = view.query.split('&').find_map(|part| part.strip_prefix("$skip=")?.parse().ok()).unwrap_or(0);
    let (count, members): (usize, Vec<Value>) = match kind {
        Kind::Sel => {
            let log = view.config.log.sel();
            let newest_first = log.records().rev();
            (log.records().len(), newest_first.skip(skip).take(PAGE).map(|one| entry(one, path)).collect())
        }
        Kind::Lifecycle => {
            let newest_first = view.lifecycle.newest_first(path);
            (view.lifecycle.len(), newest_first.skip(skip).take(PAGE).collect())
        }
    };
    let mut page = json!({
        "@odata.id": path, "@odata.type": "#LogEntryCollection.LogEntryCollection", "Name": "Entries",
        "Members@odata.count": count, "Members": members,
    });
    let next = skip.saturating_add(PAGE);
    if next < count
        && let Some(page) = page.as_object_mut()
    {
        page.insert("Members@odata.nextLink".to_owned(), json!(format!("{path}?$skip={next}")));
    }
    page
}

/// A system event record (IPMI 2.0 Table 32-1).
fn entry(record: &[u8; 16], collection: &str) -> Value {
    let [_, _, _, t0, t1, t2, t3, _, _, _, kind, number, event, offset, ..] = *record;
    let id = sel::id(record);
    let words = WORDS
        .iter()
        .find(|(k, o, ..)| *k == kind && *o == offset && event & !DEASSERTED == sel::SENSOR_SPECIFIC);
    let (sensor, message, severity) = match words {
        Some((_, _, sensor, message, severity)) => ((*sensor).to_owned(), (*message).to_owned(), *severity),
        None => (format!("Type {kind:#04x}"), format!("Event {event:#04x}, {offset:#04x}"), "Warning"),
    };
    let seconds = u32::from_le_bytes([t0, t1, t2, t3]);
    let created = OffsetDateTime::from_unix_timestamp(seconds.into()).ok();
    json!({
        "@odata.id": format!("{collection}/{id}"), "@odata.type": "#LogEntry.v1_8_0.LogEntry",
        "Id": id.to_string(), "Name": "Log Entry", "EntryType": "SEL",
        "Created": created.and_then(|created| created.format(&Rfc3339).ok()),
        "SensorType": sensor, "SensorNumber": number, "Message": message, "MessageId": "Farrier.1.0.SystemEvent",
        "Severity": severity, "EntryCode": if event & DEASSERTED == 0 { "Assert" } else { "Deassert" },
    })
}
