//! DHCPv4: the fields of RFC 2131 §2, and options by the names of IANA's registry "BOOTP Vendor Extensions and DHCP Options".

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::{Form, plain, value};
use crate::dhcp::all_options;

/// A whole packet.
pub(super) fn text(bytes: &[u8]) -> String {
    let mut out = String::new();
    let Some((header, options)) = bytes.split_at_checked(HEADER) else { return out };
    let number = |at: std::ops::Range<usize>| super::number(header.get(at).unwrap_or_default()).unwrap_or(0);
    let _ = write!(out, "xid 0x{:08x}, secs {}", number(4..8), number(8..10));
    if number(10..12) & 0x8000 != 0 {
        out.push_str(", broadcast");
    }
    for (name, at) in [("ciaddr", 12), ("yiaddr", 16), ("siaddr", 20), ("giaddr", 24)] {
        let ip = header.get(at..).and_then(|bytes| bytes.first_chunk::<4>()).copied().map(Ipv4Addr::from);
        if let Some(ip) = ip.filter(|ip| !ip.is_unspecified()) {
            let _ = write!(out, ", {name} {ip}");
        }
    }
    // Both may have options in them (RFC 2132 §9.3); then they are no text.
    for (name, at) in [("sname", 44..108), ("file", 108..236)] {
        let field = header.get(at).unwrap_or_default();
        let field = field.split(|byte| *byte == 0).next().unwrap_or_default();
        if let Some(text) = plain(field) {
            let _ = write!(out, ", {name} \"{text}\"");
        }
    }
    for (code, bytes) in all_options(header, options) {
        let (name, form) = option(code);
        let _ = write!(out, ", {name} ({code}) ");
        match (code, &bytes[..]) {
            (53, [kind]) => out.push_str(message_type(*kind)),
            (82, info) => relay_agent(&mut out, info),
            (_, bytes) => value(&mut out, form, bytes),
        }
    }
    out
}

/// RFC 3046 §2.0: suboptions.
fn relay_agent(out: &mut String, mut info: &[u8]) {
    let mut first = true;
    while let [code, len, rest @ ..] = info {
        let Some((bytes, rest)) = rest.split_at_checked(usize::from(*len)) else { break };
        let found = RELAY_AGENT.iter().find(|(known, ..)| known == code);
        let (name, form) = found.map_or(("suboption", Form::Bytes), |(_, name, form)| (*name, *form));
        let _ = write!(out, "{}{name} ({code}) ", if first { "" } else { " " });
        value(out, form, bytes);
        (info, first) = (rest, false);
    }
    if !info.is_empty() {
        super::hex(out, info);
    }
}

fn option(code: u8) -> (&'static str, Form) {
    let found = OPTIONS.iter().find(|(known, ..)| *known == code);
    found.map_or(("option", Form::Bytes), |(_, name, form)| (*name, *form))
}

/// RFC 2132 §9.6.
fn message_type(kind: u8) -> &'static str {
    let names = [
        "DHCPDISCOVER",
        "DHCPOFFER",
        "DHCPREQUEST",
        "DHCPDECLINE",
        "DHCPACK",
        "DHCPNAK",
        "DHCPRELEASE",
        "DHCPINFORM",
    ];
    usize::from(kind).checked_sub(1).and_then(|at| names.get(at)).copied().unwrap_or("unknown")
}

/// Fixed fields and magic cookie.
const HEADER: usize = 240;

const RELAY_AGENT: &[(u8, &str, Form)] = &[
    (1, "circuit-id", Form::Text),
    (2, "remote-id", Form::Text),
    (5, "link-selection", Form::Addresses),
    (6, "subscriber-id", Form::Text),
    (11, "server-identifier-override", Form::Addresses),
    (12, "relay-agent-identifier", Form::Bytes),
];

const OPTIONS: &[(u8, &str, Form)] = &[
    (1, "subnet-mask", Form::Addresses),
    (2, "time-offset", Form::Number),
    (3, "router", Form::Addresses),
    (4, "time-server", Form::Addresses),
    (6, "domain-name-server", Form::Addresses),
    (7, "log-server", Form::Addresses),
    (12, "host-name", Form::Text),
    (13, "boot-file-size", Form::Number),
    (15, "domain-name", Form::Text),
    (17, "root-path", Form::Text),
    (26, "interface-mtu", Form::Number),
    (28, "broadcast-address", Form::Addresses),
    (42, "ntp-servers", Form::Addresses),
    (43, "vendor-specific", Form::Bytes),
    (50, "requested-address", Form::Addresses),
    (51, "lease-time", Form::Number),
    (52, "option-overload", Form::Number),
    (53, "message-type", Form::Number),
    (54, "server-identifier", Form::Addresses),
    (55, "parameter-request-list", Form::Codes),
    (56, "message", Form::Text),
    (57, "maximum-message-size", Form::Number),
    (58, "renewal-time", Form::Number),
    (59, "rebinding-time", Form::Number),
    (60, "class-identifier", Form::Text),
    (61, "client-identifier", Form::Bytes),
    (66, "tftp-server-name", Form::Text),
    (67, "bootfile-name", Form::Text),
    (77, "user-class", Form::Text),
    (80, "rapid-commit", Form::Flag),
    (81, "client-fqdn", Form::Bytes),
    (82, "relay-agent-information", Form::Bytes),
    (93, "client-architecture", Form::Words),
    (94, "client-network-interface", Form::Codes),
    (97, "client-machine-identifier", Form::Bytes),
    (116, "auto-configure", Form::Number),
    (118, "subnet-selection", Form::Addresses),
    (119, "domain-search", Form::Bytes),
    (121, "classless-static-route", Form::Bytes),
    (124, "vendor-identifying-class", Form::Bytes),
    (125, "vendor-identifying-specific", Form::Bytes),
    (150, "tftp-server-address", Form::Addresses),
    (175, "etherboot", Form::Bytes),
    (209, "configuration-file", Form::Text),
    (210, "path-prefix", Form::Text),
    (211, "reboot-time", Form::Number),
];

#[cfg(test)]
mod tests {
    use super::super::Packet;

    #[test]
    fn each_option_has_its_name_and_what_nobody_knows_its_number() {
        let mut packet = vec![1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, 0, 4, 0x80, 0];
        packet.resize(236, 0);
        packet[24..28].copy_from_slice(&[10, 79, 0, 1]);
        packet.extend([99, 130, 83, 99, 53, 1, 1, 55, 3, 1, 3, 67, 57, 2, 5, 220]);
        packet.extend(b"\x3c\x09PXEClient\x5d\x02\x00\x07\xe0\x02\xab\xcd\x52\x0a\x01\x02e0\x05\x04\x0a\x4f\x00\x00\xff");
        assert_eq!(
            Packet::Dhcp(packet.into()).text(),
            "xid 0x12345678, secs 4, broadcast, giaddr 10.79.0.1, message-type (53) DHCPDISCOVER, \
             parameter-request-list (55) 1 3 67, maximum-message-size (57) 1500, class-identifier (60) \"PXEClient\", \
             relay-agent-information (82) circuit-id (1) \"e0\" link-selection (5) 10.79.0.0, client-architecture (93) 7, \
             option (224) 0xabcd"
        );
    }
}
