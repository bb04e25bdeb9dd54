//! What happened when, and how long it took.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use farrier_proto::scheduler::Operation;
use serde::Serialize;

use crate::lab::operation::{seconds, since_epoch};

/// One thing that took time.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Entry {
    /// `lab`, a node or an instance.
    who: String,
    what: String,
    /// Step of an operation; without one, the whole of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    /// Seconds since the demo began.
    start: f64,
    seconds: f64,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Timeline {
    began: f64,
    entries: Vec<Entry>,
}

impl Timeline {
    pub(super) fn new() -> Self {
        Self { began: now(), entries: Vec::new() }
    }

    /// Seconds since the beginning.
    pub(super) fn elapsed(&self) -> f64 {
        now() - self.began
    }

    pub(super) fn add(&mut self, who: &str, what: &str, start: f64, seconds: f64, detail: &str, error: &str) {
        self.entries.push(Entry {
            who: who.to_owned(),
            what: what.to_owned(),
            step: None,
            start,
            seconds,
            detail: detail.to_owned(),
            error: error.to_owned(),
        });
    }

    /// The steps of an operation, as its rack timed them.
    pub(super) fn add_steps(&mut self, who: &str, what: &str, operation: &Operation) {
        for step in &operation.steps {
            let Some(start) = &step.start_time else { continue };
            self.entries.push(Entry {
                who: who.to_owned(),
                what: what.to_owned(),
                step: Some(step.name.clone()),
                start: since_epoch(start) - self.began,
                seconds: seconds(&step.start_time, &step.end_time).unwrap_or_default(),
                detail: step.detail.clone(),
                error: step.error.clone(),
            });
        }
    }

    pub(super) fn render(&self) -> String {
        let mut text = format!("{:>8} {:>8}  what\n", "at s", "took s");
        for entry in &self.entries {
            let what = match &entry.step {
                None => format!("{} {}", entry.who, entry.what),
                Some(step) => format!("    {step}"),
            };
            let note = if entry.error.is_empty() { &entry.detail } else { &entry.error };
            let row = format!("{:>8.1} {:>8.2}  {what:<30} {note}", entry.start, entry.seconds);
            let _ = writeln!(text, "{}", row.trim_end());
        }
        text
    }

    pub(super) fn json(&self, ok: bool) -> serde_json::Value {
        serde_json::json!({ "ok": ok, "total_seconds": self.elapsed(), "entries": self.entries })
    }
}

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    // A clock before 1970 has worse problems than our timeline.
    SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_secs_f64()).unwrap_or_default()
}
