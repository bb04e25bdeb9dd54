//! A bounded cursor: the only way this crate reads untrusted bytes.

use crate::ParseError;

/// Reads fields front to back; every read checks what is left first.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// `what` names the message in errors.
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], ParseError> {
        match self.rest.split_at_checked(count) {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(ParseError::Truncated { what: self.what, expected: count, seen: self.rest.len() }),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(*head)
            }
            None => Err(ParseError::Truncated { what: self.what, expected: N, seen: self.rest.len() }),
        }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, ParseError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16_le(&mut self) -> Result<u16, ParseError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32_le(&mut self) -> Result<u32, ParseError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u32_be(&mut self) -> Result<u32, ParseError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Reads one byte that must be `expected`; `words` says so in the error.
    pub(crate) fn expect(
        &mut self,
        field: &'static str,
        expected: u8,
        words: &'static str,
    ) -> Result<(), ParseError> {
        let seen = self.u8()?;
        if seen == expected { Ok(()) } else { Err(self.unexpected(field, words, u32::from(seen))) }
    }

    pub(crate) fn unexpected(&self, field: &'static str, expected: &'static str, seen: u32) -> ParseError {
        ParseError::Unexpected { what: self.what, field, expected, seen }
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Refuses bytes past the end of the message.
    pub(crate) fn end(self) -> Result<(), ParseError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(ParseError::Trailing { what: self.what, extra: self.rest.len() })
        }
    }
}
