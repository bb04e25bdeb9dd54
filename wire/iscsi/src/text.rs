//! `key=value` pairs of login and text PDUs (RFC 7143 section 6.1 and 6.2), bounded.

/// The pairs of one request, in their order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Pairs(pub Vec<(String, String)>);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TextError {
    #[error("{0} bytes of text, {MAX_TEXT} are allowed")]
    TooLong(usize),
    #[error("more than {MAX_PAIRS} keys")]
    TooMany,
    #[error("text is not UTF-8")]
    NotUtf8,
    #[error("a pair has no equals sign")]
    NoEquals,
    #[error("not a key name of at most {MAX_KEY} characters")]
    BadKey,
    #[error("value of {0} is too long")]
    BadValue(String),
    #[error("key {0} comes twice")]
    Twice(String),
}

impl Pairs {
    /// Reads a whole data segment. Each key may come once (RFC 7143 section 6.2: a negotiation may not be
    /// renewed in one sequence).
    pub fn parse(bytes: &[u8]) -> Result<Pairs, TextError> {
        if bytes.len() > MAX_TEXT {
            return Err(TextError::TooLong(bytes.len()));
        }
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in bytes.split(|byte| *byte == 0).filter(|pair| !pair.is_empty()) {
            let pair = std::str::from_utf8(pair).map_err(|_| TextError::NotUtf8)?;
            let (key, value) = pair.split_once('=').ok_or(TextError::NoEquals)?;
            let named = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+@_/".contains(&byte));
            if key.is_empty() || key.len() > MAX_KEY || !named {
                return Err(TextError::BadKey);
            }
            if value.len() > MAX_VALUE {
                return Err(TextError::BadValue(key.to_owned()));
            }
            if pairs.iter().any(|(known, _)| known == key) {
                return Err(TextError::Twice(key.to_owned()));
            }
            if pairs.len() == MAX_PAIRS {
                return Err(TextError::TooMany);
            }
            pairs.push((key.to_owned(), value.to_owned()));
        }
        Ok(Pairs(pairs))
    }

    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    pub fn push(&mut self, key: &str, value: impl Into<String>) {
        self.0.push((key.to_owned(), value.into()));
    }

    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (key, value) in &self.0 {
            bytes.extend_from_slice(key.as_bytes());
            bytes.push(b'=');
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0);
        }
        bytes
    }
}

/// A number as text: decimal, or hexadecimal after `0x` (RFC 7143 section 6.1).
pub(crate) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if !hex.is_empty() && hex.len() <= 16 => u64::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

/// A binary value: `0x` hexadecimal or `0b` base64 (RFC 7143 section 6.1), of at most `max` bytes.
pub(crate) fn binary(text: &str, max: usize) -> Option<Vec<u8>> {
    if text.len() > max.checked_mul(2)?.checked_add(8)? {
        return None;
    }
    let decoded = match text.get(..2) {
        Some("0x" | "0X") => from_hex(text.get(2..)?)?,
        Some("0b" | "0B") => from_base64(text.get(2..)?)?,
        _ => return None,
    };
    (decoded.len() <= max && !decoded.is_empty()).then_some(decoded)
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("0x");
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let mut digits = digits?;
    // An odd number of digits has a zero in front that was left out.
    if digits.len() % 2 == 1 {
        digits.insert(0, 0);
    }
    Some(digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |value, digit| value << 4 | digit)).collect())
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0u32, 0u32);
    for symbol in text.trim_end_matches('=').bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    Some(bytes)
}

/// Text a peer may send in one sequence, over continuations: twice what a login PDU may carry.
pub const MAX_TEXT: usize = 16 * 1024;
/// More than twice the keys there are.
pub const MAX_PAIRS: usize = 64;
/// RFC 7143 section 6.1: a key-name is at most 63 bytes.
const MAX_KEY: usize = 63;
/// The longest legal value is a CHAP challenge of 1024 bytes in hexadecimal.
const MAX_VALUE: usize = 2 * 1024 + 2;
