//! Chassis and port ids: a subtype, and what it says the rest is (§8.5.2, §8.5.3).

use std::fmt::Write as _;
use std::net::IpAddr;

/// Longest text that is kept: an id has at most 255 bytes (§8.5.2.3).
pub const MAX_TEXT_CHARS: usize = 255;

/// What the rest of an id is.
enum Kind {
    Mac,
    Address,
    Text,
}

/// §8.5.2.2: 4 is a MAC address, 5 a network address; the others are names.
pub(crate) fn chassis(value: &[u8]) -> Option<String> {
    render(value, |subtype| match subtype {
        4 => Kind::Mac,
        5 => Kind::Address,
        _ => Kind::Text,
    })
}

/// §8.5.3.2: 3 is a MAC address, 4 a network address; the others are names.
pub(crate) fn port(value: &[u8]) -> Option<String> {
    render(value, |subtype| match subtype {
        3 => Kind::Mac,
        4 => Kind::Address,
        _ => Kind::Text,
    })
}

/// What is not as its subtype says is shown as it is.
fn render(value: &[u8], kind: impl Fn(u8) -> Kind) -> Option<String> {
    let (subtype, id) = value.split_first().filter(|(_, id)| !id.is_empty())?;
    Some(match kind(*subtype) {
        Kind::Mac if id.len() == 6 => bytes(id, ":"),
        Kind::Address => network_address(id).map_or_else(|| bytes(id, ""), |ip| ip.to_string()),
        Kind::Mac | Kind::Text => named(id),
    })
}

/// Family by IANA's numbers, and the address.
pub(crate) fn network_address(value: &[u8]) -> Option<IpAddr> {
    match value.split_first()? {
        (1, ip) => Some(IpAddr::from(<[u8; 4]>::try_from(ip).ok()?)),
        (2, ip) => Some(IpAddr::from(<[u8; 16]>::try_from(ip).ok()?)),
        _ => None,
    }
}

/// A name that is no text (component ids may be anything) in hexadecimal digits.
fn named(id: &[u8]) -> String {
    match std::str::from_utf8(id) {
        Ok(name) if !name.trim_end_matches('\0').chars().any(char::is_control) => text(id),
        _ => bytes(id, ""),
    }
}

/// As a person may read it: trimmed, printable, bounded.
pub(crate) fn text(value: &[u8]) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = String::from_utf8_lossy(value).chars().map(printable).take(MAX_TEXT_CHARS).collect();
    text.trim().to_owned()
}

fn bytes(id: &[u8], between: &str) -> String {
    let mut out = String::new();
    for (index, byte) in id.iter().enumerate().take(MAX_TEXT_CHARS / 2) {
        if index > 0 {
            out.push_str(between);
        }
        // Writing into a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}
