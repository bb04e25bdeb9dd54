//! What log services and their entries say (DSP0268: LogService, LogEntry). Nothing in here fails.

use std::cmp::Ordering;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::document::Document;
use crate::BmcEvent;

/// The best of a BMC's logs to show as *the* event log: the lower the better. A log of the BMC's own doings, of audits or
/// of the operating system is no log of the machine's hardware.
pub(super) fn rank(service: &Document) -> u8 {
    let id = service.text("Id").unwrap_or_default().to_ascii_lowercase();
    match service.text("LogEntryType").as_deref() {
        _ if service.link("Entries").is_none() => NO_LOG,
        Some("SEL") => 0,
        // The names of HPE's integrated management log, Dell's and OpenBMC's.
        _ if matches!(id.as_str(), "sel" | "iml" | "eventlog") => 1,
        Some("Event" | "Multiple") => 2,
        _ => 3,
    }
}

/// See [`rank`]: nothing to read.
pub(super) const NO_LOG: u8 = u8::MAX;

/// One entry.
pub(super) fn event(entry: &Document) -> BmcEvent {
    let sensor = entry.text("SensorType").or_else(|| entry.text("Name")).unwrap_or_default();
    let number = entry.number("SensorNumber").map(|number| format!(" {number:02X}h")).unwrap_or_default();
    let message = entry.text("Message").or_else(|| entry.text("MessageId")).unwrap_or_default();
    let code = entry.text("EntryCode").unwrap_or_default();
    let severity = entry.text("Severity").filter(|severity| severity != "OK");
    BmcEvent {
        id: entry.text("Id").unwrap_or_default(),
        time: entry.text("EventTimestamp").or_else(|| entry.text("Created")).and_then(|text| unix(&text)),
        sensor: format!("{sensor}{number}"),
        message: match severity {
            Some(severity) => format!("{message} ({})", severity.to_ascii_lowercase()),
            None => message,
        },
        asserted: match code.as_str() {
            "Assert" => Some(true),
            "Deassert" => Some(false),
            _ => None,
        },
    }
}

/// Oldest first, whatever the BMC's order: by time, then by number. Entries without a time stay where their numbers are.
pub(super) fn sort(events: &mut [BmcEvent]) {
    let timed = events.iter().all(|event| event.time.is_some());
    let number = |event: &BmcEvent| event.id.parse::<u64>().unwrap_or(u64::MAX);
    events.sort_by_key(|event| (event.time.filter(|_| timed), number(event)));
}

/// How two entries of a log stand to each other, by what [`sort`] goes by: the newer is the greater. Equal: nobody knows.
pub(super) fn order(one: &BmcEvent, other: &BmcEvent) -> Ordering {
    let times = one.time.zip(other.time).map(|(one, other)| one.cmp(&other));
    let numbers = || {
        let number = |event: &BmcEvent| event.id.parse::<u64>().ok();
        number(one).zip(number(other)).map(|(one, other)| one.cmp(&other))
    };
    times.filter(|times| times.is_ne()).or_else(numbers).unwrap_or(Ordering::Equal)
}

/// Whether each is older than the one before it, or as old: then what comes behind them is older still.
pub(super) fn falls(events: &[BmcEvent]) -> bool {
    let newest_first = |pair: &[BmcEvent]| match pair {
        [newer, older] => newer.time.is_some() && older.time.is_some() && newer.time >= older.time,
        _ => false,
    };
    let ends = (events.first().and_then(|first| first.time), events.last().and_then(|last| last.time));
    // Where all are of one second nothing is known.
    events.windows(2).all(newest_first) && ends.0 > ends.1
}

fn unix(text: &str) -> Option<i64> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document::parse(text.as_bytes(), None).unwrap()
    }

    #[test]
    fn an_entry_is_read_as_far_as_it_says_something() {
        let whole = document(
            r#"{"Id": "7", "Created": "2026-11-28T19:00:00+01:00", "SensorType": "Power Unit", "SensorNumber": 1,
                "Message": "Power off", "EntryCode": "Assert", "Severity": "Warning"}"#,
        );
        let expected = BmcEvent {
            id: "7".into(),
            time: Some(1_795_888_800),
            sensor: "Power Unit 01h".into(),
            message: "Power off (warning)".into(),
            asserted: Some(true),
        };
        assert_eq!(event(&whole), expected);
        let poor = event(&document(r#"{"Name": "Log Entry", "Created": "yesterday", "MessageId": "X.1"}"#));
        assert_eq!((poor.time, poor.message.as_str(), poor.asserted), (None, "X.1", None));
    }

    #[test]
    fn a_log_that_begins_with_its_newest_is_known_by_its_times() {
        let falls = |times: &[Option<i64>]| {
            let event = |time: &Option<i64>| BmcEvent { time: *time, ..event(&Document::default()) };
            falls(&times.iter().map(event).collect::<Vec<_>>())
        };
        assert!(falls(&[Some(5), Some(5), Some(4)]));
        for times in [&[Some(4), Some(5)][..], &[Some(5), Some(5)], &[Some(5), None], &[Some(5)], &[]] {
            assert!(!falls(times), "{times:?}");
        }
    }

    #[test]
    fn the_machines_log_comes_before_the_bmcs() {
        let rank = |text: &str| rank(&document(text));
        let entries = r#""Entries": {"@odata.id": "/e"}"#;
        let sel = rank(&format!(r#"{{"Id": "Log1", "LogEntryType": "SEL", {entries}}}"#));
        let iml = rank(&format!(r#"{{"Id": "IML", {entries}}}"#));
        let lifecycle = rank(&format!(r#"{{"Id": "Lclog", "LogEntryType": "Oem", {entries}}}"#));
        assert!(sel < iml && iml < lifecycle && lifecycle < NO_LOG);
        assert_eq!(rank(r#"{"Id": "Sel", "LogEntryType": "SEL"}"#), NO_LOG);
    }

    #[test]
    fn the_newest_is_the_last_in_whatever_order_they_came() {
        let of = |id: &str, time| BmcEvent {
            id: id.into(),
            time,
            sensor: String::new(),
            message: String::new(),
            asserted: None,
        };
        let ids = |mut events: Vec<BmcEvent>| {
            sort(&mut events);
            events.into_iter().map(|event| event.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(vec![of("10", Some(5)), of("9", Some(5)), of("1", Some(9))]), ["9", "10", "1"]);
        assert_eq!(ids(vec![of("3", Some(1)), of("2", None)]), ["2", "3"]);
    }
}
