//! Places where a process can be told to die or to wait: the proof that everything survives a crash stands on them.

/// Dies here, as by kill -9, when `FARRIER_CRASH_AT` is `point:when`: nothing is flushed, nothing is said. Waits here when
/// `FARRIER_HOLD_AT` is `point=DIR`, so that another process can be killed meanwhile. In debug builds only.
pub fn point(point: &str, when: &str) {
    #[cfg(debug_assertions)]
    {
        if std::env::var("FARRIER_CRASH_AT").is_ok_and(|at| at == format!("{point}:{when}")) {
            std::process::abort();
        }
        hold(point, when);
    }
    #[cfg(not(debug_assertions))]
    let _ = (point, when);
}

/// Before the point and when all of it is done: says so into the FIFO `DIR/here`, and goes on at a byte from `DIR/go`.
#[cfg(debug_assertions)]
fn hold(point: &str, when: &str) {
    use std::io::{Read as _, Write as _};
    let Ok(wanted) = std::env::var("FARRIER_HOLD_AT") else { return };
    let Some((at, dir)) = wanted.split_once('=') else { return };
    if at != point || !matches!(when, "before" | "done") {
        return;
    }
    let dir = std::path::Path::new(dir);
    let waited = tokio::task::block_in_place(|| {
        std::fs::OpenOptions::new().write(true).open(dir.join("here"))?.write_all(b".")?;
        std::fs::File::open(dir.join("go"))?.read_exact(&mut [0])
    });
    if let Err(error) = waited {
        tracing::error!(%error, point, when, "cannot wait here");
    }
}
