//! Datagrams: RFC 1350 §5, with the options of RFC 2347.

/// Longest request accepted, in bytes: RFC 2347 asks for 512, some firmware writes long paths.
pub const MAX_REQUEST_BYTES: usize = 1024;

/// More options than any client sends; a request with more is cut, not refused.
const MAX_OPTIONS: usize = 16;

const OP_RRQ: u16 = 1;
const OP_WRQ: u16 = 2;
const OP_DATA: u16 = 3;
const OP_ACK: u16 = 4;
const OP_ERROR: u16 = 5;
const OP_OACK: u16 = 6;

/// A datagram as a server sees it.
///
/// ```text
///  2 bytes   string   1   string  1   string 1 string 1
/// | opcode | file name | 0 | mode | 0 | option | 0 | value | 0 |  RRQ = 1, WRQ = 2
/// | opcode | block # |                                           ACK = 4
/// | opcode | code    | message | 0 |                             ERROR = 5
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Read request.
    Read(ReadRequest<'a>),
    /// Write request: this server has nothing to write to.
    Write,
    /// The client has every block up to this one.
    Ack {
        /// Block number, modulo 65536.
        block: u16,
    },
    /// The client gives up; nothing is sent back (RFC 1350 §7).
    Error {
        /// Error code as sent; unknown codes stay numbers.
        code: u16,
        /// What the client said, made printable.
        message: String,
    },
    /// DATA or OACK: only servers send those.
    ForClients,
}

/// What a client asks for in a read request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest<'a> {
    /// File name as sent, without the NUL. Bytes, since firmware does not always write text.
    pub filename: &'a [u8],
    /// Transfer mode as sent: `octet`, `netascii` or `mail`, in any case.
    pub mode: &'a [u8],
    /// Option names and values as sent (RFC 2347), at most 16.
    pub options: Vec<(&'a [u8], &'a [u8])>,
}

impl ReadRequest<'_> {
    /// Whether the mode is `octet`, the only one served. RFC 1350 §1: case does not matter.
    #[must_use]
    pub fn is_octet(&self) -> bool {
        self.mode.eq_ignore_ascii_case(b"octet")
    }

    /// The file name as a key for a table of served files: without leading slashes or back-slashes, and
    /// without the 0xFF that some option ROMs append. `None` when it is not printable ASCII.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let mut name = self.filename;
        while let [b'/' | b'\\', rest @ ..] = name {
            name = rest;
        }
        while let [rest @ .., 0xff] = name {
            name = rest;
        }
        let text = std::str::from_utf8(name).ok()?;
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')).then_some(text)
    }
}

/// Why a datagram is not TFTP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Shorter than the fields of its kind.
    #[error("expected a whole TFTP packet, saw {0} bytes")]
    Short(usize),
    /// Longer than any honest request.
    #[error("expected a request of 1024 bytes at most, saw {0}")]
    Long(usize),
    /// An operation that does not exist.
    #[error("expected an opcode from 1 to 6 (RFC 1350, RFC 2347), saw {0}")]
    Opcode(u16),
    /// A request without file name or mode.
    #[error("expected a file name and a mode, each with a zero at its end (RFC 1350 section 5)")]
    Request,
}

impl<'a> Packet<'a> {
    /// Reads one datagram.
    ///
    /// # Errors
    /// [`ParseError`] says what is wrong; the answer to a bad first packet is an ERROR with code 4.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (opcode, rest) = bytes.split_first_chunk::<2>().ok_or(ParseError::Short(bytes.len()))?;
        let number =
            || rest.first_chunk::<2>().map(|b| u16::from_be_bytes(*b)).ok_or(ParseError::Short(bytes.len()));
        match u16::from_be_bytes(*opcode) {
            OP_RRQ if bytes.len() > MAX_REQUEST_BYTES => Err(ParseError::Long(bytes.len())),
            OP_RRQ => request(rest).map(Packet::Read).ok_or(ParseError::Request),
            OP_WRQ => Ok(Packet::Write),
            OP_ACK => Ok(Packet::Ack { block: number()? }),
            OP_ERROR => {
                Ok(Packet::Error { code: number()?, message: printable(rest.get(2..).unwrap_or_default()) })
            }
            OP_DATA | OP_OACK => Ok(Packet::ForClients),
            other => Err(ParseError::Opcode(other)),
        }
    }
}

fn request(rest: &[u8]) -> Option<ReadRequest<'_>> {
    let mut fields = rest.split(|b| *b == 0);
    let filename = fields.next()?;
    let mode = fields.next()?;
    if filename.is_empty() || mode.is_empty() {
        return None;
    }
    let mut options = Vec::new();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        // The split leaves an empty field after the last NUL; padding looks the same.
        if name.is_empty() || options.len() == MAX_OPTIONS {
            break;
        }
        options.push((name, value));
    }
    Some(ReadRequest { filename, mode, options })
}

fn printable(bytes: &[u8]) -> String {
    let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
    text.iter()
        .take(128)
        .map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '?' })
        .collect()
}

/// RFC 1350 §5 and RFC 2347 error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// 0: see the message.
    NotDefined,
    /// 1: file not found.
    FileNotFound,
    /// 2: access violation; our answer to a write request.
    AccessViolation,
    /// 4: illegal TFTP operation; our answer to netascii, mail and nonsense.
    IllegalOperation,
    /// 5: unknown transfer id; for a stranger who writes to a transfer's port.
    UnknownTransferId,
}

impl ErrorCode {
    /// As on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::NotDefined => 0,
            Self::FileNotFound => 1,
            Self::AccessViolation => 2,
            Self::IllegalOperation => 4,
            Self::UnknownTransferId => 5,
        }
    }
}

/// What an error code says, in words; empty: no document has it.
#[must_use]
pub fn meaning(code: u16) -> &'static str {
    // RFC 1350, appendix; 8 is of RFC 2347.
    match code {
        0 => "not defined",
        1 => "file not found",
        2 => "access violation",
        3 => "disk full",
        4 => "illegal operation",
        5 => "unknown transfer id",
        6 => "file exists",
        7 => "no such user",
        8 => "options refused",
        _ => "",
    }
}

/// An ERROR datagram.
#[must_use]
pub fn error(code: ErrorCode, message: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + message.len());
    out.extend_from_slice(&OP_ERROR.to_be_bytes());
    out.extend_from_slice(&code.number().to_be_bytes());
    out.extend(message.bytes().filter(|b| *b != 0));
    out.push(0);
    out
}

/// The first four bytes of a DATA datagram; the file's bytes follow.
#[must_use]
pub fn data_header(block: u16) -> [u8; 4] {
    let [hi, lo] = block.to_be_bytes();
    let [op_hi, op_lo] = OP_DATA.to_be_bytes();
    [op_hi, op_lo, hi, lo]
}

/// An option acknowledgement (RFC 2347).
#[must_use]
pub fn oack(options: &[(&str, u64)]) -> Vec<u8> {
    let mut out = OP_OACK.to_be_bytes().to_vec();
    for (name, value) in options {
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.extend_from_slice(value.to_string().as_bytes());
        out.push(0);
    }
    out
}
