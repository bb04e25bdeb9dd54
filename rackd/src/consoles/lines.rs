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
        self.began.map(|began| (began, without_tokens(self.line.clone())))
    }

    /// Ends it.
    pub(super) fn end(&mut self) -> Option<Line> {
        self.began.take().map(|began| (began, without_tokens(std::mem::take(&mut self.line))))
    }
}

/// A kernel says its command line, and in ours is a ramdisk's one-time token: that is nobody's to read.
fn without_tokens(mut line: Vec<u8>) -> Vec<u8> {
    let mut from = 0;
    while let Some(at) = line.get(from..).and_then(|rest| rest.windows(TOKEN.len()).position(|w| w == TOKEN))
    {
        let begin = from + at + TOKEN.len();
        let length = line
            .get(begin..)
            .map_or(0, |rest| rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len()));
        line.splice(begin..begin + length, HIDDEN.iter().copied());
        from = begin + HIDDEN.len();
    }
    line
}

/// The kernel argument that has it (`rackd/src/boot.rs`).
const TOKEN: &[u8] = b"farrier.token=";
const HIDDEN: &[u8] = b"(hidden)";

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
    fn a_boots_token_is_not_in_the_log() {
        let (ended, unfinished) = lines(&[
            "Command line: quiet farrier.token=s3cr3t console=ttyS0\n",
            "farrier.token=s3cr3t\n",
            "again farrier.token=s3c",
        ]);
        assert_eq!(
            ended,
            ["Command line: quiet farrier.token=(hidden) console=ttyS0", "farrier.token=(hidden)"]
        );
        assert_eq!(unfinished.as_deref(), Some("again farrier.token=(hidden)"));
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
