//! Logs.

use tracing_subscriber::EnvFilter;

/// Starts logging to standard error. `FARRIER_LOG` sets the filter (default `info`), `FARRIER_LOG_FORMAT=json`
/// the machine readable form.
pub fn start() {
    let filter = EnvFilter::try_from_env("FARRIER_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,sea_orm_migration=warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = std::env::var("FARRIER_LOG_FORMAT").is_ok_and(|v| v == "json");
    // A second start (tests in one process) keeps the first.
    let _ = if json { builder.json().try_init() } else { builder.with_ansi(false).try_init() };
}

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
