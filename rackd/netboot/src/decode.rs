//! A packet in words: every field and option by its name and value, for people who ask why a machine does not boot.
//!
//! What is read here was untrusted, and decides nothing: text is printed where it is plain, all else in hex, and no packet makes
//! more than [`MOST`] bytes of it.

mod dhcp;
mod dhcp6;

use std::fmt::Write as _;
use std::sync::{Arc, Weak};

/// A packet as it was read or sent.
#[derive(Debug)]
pub(crate) enum Packet {
    /// DHCPv4, the UDP payload.
    Dhcp(Arc<[u8]>),
    /// DHCPv6, the UDP payload.
    Dhcp6(Arc<[u8]>),
}

impl Packet {
    pub(crate) fn dhcp(bytes: Arc<[u8]>) -> Arc<Self> {
        Arc::new(Self::Dhcp(bytes))
    }

    pub(crate) fn dhcp6(bytes: &[u8]) -> Arc<Self> {
        Arc::new(Self::Dhcp6(bytes.into()))
    }

    /// Bytes in memory, about.
    pub(crate) fn size(&self) -> usize {
        let (Self::Dhcp(bytes) | Self::Dhcp6(bytes)) = self;
        bytes.len() + 64
    }

    fn text(&self) -> String {
        let mut out = match self {
            Self::Dhcp(bytes) => dhcp::text(bytes),
            Self::Dhcp6(bytes) => dhcp6::text(bytes),
        };
        if out.len() > MOST {
            // All of it is ASCII.
            out.truncate(MOST);
            out.push_str(" and more");
        }
        out
    }
}

/// A DHCPv4 packet in words, as a boot trace has it: printable, and no longer than a line may be.
#[must_use]
pub fn dhcp_in_words(bytes: &[u8]) -> String {
    Packet::Dhcp(bytes.into()).text()
}

/// The same of a DHCPv6 message, relayed or not.
#[must_use]
pub fn dhcp6_in_words(bytes: &[u8]) -> String {
    Packet::Dhcp6(bytes.into()).text()
}

/// The packet that an event is about, as long as it is kept: the last some thousand are, of nodes and of strangers.
#[derive(Debug, Clone, Default)]
pub struct PacketOf(Weak<Packet>);

impl PacketOf {
    pub(crate) fn new(packet: &Arc<Packet>) -> Self {
        Self(Arc::downgrade(packet))
    }

    /// In words, if there is one.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        self.0.upgrade().map(|packet| packet.text())
    }
}

/// How an option's value is read.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// Nothing in it.
    Flag,
    /// An unsigned number of 1, 2, 4 or 8 bytes.
    Number,
    /// IPv4 addresses.
    Addresses,
    /// IPv6 addresses.
    Addresses6,
    /// Characters.
    Text,
    /// Numbers of one byte each.
    Codes,
    /// Numbers of two bytes each.
    Words,
    /// Anything else.
    Bytes,
}

/// A value by its form; one that does not have it, in hex.
fn value(out: &mut String, form: Form, bytes: &[u8]) {
    let written = match form {
        Form::Flag => bytes.is_empty().then(String::new),
        Form::Number => number(bytes).map(|n| n.to_string()),
        Form::Addresses => list::<4>(bytes, |ip| std::net::Ipv4Addr::from(*ip).to_string()),
        Form::Addresses6 => list::<16>(bytes, |ip| std::net::Ipv6Addr::from(*ip).to_string()),
        Form::Text => plain(bytes).map(|text| format!("\"{text}\"")),
        Form::Codes => list::<1>(bytes, |[code]| code.to_string()),
        Form::Words => list::<2>(bytes, |word| u16::from_be_bytes(*word).to_string()),
        Form::Bytes => None,
    };
    match written {
        Some(text) => out.push_str(&text),
        None => hex(out, bytes),
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    let fits = matches!(bytes.len(), 1 | 2 | 4 | 8);
    fits.then(|| bytes.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
}

fn list<const N: usize>(bytes: &[u8], one: impl Fn(&[u8; N]) -> String) -> Option<String> {
    let (all, []) = bytes.as_chunks::<N>() else { return None };
    (!all.is_empty()).then(|| all.iter().map(one).collect::<Vec<_>>().join(" "))
}

/// Text of visible characters and blanks, perhaps with the NUL that C strings have.
fn plain(bytes: &[u8]) -> Option<&str> {
    let text = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    let good = |byte: &u8| matches!(byte, 0x20..=0x7e) && *byte != b'"' && *byte != b'\\';
    std::str::from_utf8(text).ok().filter(|text| !text.is_empty() && text.bytes().all(|b| good(&b)))
}

fn hex(out: &mut String, bytes: &[u8]) {
    out.push_str("0x");
    for byte in bytes.iter().take(LONG) {
        let _ = write!(out, "{byte:02x}");
    }
    if bytes.len() > LONG {
        let _ = write!(out, "... of {} bytes", bytes.len());
    }
}

/// Of a value in hex so many bytes are shown: the longest DUID has 130.
const LONG: usize = 136;
/// More than any packet of a firmware makes.
const MOST: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(form: Form, bytes: &[u8]) -> String {
        let mut out = String::new();
        value(&mut out, form, bytes);
        out
    }

    #[test]
    fn what_has_not_the_form_of_its_option_is_in_hex() {
        assert_eq!(shown(Form::Addresses, &[10, 0, 0, 1, 10, 0, 0, 2]), "10.0.0.1 10.0.0.2");
        assert_eq!(shown(Form::Addresses, &[10, 0, 0]), "0x0a0000");
        assert_eq!(shown(Form::Number, &[0, 0, 0x0e, 0x10]), "3600");
        assert_eq!(shown(Form::Number, &[1, 2, 3]), "0x010203");
        assert_eq!(shown(Form::Text, b"web-1\0"), "\"web-1\"");
        for odd in [&b"a\nb"[..], b"a\x1b[2J", b"\"", b"", b"\xc3\xa4"] {
            assert!(shown(Form::Text, odd).starts_with("0x"), "{odd:?}");
        }
        assert_eq!(shown(Form::Words, &[0, 7, 0, 16]), "7 16");
        assert_eq!(shown(Form::Codes, &[1, 3, 67]), "1 3 67");
        assert!(shown(Form::Bytes, &[7; 200]).ends_with("... of 200 bytes"));
    }

    #[test]
    fn no_packet_makes_more_words_than_there_is_room_for_and_none_is_not_read() {
        let mut bomb = vec![1, 1, 6, 0];
        bomb.resize(236, 0);
        bomb.extend([99, 130, 83, 99]);
        for code in 1..=200 {
            bomb.extend([code, 5, 1, 2, 3, 4, 5]);
        }
        let text = Packet::Dhcp(bomb.clone().into()).text();
        assert!(text.len() <= MOST + 9 && text.ends_with(" and more"), "{}", text.len());
        // A relay in a relay, and so on.
        let mut nested = vec![1, 0, 0, 1];
        for _ in 0..60 {
            let len = u16::try_from(nested.len()).unwrap().to_be_bytes();
            nested = [&[12, 0][..], &[0; 32], &[0, 9], &len, &nested].concat();
        }
        assert!(Packet::dhcp6(&nested).text().len() <= MOST + 9);
        for bytes in [&bomb[..], &nested] {
            for len in (0..bytes.len()).step_by(7) {
                let (v4, v6) = (Packet::dhcp(bytes[..len].into()), Packet::dhcp6(&bytes[..len]));
                assert!(v4.text().is_ascii() && v6.text().is_ascii());
            }
        }
        assert_eq!(PacketOf::default().text(), None);
    }
}
