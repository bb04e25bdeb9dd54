//! Logs.

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt};

/// Starts logging to standard error. `FARRIER_LOG` sets the filter: a level, or `target=level` pairs with commas
/// (default `info`); `FARRIER_LOG_FORMAT=json` the machine readable form.
pub fn start() {
    let (filter, complaint) = filter(std::env::var("FARRIER_LOG").ok().as_deref());
    let json = std::env::var("FARRIER_LOG_FORMAT").is_ok_and(|v| v == "json");
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if json { lines.json().boxed() } else { lines.with_ansi(false).boxed() };
    // A second start (tests in one process) keeps the first.
    let _ = Registry::default().with(lines.with_filter(filter)).try_init();
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
}

/// The filter that was asked for, or the default and why.
fn filter(wanted: Option<&str>) -> (Targets, Option<String>) {
    let fallback = || DEFAULT.parse::<Targets>().unwrap_or_default();
    match wanted.map(str::parse::<Targets>) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => {
            let complaint = format!(
                "FARRIER_LOG={:?} cannot be read ({error}): expected for example info,farrier_rackd=debug; going on \
                 with {DEFAULT}",
                wanted.unwrap_or_default()
            );
            (fallback(), Some(complaint))
        }
        None => (fallback(), None),
    }
}

const DEFAULT: &str = "info,sea_orm_migration=warn";

/// An error with the chain of its causes, for a log line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let text = e.to_string();
        if !out.contains(&text) {
            out.push_str(": ");
            out.push_str(&text);
        }
        cause = e.source();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn filters_are_levels_and_targets() {
        let (all, complaint) = filter(Some("warn,farrier_rackd=debug"));
        assert!(complaint.is_none());
        assert!(all.would_enable("farrier_rackd::tasks", &Level::DEBUG));
        assert!(all.would_enable("hyper", &Level::WARN) && !all.would_enable("hyper", &Level::INFO));
        let (usual, complaint) = filter(Some("farrier=loud"));
        assert!(complaint.unwrap().contains("farrier=loud"));
        assert!(usual.would_enable("hyper", &Level::INFO) && !usual.would_enable("hyper", &Level::DEBUG));
    }
}
