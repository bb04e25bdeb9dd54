//! DHCPv6: messages of RFC 8415 §8 and §9, and options by the names of IANA's registry "DHCPv6 Option Codes".

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use super::{Form, value};

/// A whole message. Neither relays nor options in options make it call itself: what is inside is what is read next.
pub(super) fn text(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut message = Some(bytes);
    let mut depth = 0;
    while let Some(bytes) = message.take().filter(|_| depth < DEPTH) {
        depth += 1;
        let Some((kind, rest)) = bytes.split_first() else { return out };
        let options = if matches!(*kind, RELAY_FORW | RELAY_REPL) {
            let Some((head, options)) = rest.split_first_chunk::<33>() else { return out };
            let ip =
                |at: usize| head.get(at..).and_then(|b| b.first_chunk::<16>()).copied().map(Ipv6Addr::from);
            let hops = head.first().copied().unwrap_or_default();
            let (link, peer) =
                (ip(1).unwrap_or(Ipv6Addr::UNSPECIFIED), ip(17).unwrap_or(Ipv6Addr::UNSPECIFIED));
            let _ = write!(out, "{}, hop-count {hops}, link {link}, peer {peer}", message_type(*kind));
            options
        } else {
            let Some((xid, options)) = rest.split_first_chunk::<3>() else { return out };
            let [a, b, c] = xid;
            let _ = write!(out, "{}, xid 0x{a:02x}{b:02x}{c:02x}", message_type(*kind));
            options
        };
        for (code, bytes) in Options(options) {
            if code == RELAY_MSG {
                // Told last, as what it carries.
                message = Some(bytes);
                continue;
            }
            option(&mut out, code, bytes);
        }
        if message.is_some() {
            out.push_str(", relay-message (9): ");
        }
    }
    out
}

fn option(out: &mut String, code: u16, bytes: &[u8]) {
    let found = OPTIONS.iter().find(|(known, ..)| *known == code);
    let (name, form) = found.map_or(("option", Form::Bytes), |(_, name, form)| (*name, *form));
    let _ = write!(out, ", {name} ({code}) ");
    match code {
        IA_NA => {
            let Some((head, inside)) = bytes.split_first_chunk::<12>() else { return super::hex(out, bytes) };
            let number = |at| super::number(head.get(at..at + 4).unwrap_or_default()).unwrap_or(0);
            let _ = write!(out, "iaid {} t1 {} t2 {}", number(0), number(4), number(8));
            for (code, bytes) in Options(inside) {
                address(out, code, bytes);
            }
        }
        _ => value(out, form, bytes),
    }
}

/// What is in an identity association: addresses (RFC 8415 §21.6), or why there are none (§21.13).
fn address(out: &mut String, code: u16, bytes: &[u8]) {
    match (code, bytes.split_first_chunk::<16>()) {
        (IAADDR, Some((ip, rest))) => {
            let number = |at| super::number(rest.get(at..at + 4).unwrap_or_default()).unwrap_or(0);
            let ip = Ipv6Addr::from(*ip);
            let _ = write!(out, " address {ip} preferred {} valid {}", number(0), number(4));
        }
        _ => {
            let _ = write!(out, " option ({code}) ");
            super::hex(out, bytes);
        }
    }
}

/// Codes and values, up to what is none.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        let [a, b, c, d] = *head;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([c, d])))?;
        self.0 = rest;
        Some((u16::from_be_bytes([a, b]), value))
    }
}

/// RFC 8415 §7.3.
fn message_type(kind: u8) -> &'static str {
    let names = [
        "SOLICIT",
        "ADVERTISE",
        "REQUEST",
        "CONFIRM",
        "RENEW",
        "REBIND",
        "REPLY",
        "RELEASE",
        "DECLINE",
        "RECONFIGURE",
        "INFORMATION-REQUEST",
        "RELAY-FORW",
        "RELAY-REPL",
    ];
    usize::from(kind).checked_sub(1).and_then(|at| names.get(at)).copied().unwrap_or("unknown")
}

const RELAY_FORW: u8 = 12;
const RELAY_REPL: u8 = 13;
const IA_NA: u16 = 3;
const IAADDR: u16 = 5;
const RELAY_MSG: u16 = 9;
/// RFC 8415 §7.6: 8 relays, and the message.
const DEPTH: usize = 9;

const OPTIONS: &[(u16, &str, Form)] = &[
    (1, "client-identifier", Form::Bytes),
    (2, "server-identifier", Form::Bytes),
    (3, "ia-na", Form::Bytes),
    (4, "ia-ta", Form::Bytes),
    (6, "option-request", Form::Words),
    (7, "preference", Form::Number),
    (8, "elapsed-time", Form::Number),
    (12, "server-unicast", Form::Addresses6),
    (13, "status-code", Form::Bytes),
    (14, "rapid-commit", Form::Flag),
    (15, "user-class", Form::Bytes),
    (16, "vendor-class", Form::Bytes),
    (17, "vendor-specific", Form::Bytes),
    (18, "interface-id", Form::Text),
    (19, "reconfigure-message", Form::Number),
    (20, "reconfigure-accept", Form::Flag),
    (23, "dns-servers", Form::Addresses6),
    (24, "domain-search", Form::Bytes),
    (25, "ia-pd", Form::Bytes),
    (32, "information-refresh-time", Form::Number),
    (37, "remote-id", Form::Bytes),
    (39, "client-fqdn", Form::Bytes),
    (59, "bootfile-url", Form::Text),
    (60, "bootfile-parameters", Form::Bytes),
    (61, "client-architecture", Form::Words),
    (62, "client-network-interface", Form::Codes),
    (79, "client-link-layer-address", Form::Bytes),
    (82, "sol-max-rt", Form::Number),
    (83, "inf-max-rt", Form::Number),
];

#[cfg(test)]
mod tests {
    use super::super::Packet;

    #[test]
    fn a_relayed_solicit_is_told_with_its_relay_its_addresses_and_what_nobody_knows() {
        let mut solicit =
            vec![1, 0xab, 0xcd, 0xef, 0, 1, 0, 4, 0, 3, 0, 1, 0, 6, 0, 4, 0, 59, 0, 60, 0, 61, 0, 2, 0, 7];
        let ip: std::net::Ipv6Addr = "2001:db8::9".parse().unwrap();
        solicit.extend([0, 3, 0, 40, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 24]);
        solicit.extend(ip.octets());
        solicit.extend([0, 0, 0, 60, 0, 0, 0, 90, 1, 0, 0, 1, 5]);
        let len = u16::try_from(solicit.len()).unwrap().to_be_bytes();
        let link: std::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
        let relayed =
            [&[12, 1][..], &link.octets(), &[0; 16], &[0, 9], &len, &solicit, &[0, 18, 0, 2, b'e', b'0']];
        assert_eq!(
            Packet::dhcp6(&relayed.concat()).text(),
            "RELAY-FORW, hop-count 1, link 2001:db8::1, peer ::, interface-id (18) \"e0\", relay-message (9): \
             SOLICIT, xid 0xabcdef, client-identifier (1) 0x00030001, option-request (6) 59 60, client-architecture (61) 7, \
             ia-na (3) iaid 7 t1 0 t2 0 address 2001:db8::9 preferred 60 valid 90, option (256) 0x05"
        );
    }
}
