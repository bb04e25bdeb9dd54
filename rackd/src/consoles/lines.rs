//! A terminal's characters as lines of a log: no control characters, and a line where the cursor jumps to another.

use std::time::SystemTime;

/// Longer lines are cut in two.
const MAX_LINE: usize = 1024;

/// A line and when it began.
pub(super) type Line = (SystemTime, Vec<u8>);

/// Splits what comes.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    began: Option<SystemTime>,
    escape: Escape,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// ESC was seen.
    Begun,
    /// ESC [ : parameters until a letter (ECMA-48 section 5.4).
    Sequence,
}

impl Lines {
    /// Takes characters; the lines they end.
    pub(super) fn push(&mut self, now: SystemTime, chars: &[u8]) -> Vec<Line> {
        let mut ended = Vec::new();
        for char in chars {
            self.escape = match (self.escape, char) {
                (_, 0x1B) => Escape::Begun,
                (Escape::Begun, b'[') => Escape::Sequence,
                (Escape::Begun, _) => Escape::None,
                (Escape::Sequence, 0x40..=0x7E) => {
                    // Cursor position: firmware draws its screens so.
                    if matches!(char, b'H' | b'f') {
                        ended.extend(self.end());
                    }
                    Escape::None
                }
                (Escape::Sequence, _) => Escape::Sequence,
                (Escape::None, b'\n') => {
                    // An empty line is one too.
                    self.began.get_or_insert(now);
                    ended.extend(self.end());
                    Escape::None
                }
                (Escape::None, 0..=8 | 0x0B..=0x1F | 0x7F) => Escape::None,
                (Escape::None, char) => {
                    self.began.get_or_insert(now);
                    self.line.push(*char);
                    if self.line.len() >= MAX_LINE {
                        ended.extend(self.end());
                    }
                    Escape::None
                }
            };
        }
        ended
    }

    /// The line that has not ended, such as a prompt.
    pub(super) fn unfinished(&self) -> Option<Line> {
        self.began.map(|began| (began, self.line.clone()))
    }

    /// Ends it.
    pub(super) fn end(&mut self) -> Option<Line> {
        self.began.take().map(|began| (began, std::mem::take(&mut self.line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&str]) -> (Vec<String>, Option<String>) {
        let mut lines = Lines::default();
        let text = |(_, line): Line| String::from_utf8(line).unwrap();
        let ended = pieces.iter().flat_map(|piece| lines.push(SystemTime::now(), piece.as_bytes())).map(text);
        (ended.collect(), lines.unfinished().map(text))
    }

    #[test]
    fn lines_are_what_a_person_saw() {
        let (ended, unfinished) = lines(&["one\r\ntw", "o\r\n\r\n\x1b[1;31mred\x1b[0m\n", "login: "]);
        assert_eq!(ended, ["one", "two", "", "red"]);
        assert_eq!(unfinished.as_deref(), Some("login: "));
        // A firmware's screen; and an escape that is cut in two.
        let (ended, unfinished) = lines(&["\x1b[2J\x1b[01;01HBIOS\x1b[02", ";01HPress F2\x07\x08"]);
        assert_eq!((ended.as_slice(), unfinished.as_deref()), (&["BIOS".to_owned()][..], Some("Press F2")));
        let (ended, unfinished) = lines(&[&"x".repeat(3000)]);
        assert_eq!((ended.len(), unfinished.unwrap().len()), (2, 3000 - 2 * MAX_LINE));
    }
}
