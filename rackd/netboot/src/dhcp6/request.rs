//! A client's packet, out of whatever relays have put it into: untrusted bytes in, the few facts that matter out.

use std::{fmt::Write as _, net::Ipv6Addr};

use dhcproto::v6::MessageType;

use crate::{BootTable, MacAddr, dhcp::Client};

/// What a client sent. Options that cannot be read are as good as absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request6 {
    /// SOLICIT and so on (RFC 8415 §7.3).
    pub kind: MessageType,
    /// Transaction id.
    pub xid: [u8; 3],
    /// Client's DUID (option 1), echoed.
    pub client_id: Option<Vec<u8>>,
    /// DUID of the server that is meant (option 2).
    pub server_id: Option<Vec<u8>>,
    /// Addresses asked for (option 3, IA_NA), at most 8.
    pub ias: Vec<Ia>,
    /// A SOLICIT that takes a REPLY for an answer (option 14).
    pub rapid_commit: bool,
    /// It asks for parameters of the boot file (option 60 in option 6, RFC 5970 §3.2).
    pub wants_parameters: bool,
    /// Client system architecture (option 61, RFC 5970 §3.3).
    pub architecture: Option<u16>,
    /// What kind of client asks (options 15 and 16).
    pub client: Client,
    /// Client's link-layer address as its relay saw it (option 79, RFC 6939).
    pub link_layer: Option<MacAddr>,
    /// Relay agents that it came through, the last one first.
    pub relays: Vec<Hop>,
}

/// An identity association: a name that the client gave to an address it wants, and the ones it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ia {
    /// IAID.
    pub id: u32,
    /// At most 8.
    pub addresses: Vec<Ipv6Addr>,
}

/// One relay agent, as it is to be answered (RFC 8415 §19.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Relays before it.
    pub hop_count: u8,
    /// An address of the link the client is on; unspecified where the interface id says it.
    pub link: Ipv6Addr,
    /// Whom it had the message from.
    pub peer: Ipv6Addr,
    /// Interface id (option 18), echoed.
    pub interface_id: Option<Vec<u8>>,
}

/// Why a packet is not a request we can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Request6Error {
    /// Shorter than the fixed fields.
    #[error("expected a DHCPv6 message of 4 bytes or more, or 34 from a relay (RFC 8415 section 8, 9)")]
    Short,
    /// Something that only servers send, or nobody.
    #[error("expected a message type that clients and relays send (RFC 8415 section 7.3)")]
    Type,
    /// A relay's message with nothing in it.
    #[error("expected a relayed message in option 9 (RFC 8415 section 21.10)")]
    NothingRelayed,
    /// A loop, or somebody who plays one.
    #[error("expected 8 relays at most (RFC 8415 section 7.6)")]
    Relays,
}

impl Request6 {
    /// Reads a packet.
    ///
    /// # Errors
    /// [`Request6Error`]; such packets are dropped.
    pub fn parse(mut bytes: &[u8]) -> Result<Self, Request6Error> {
        let (mut relays, mut link_layer) = (Vec::new(), None);
        // No recursion, neither here nor in options: dhcproto's decoder has both.
        while let [RELAY_FORW, hop_count, rest @ ..] = bytes {
            let (link, rest) = rest.split_first_chunk::<16>().ok_or(Request6Error::Short)?;
            let (peer, rest) = rest.split_first_chunk::<16>().ok_or(Request6Error::Short)?;
            if relays.len() >= RELAYS {
                return Err(Request6Error::Relays);
            }
            let (mut relayed, mut interface_id) = (None, None);
            for (code, value) in Options(rest) {
                match code {
                    RELAY_MSG => relayed = Some(value),
                    INTERFACE_ID => interface_id = Some(value.to_vec()),
                    // The relay nearest to the client knows it, and is read last.
                    CLIENT_LINKLAYER_ADDR => link_layer = ethernet(value).or(link_layer),
                    _ => {}
                }
            }
            relays.push(Hop {
                hop_count: *hop_count,
                link: (*link).into(),
                peer: (*peer).into(),
                interface_id,
            });
            bytes = relayed.ok_or(Request6Error::NothingRelayed)?;
        }
        let [kind, a, b, c, options @ ..] = bytes else { return Err(Request6Error::Short) };
        let kind = MessageType::from(*kind);
        if !FROM_CLIENTS.contains(&kind) {
            return Err(Request6Error::Type);
        }
        let mut this = Self {
            kind,
            xid: [*a, *b, *c],
            client_id: None,
            server_id: None,
            ias: Vec::new(),
            rapid_commit: false,
            wants_parameters: false,
            architecture: None,
            client: Client::Other,
            link_layer,
            relays,
        };
        let has = |value: &[u8], word: &[u8]| value.windows(word.len()).any(|w| w == word);
        for (code, value) in Options(options) {
            match code {
                // RFC 8415 §11.1: a DUID has a type and 128 octets at most.
                CLIENT_ID if (3..=130).contains(&value.len()) => this.client_id = Some(value.to_vec()),
                SERVER_ID => this.server_id = Some(value.to_vec()),
                IA_NA if this.ias.len() < MANY => this.ias.extend(ia(value)),
                RAPID_COMMIT => this.rapid_commit = true,
                ORO => {
                    let mut wanted = value.chunks_exact(2);
                    this.wants_parameters |= wanted.any(|code| code == BOOTFILE_PARAMETERS.to_be_bytes());
                }
                ARCHITECTURE => this.architecture = value.first_chunk().map(|b| u16::from_be_bytes(*b)),
                USER_CLASS if has(value, b"iPXE") => this.client = Client::Ipxe,
                VENDOR_CLASS if this.client == Client::Other && has(value, b"PXEClient") => {
                    this.client = Client::Pxe;
                }
                VENDOR_CLASS if this.client == Client::Other && has(value, b"HTTPClient") => {
                    this.client = Client::Http;
                }
                _ => {}
            }
        }
        Ok(this)
    }

    /// The Ethernet addresses that the port that asks may have, the surest first: as its relay saw it; as its link-local address
    /// is made of it (RFC 4291 appendix A). `source` is where the packet came from.
    #[must_use]
    pub fn port_macs(&self, source: Ipv6Addr) -> Vec<MacAddr> {
        let client = self.relays.last().map_or(source, |hop| hop.peer);
        let mut macs: Vec<_> = [self.link_layer, in_link_local(client)].into_iter().flatten().collect();
        macs.dedup();
        macs
    }

    /// Those, and the one that its DUID has (RFC 8415 §11.2, §11.4), which may be that of another of the machine's ports.
    #[must_use]
    pub fn macs(&self, source: Ipv6Addr) -> Vec<MacAddr> {
        let duid = self.client_id.as_deref().and_then(|duid| match duid {
            [0, 1, 0, 1, _, _, _, _, mac @ ..] | [0, 3, 0, 1, mac @ ..] => unicast(mac),
            _ => None,
        });
        let mut macs = self.port_macs(source);
        macs.extend(duid.filter(|mac| !macs.contains(mac)));
        macs
    }

    /// An address on the client's link, as the nearest relay that knows one names it. Relays on a switch in between have
    /// none (RFC 6221 §5.1).
    #[must_use]
    pub fn link(&self) -> Option<Ipv6Addr> {
        let names = |link: &Ipv6Addr| !link.is_unspecified() && !link.is_unicast_link_local();
        self.relays.iter().rev().map(|hop| hop.link).find(names)
    }

    /// The facts of a packet in a line for people. All of it comes from numbers, so it is safe to print.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut out = self.client.words().to_owned();
        if let Some(architecture) = self.architecture {
            let _ = write!(out, ", architecture {architecture}");
        }
        for address in self.ias.iter().flat_map(|ia| &ia.addresses).take(3) {
            let _ = write!(out, ", has or wants {address}");
        }
        if let Some(hop) = self.relays.last() {
            let _ = write!(out, ", through a relay on the link of {}", hop.link);
        }
        if let Some(duid) = &self.client_id {
            out.push_str(", duid ");
            for byte in duid.iter().take(20) {
                let _ = write!(out, "{byte:02x}");
            }
        }
        out
    }
}

/// Whose a packet is that cannot be read, as in DHCPv4: a machine's of the table, by the address it was sent from, or by the one
/// that its relay had it from (RFC 8415 section 9: type, hops, link and peer address).
pub(super) fn sender(bytes: &[u8], source: Ipv6Addr, table: &BootTable) -> (Option<MacAddr>, Option<String>) {
    let client = match bytes {
        [RELAY_FORW, ..] => bytes.get(18..34).and_then(|b| <[u8; 16]>::try_from(b).ok()).map(Ipv6Addr::from),
        _ => Some(source),
    };
    let given = |ip: Ipv6Addr| table.entry_by_ip(table.ipv4_of(ip.into())?).map(|entry| entry.mac);
    let mac = client.and_then(|ip| in_link_local(ip).or_else(|| given(ip)));
    let node = mac.and_then(|mac| table.entries_of(mac).first().map(|entry| entry.node.clone()));
    (mac.filter(|_| node.is_some()), node)
}

fn ia(value: &[u8]) -> Option<Ia> {
    let (id, rest) = value.split_first_chunk::<4>()?;
    let options = Options(rest.get(8..)?); // after T1 and T2, which are the server's to choose
    let address = |(code, value): (u16, &[u8])| {
        value.first_chunk::<16>().filter(|_| code == IA_ADDR).map(|b| Ipv6Addr::from(*b))
    };
    Some(Ia { id: u32::from_be_bytes(*id), addresses: options.filter_map(address).take(MANY).collect() })
}

/// A hardware type of 1 (Ethernet) and its address.
fn ethernet(value: &[u8]) -> Option<MacAddr> {
    match value {
        [0, 1, mac @ ..] => unicast(mac),
        _ => None,
    }
}

fn unicast(mac: &[u8]) -> Option<MacAddr> {
    let mac = MacAddr(mac.try_into().ok()?);
    (mac.0.first()? & 1 == 0 && mac != MacAddr([0; 6])).then_some(mac)
}

fn in_link_local(ip: Ipv6Addr) -> Option<MacAddr> {
    match ip.octets() {
        [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a, b, c, 0xff, 0xfe, d, e, f] => unicast(&[a ^ 2, b, c, d, e, f]),
        _ => None,
    }
}

/// Options in order (RFC 8415 §21.1): code and length of two octets each. Ends where the packet does.
pub(super) struct Options<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [a, b, c, d, rest @ ..] = self.0 else { return None };
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes([*c, *d]).into())?;
        self.0 = rest;
        Some((u16::from_be_bytes([*a, *b]), value))
    }
}

const FROM_CLIENTS: [MessageType; 8] = [
    MessageType::Solicit,
    MessageType::Request,
    MessageType::Confirm,
    MessageType::Renew,
    MessageType::Rebind,
    MessageType::Release,
    MessageType::Decline,
    MessageType::InformationRequest,
];
/// RFC 8415 §7.6, HOP_COUNT_LIMIT.
const RELAYS: usize = 8;
/// Identity associations of a message, and addresses of one. Firmware has one of each.
const MANY: usize = 8;

const RELAY_FORW: u8 = 12;
const CLIENT_ID: u16 = 1;
const SERVER_ID: u16 = 2;
const IA_NA: u16 = 3;
const IA_ADDR: u16 = 5;
const ORO: u16 = 6;
const RELAY_MSG: u16 = 9;
const RAPID_COMMIT: u16 = 14;
const USER_CLASS: u16 = 15;
const VENDOR_CLASS: u16 = 16;
const INTERFACE_ID: u16 = 18;
const BOOTFILE_PARAMETERS: u16 = 60;
const ARCHITECTURE: u16 = 61;
const CLIENT_LINKLAYER_ADDR: u16 = 79;
