//! Why untrusted bytes were not understood.

/// A datagram, or a message in one, that does not have the shape the specification gives it.
///
/// The values are part of the error because a person with a packet capture will read it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The bytes ended inside a field.
    #[error("{what}: truncated, expected {expected} more bytes, seen {seen}")]
    Truncated {
        /// The message being read.
        what: &'static str,
        /// Bytes the next field needs.
        expected: usize,
        /// Bytes that were left.
        seen: usize,
    },
    /// A field holds a value that is not allowed here.
    #[error("{what}: {field} expected {expected}, seen {seen:#04x}")]
    Unexpected {
        /// The message being read.
        what: &'static str,
        /// The field, in the specification's words.
        field: &'static str,
        /// What would have been accepted.
        expected: &'static str,
        /// What was there.
        seen: u32,
    },
    /// A two's complement checksum is wrong (§13.8).
    #[error("{what}: checksum expected {expected:#04x}, seen {seen:#04x}")]
    Checksum {
        /// The message being read.
        what: &'static str,
        /// The sum over the bytes received.
        expected: u8,
        /// The sum in the message.
        seen: u8,
    },
    /// Bytes are left where the message should have ended.
    #[error("{what}: expected the end of the message, seen {extra} bytes more")]
    Trailing {
        /// The message being read.
        what: &'static str,
        /// Bytes left over.
        extra: usize,
    },
}
