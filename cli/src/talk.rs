//! What a person is told, on stderr. Nobody may be there to read it, and the command goes on: a reader that has seen enough
//! (`2>&1 | head`) is no failure.

use std::fmt::Display;
use std::io::Write as _;

/// A line of it.
pub fn say(text: impl Display) {
    // There is nobody left who could be told.
    let _unread = writeln!(std::io::stderr().lock(), "{text}");
}
