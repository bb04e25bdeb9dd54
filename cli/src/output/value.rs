//! The small words that the nouns' serialisations are made of.

use prost_types::Timestamp;
use serde_json::Value;
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// RFC 3339 in UTC, whole milliseconds; null when it is unset.
pub fn time(stamp: &Option<Timestamp>) -> Value {
    stamp.as_ref().and_then(rfc3339).map_or(Value::Null, Value::String)
}

/// RFC 3339 in UTC, whole milliseconds.
pub fn rfc3339(stamp: &Timestamp) -> Option<String> {
    let millis = i64::from(stamp.nanos) / 1_000_000 * 1_000_000;
    let at = OffsetDateTime::from_unix_timestamp(stamp.seconds).ok()?;
    at.checked_add(time::Duration::nanoseconds(millis))?.format(&Rfc3339).ok()
}

/// An enum value as lower-case words without its prefix: `deploy failed`. Null when it is unspecified;
/// the number when a newer server knows a word that this program does not.
pub fn word(prefix: &str, name: Option<&str>, number: i32) -> Value {
    match name {
        _ if number == 0 => Value::Null,
        Some(name) => Value::String(words(prefix, name)),
        None => Value::String(number.to_string()),
    }
}

fn words(prefix: &str, name: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).trim_start_matches('_').to_ascii_lowercase().replace('_', " ")
}

/// [`word`] of a generated enum: `enum_word!(ProvisionState, "PROVISION_STATE", node.state)`.
#[macro_export]
macro_rules! enum_word {
    ($type:ty, $prefix:literal, $number:expr) => {{
        let number: i32 = $number;
        $crate::output::value::word($prefix, <$type>::try_from(number).ok().map(|v| v.as_str_name()), number)
    }};
}

/// A map with its keys in order.
pub fn labels(map: &HashMap<String, String>) -> Value {
    Value::Object(map.iter().map(|(k, v)| (k.clone(), Value::String(v.clone()))).collect())
}

/// `k=v,k=v` with the keys in order, for a cell.
pub fn labels_cell(map: &HashMap<String, String>) -> String {
    let mut pairs: Vec<_> = map.iter().map(|(k, v)| format!("{k}={v}")).collect();
    pairs.sort();
    pairs.join(",")
}

/// The text of a value, for a cell.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// How long ago, for a cell: `3m12s`, `2d4h`. Empty when it is unset.
pub fn age(stamp: &Option<Timestamp>, now: SystemTime) -> String {
    let Some(stamp) = stamp else { return String::new() };
    between(Some(stamp), now).map(duration).unwrap_or_default()
}

/// From a stamp until a moment; nothing when it is unset, zero when it lies ahead.
pub fn between(from: Option<&Timestamp>, until: SystemTime) -> Option<Duration> {
    Some(until.duration_since(system_time(from?)?).unwrap_or_default())
}

/// A stamp as a moment. A time before 1970 is none that a server of ours sends.
pub fn system_time(stamp: &Timestamp) -> Option<SystemTime> {
    let seconds = u64::try_from(stamp.seconds).ok()?;
    let nanos = u32::try_from(stamp.nanos).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?.checked_add(Duration::from_nanos(u64::from(nanos)))
}

/// `45s`, `3m12s`, `5h03m`, `2d4h`.
pub fn duration(elapsed: Duration) -> String {
    let s = elapsed.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d{}h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enums_are_words() {
        assert_eq!(word("PROVISION_STATE", Some("PROVISION_STATE_DEPLOY_FAILED"), 11), "deploy failed");
        assert_eq!(word("PROVISION_STATE", Some("PROVISION_STATE_UNSPECIFIED"), 0), Value::Null);
        assert_eq!(word("PROVISION_STATE", None, 99), "99");
    }

    #[test]
    fn times_are_rfc_3339() {
        let stamp = Timestamp { seconds: 1_767_225_600, nanos: 120_999_999 };
        assert_eq!(time(&Some(stamp)), "2026-01-01T00:00:00.12Z");
        assert_eq!(time(&None), Value::Null);
        assert_eq!(time(&Some(Timestamp { seconds: i64::MAX, nanos: 0 })), Value::Null);
    }

    #[test]
    fn ages_are_short() {
        for (s, text) in [(5, "5s"), (192, "3m12s"), (18_180, "5h03m"), (187_200, "2d4h")] {
            assert_eq!(duration(Duration::from_secs(s)), text);
        }
    }
}
