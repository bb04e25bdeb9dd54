//! What a person is told, on stderr. Nobody may be there to read it, and the command goes on: a reader that has seen enough
//! (`2>&1 | head`) is no failure.

use std::fmt::Display;
use std::io::Write as _;

/// A line of it.
pub fn say(text: impl Display) {
    part(format_args!("{text}\n"));
}

/// What is no whole line, at once.
pub fn part(text: impl Display) {
    let mut stderr = std::io::stderr().lock();
    // There is nobody left who could be told.
    let _unread = write!(stderr, "{text}").and_then(|()| stderr.flush());
}
