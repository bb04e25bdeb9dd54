//! What is typed, and what is meant for us: `~` at the beginning of a line, as ssh and ipmitool have it.

/// Shown by `~?`.
pub(super) const HELP: &str =
    "~. leaves, ~B sends a BREAK, ~S and a letter sends a magic SysRq, ~~ types a ~";

/// What a piece of typing means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Chars(Vec<u8>),
    Break,
    MagicSysRq(char),
    Leave,
    Help,
}

/// Where in a line the typing is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    LineBegin,
    Inside,
    /// After a `~` at the beginning of a line.
    Tilde,
    /// After `~S`.
    SysRq,
}

/// Reads typing, piece by piece.
#[derive(Debug, Default)]
pub(super) struct Keys {
    at: At,
}

impl Keys {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        let mut chars = Vec::new();
        for byte in bytes {
            let mut command = |key, chars: &mut Vec<u8>| {
                if !chars.is_empty() {
                    keys.push(Key::Chars(std::mem::take(chars)));
                }
                keys.push(key);
                At::LineBegin
            };
            self.at = match (self.at, byte) {
                (At::LineBegin, b'~') => At::Tilde,
                (At::Tilde, b'.') => command(Key::Leave, &mut chars),
                (At::Tilde, b'B') => command(Key::Break, &mut chars),
                (At::Tilde, b'?') => command(Key::Help, &mut chars),
                (At::Tilde, b'S') => At::SysRq,
                (At::Tilde, b'~') => {
                    chars.push(b'~');
                    At::Inside
                }
                // Not for us after all.
                (At::Tilde, other) => {
                    chars.extend([b'~', *other]);
                    after(*other)
                }
                (At::SysRq, key) if key.is_ascii_alphanumeric() => {
                    command(Key::MagicSysRq(char::from(*key)), &mut chars)
                }
                // Anything else calls it off.
                (At::SysRq, _) => At::LineBegin,
                (At::LineBegin | At::Inside, other) => {
                    chars.push(*other);
                    after(*other)
                }
            };
        }
        if !chars.is_empty() {
            keys.push(Key::Chars(chars));
        }
        keys
    }
}

fn after(byte: u8) -> At {
    if matches!(byte, b'\r' | b'\n') { At::LineBegin } else { At::Inside }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&str]) -> Vec<Key> {
        let mut keys = Keys::default();
        pieces.iter().flat_map(|piece| keys.push(piece.as_bytes())).collect()
    }

    fn chars(text: &str) -> Key {
        Key::Chars(text.as_bytes().to_vec())
    }

    #[test]
    fn a_tilde_is_ours_at_the_beginning_of_a_line_only() {
        assert_eq!(read(&["ls ~.\r", "~."]), [chars("ls ~.\r"), Key::Leave]);
        assert_eq!(read(&["~", "."]), [Key::Leave]);
        assert_eq!(read(&["a\r~Bb"]), [chars("a\r"), Key::Break, chars("b")]);
        assert_eq!(read(&["~~/x\r~/y"]), [chars("~/x\r~/y")]);
        assert_eq!(read(&["~?~B"]), [Key::Help, Key::Break]);
    }

    #[test]
    fn a_magic_sysrq_takes_a_letter_and_can_be_called_off() {
        assert_eq!(read(&["~S", "h"]), [Key::MagicSysRq('h')]);
        assert_eq!(read(&["~S\x1bb"]), [chars("b")]);
        assert_eq!(read(&["x~Sb"]), [chars("x~Sb")]);
    }
}
