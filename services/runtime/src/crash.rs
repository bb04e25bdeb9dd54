//! Places where a process can be told to die: the proof that everything survives a crash stands on them.

/// Dies here, as by kill -9, when `FARRIER_CRASH_AT` is `point:when`: nothing is flushed, nothing is said. In
/// debug builds only.
pub fn point(point: &str, when: &str) {
    #[cfg(debug_assertions)]
    if std::env::var("FARRIER_CRASH_AT").is_ok_and(|at| at == format!("{point}:{when}")) {
        std::process::abort();
    }
    #[cfg(not(debug_assertions))]
    let _ = (point, when);
}
