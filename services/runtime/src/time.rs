//! Wall-clock time in messages.

use prost_types::Timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, as a protobuf timestamp.
pub fn now() -> Timestamp {
    SystemTime::now().into()
}

/// Milliseconds since the Unix epoch: how stores keep time.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A stored time as a timestamp.
pub fn timestamp(ms: i64) -> Timestamp {
    Timestamp {
        seconds: ms.div_euclid(1000),
        nanos: i32::try_from(ms.rem_euclid(1000) * 1_000_000).unwrap_or(0),
    }
}

/// Milliseconds of a timestamp.
pub fn millis(t: &Timestamp) -> i64 {
    t.seconds.saturating_mul(1000).saturating_add(i64::from(t.nanos) / 1_000_000)
}

/// How long ago, for people: "3m12s".
pub fn ago(ms: i64) -> String {
    ago_since(ms, now_ms())
}

/// The same, as seen at `now_ms`.
pub fn ago_since(ms: i64, now_ms: i64) -> String {
    let elapsed = Duration::from_millis(u64::try_from(now_ms.saturating_sub(ms).max(0)).unwrap_or(0));
    let s = elapsed.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        _ => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
    }
}
