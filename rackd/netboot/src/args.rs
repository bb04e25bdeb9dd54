//! Kernel arguments that cannot break out of the line they are written on.
//!
//! Ironic's CVE-2026-46447 class: an API user's "kernel parameter" with a line feed in it became a line of the
//! boot script. Here an argument that is not in the grammar does not exist.

use std::fmt;

/// The kernel's own limit on x86 is 2048 bytes with the NUL; we also append `initrd=`.
const MAX_LINE_BYTES: usize = 1900;
const MAX_KEY_BYTES: usize = 64;

/// A checked kernel command line: `key` or `key=value` tokens.
///
/// ```text
/// token = key [ "=" value ]
/// key   = 1*64( ALPHA / DIGIT / "_" / "." / "-" )
/// value = *( ALPHA / DIGIT / any of _ . , : ; / @ + = % ~ ? * ! [ ] - )
/// ```
/// White space, control characters, quotes, `$ { } # | & \ < >` and anything outside ASCII are refused: they mean
/// something to iPXE's script language or to the kernel's own splitter.
///
/// Values may be secrets (a per-boot token), so `Debug` shows only the keys.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KernelArgs(Vec<String>);

/// Why an argument is refused. The text never repeats the value, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelArgsError {
    /// No key, a key that is too long, or a character that keys do not have.
    #[error("kernel argument key is not made of 1 to 64 letters, digits, '_', '.' and '-'")]
    Key,
    /// A character outside the grammar.
    #[error("kernel argument {key} has a value with character {character:?}, which is not allowed")]
    Value {
        /// Which argument.
        key: String,
        /// The first character refused.
        character: char,
    },
    /// More than the kernel reads.
    #[error("kernel command line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
}

impl KernelArgs {
    /// No arguments.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a command line: tokens with single spaces between them.
    ///
    /// # Errors
    /// [`KernelArgsError`] for the first token outside the grammar.
    pub fn parse(line: &str) -> Result<Self, KernelArgsError> {
        let mut out = Self::new();
        for token in line.split(' ').filter(|t| !t.is_empty()) {
            match token.split_once('=') {
                Some((key, value)) => out.push(key, Some(value))?,
                None => out.push(token, None)?,
            }
        }
        Ok(out)
    }

    /// Appends one argument: `key=value`, or the flag `key`.
    ///
    /// # Errors
    /// [`KernelArgsError`] when key or value are outside the grammar or the line gets too long.
    pub fn push(&mut self, key: &str, value: Option<&str>) -> Result<(), KernelArgsError> {
        let key_byte = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if key.is_empty() || key.len() > MAX_KEY_BYTES || !key.bytes().all(key_byte) {
            return Err(KernelArgsError::Key);
        }
        let value_char = |c: char| c.is_ascii_alphanumeric() || "_.,:/@+=%~?*![]-;".contains(c);
        if let Some(character) = value.and_then(|v| v.chars().find(|c| !value_char(*c))) {
            return Err(KernelArgsError::Value { key: key.to_owned(), character });
        }
        let token = value.map_or_else(|| key.to_owned(), |v| format!("{key}={v}"));
        if self.0.iter().map(|t| t.len() + 1).sum::<usize>() + token.len() > MAX_LINE_BYTES {
            return Err(KernelArgsError::TooLong);
        }
        self.0.push(token);
        Ok(())
    }

    /// The tokens, for the boot script.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Debug for KernelArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|t| t.split('=').next().unwrap_or_default())).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_command_lines_are_read() {
        for line in [
            "console=ttyS0,115200n8 quiet farrier.token=aGVsbG8=+/ root=/dev/sda1",
            "ip=[2001:db8::1]:::64::eth0:off rd.neednet=1 url=http://10.0.0.1:8080/v1?x=y",
            "",
        ] {
            let args = KernelArgs::parse(line).unwrap();
            assert_eq!(args.tokens().collect::<Vec<_>>().join(" "), line);
        }
    }

    #[test]
    fn what_would_change_the_script_is_refused() {
        for line in [
            "a=b\nshell",
            "a=b\tc",
            "a=${net0/mac}",
            "a=\"b",
            "a=b||shell",
            "a=b&c",
            "a=b\\",
            "=b",
            "a b\u{a0}c",
            "é=1",
            "#",
            "a=\0",
        ] {
            assert!(KernelArgs::parse(line).is_err(), "{line:?}");
        }
        assert_eq!(KernelArgs::parse(&"a=b ".repeat(600)), Err(KernelArgsError::TooLong));
    }

    #[test]
    fn secrets_are_not_in_debug_output() {
        let args = KernelArgs::parse("farrier.token=s3cret quiet").unwrap();
        assert_eq!(format!("{args:?}"), r#"["farrier.token", "quiet"]"#);
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_stays_on_its_line(line in ".{0,200}|[ -~\n\t]{0,200}") {
            if let Ok(args) = KernelArgs::parse(&line) {
                for token in args.tokens() {
                    let harmless = |b: u8| b.is_ascii_graphic() && !b"${}#|&\\'\"<>`".contains(&b);
                    prop_assert!(token.bytes().all(harmless));
                }
            }
        }
    }
}
