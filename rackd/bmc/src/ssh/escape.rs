//! Keystrokes as `ssh` takes them: behind a newline its escape character means something (ssh(1), ESCAPE CHARACTERS).

/// Ctrl-^: what people type least.
pub(super) const ESCAPE: u8 = 0x1E;
/// The same for `-o EscapeChar`.
pub(super) const ESCAPE_WORD: &str = "^^";

/// Where in a line the machine's reader is.
#[derive(Debug)]
pub(super) struct Escape {
    at_beginning: bool,
}

impl Default for Escape {
    fn default() -> Self {
        Self { at_beginning: true }
    }
}

impl Escape {
    /// The same characters, whatever they are.
    pub(super) fn chars(&mut self, chars: &[u8], out: &mut Vec<u8>) {
        for char in chars {
            if self.at_beginning && *char == ESCAPE {
                out.push(ESCAPE);
            }
            out.push(*char);
            self.at_beginning = matches!(*char, b'\r' | b'\n');
        }
    }

    /// A BREAK (RFC 4335), which `ssh` can be told to send at the beginning of a line alone: `false`, it cannot now. A
    /// newline in front would run what somebody has half typed.
    pub(super) fn send_break(&self, out: &mut Vec<u8>) -> bool {
        if self.at_beginning {
            out.extend([ESCAPE, b'B']);
        }
        self.at_beginning
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_character_that_is_typed_is_typed() {
        let typed = |pieces: &[&[u8]]| {
            let (mut escape, mut out) = (Escape::default(), Vec::new());
            for piece in pieces {
                escape.chars(piece, &mut out);
            }
            out
        };
        assert_eq!(typed(&[b"~.\r~B"]), b"~.\r~B", "what ssh means by default means nothing");
        assert_eq!(typed(&[b"\x1e."]), b"\x1e\x1e.");
        assert_eq!(typed(&[b"a\x1e\r", b"\x1eB\x1e"]), b"a\x1e\r\x1e\x1eB\x1e");
    }

    #[test]
    fn a_break_goes_out_at_the_beginning_of_a_line_only() {
        let (mut escape, mut out) = (Escape::default(), Vec::new());
        assert!(escape.send_break(&mut out) && escape.send_break(&mut out));
        escape.chars(b"h", &mut out);
        assert!(!escape.send_break(&mut out));
        escape.chars(b"\r", &mut out);
        assert!(escape.send_break(&mut out));
        assert_eq!(out, b"\x1eB\x1eBh\r\x1eB");
    }
}
