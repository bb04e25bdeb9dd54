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

/// Something at or below the collection of logs, whose path is `all`.
pub(super) fn get(view: &View<'_>, path: &str, all: &str, rest: &[&str]) -> Option<Value> {
    let entries = format!("{all}/SEL/Entries");
    Some(match rest {
        [] => collection(path, "LogServiceCollection", &[format!("{all}/SEL")]),
        ["SEL"] => json!({
            "@odata.id": path, "@odata.type": "#LogService.v1_2_0.LogService", "Id": "SEL",
            "Name": "System Event Log", "LogEntryType": "SEL", "MaxNumberOfRecords": CAPACITY,
            "OverWritePolicy": "WrapsWhenFull", "ServiceEnabled": true,
            "Entries": { "@odata.id": entries },
            "Actions": { "#LogService.ClearLog": { "target": format!("{path}/Actions/LogService.ClearLog") } },
        }),
        ["SEL", "Entries"] => page(view, &entries),
        ["SEL", "Entries", id] => {
            let id: u16 = id.parse().ok()?;
            entry(view.config.log.sel().records().find(|record| sel::id(record) == id)?, &entries)
        }
        _ => return None,
    })
}

/// From `$skip` on, newest first.
fn page(view: &View<'_>, path: &str) -> Value {
    let skip = view.query.split('&').find_map(|part| part.strip_prefix("$skip=")?.parse().ok()).unwrap_or(0);
    let log = view.config.log.sel();
    let newest_first = log.records().rev();
    let members: Vec<_> = newest_first.skip(skip).take(PAGE).map(|one| entry(one, path)).collect();
    let mut page = json!({
        "@odata.id": path, "@odata.type": "#LogEntryCollection.LogEntryCollection", "Name": "Entries",
        "Members@odata.count": log.records().len(), "Members": members,
    });
    let next = skip.saturating_add(PAGE);
    if next < log.records().len()
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
