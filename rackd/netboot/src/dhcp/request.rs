//! A client's packet: untrusted bytes in, the few facts that matter out.

use std::{
    borrow::Cow,
    collections::{BTreeMap, btree_map::Entry},
    fmt::Write as _,
    net::Ipv4Addr,
    sync::Arc,
};

use dhcproto::{
    Decodable, Decoder,
    v4::{HType, Message, MessageType, Opcode},
};

use super::{bmc, infiniband};
use crate::{BootTable, MacAddr, Segment};

/// Fixed fields and magic cookie, in bytes (RFC 2131 §2).
pub(super) const HEADER: usize = 240;
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
/// Option overload (RFC 2132 §9.3).
const OVERLOAD: u8 = 52;
/// What every host takes (RFC 791 §3.1), and what Ethernet carries; headers of IP and UDP are within.
const SMALLEST_DATAGRAM: u16 = 576;
const ETHERNET_MTU: u16 = 1500;
const HEADERS: u16 = 28;
pub(super) const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// What a client sent. Options that cannot be read are as good as absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// DHCPDISCOVER and so on (option 53).
    pub kind: MessageType,
    /// Transaction id.
    pub xid: u32,
    /// The flags field, to be echoed; bit 15 asks for a broadcast answer.
    pub broadcast: bool,
    /// `ciaddr`: the address the client uses now.
    pub ciaddr: Ipv4Addr,
    /// `giaddr`: the relay agent the packet came through.
    pub giaddr: Ipv4Addr,
    /// `chaddr`; over InfiniBand the port's, by its client identifier.
    pub mac: MacAddr,
    /// It asks over InfiniBand (RFC 4390).
    pub infiniband: bool,
    /// Its address is in `chaddr`, where InfiniBand's does not fit; some firmware has one that does.
    pub has_chaddr: bool,
    /// Requested address (option 50).
    pub requested_ip: Option<Ipv4Addr>,
    /// Server the client chose (option 54).
    pub server_id: Option<Ipv4Addr>,
    /// Relay agent information (option 82), to be echoed byte for byte (RFC 3046 §2.2).
    pub relay_info: Option<Vec<u8>>,
    /// Where the client is, when it is not where the relay's address is: link selection (option 82.5, RFC 3527), or the
    /// subnet selection option (118, RFC 3011). Read of what a relay brings alone.
    pub link: Option<Ipv4Addr>,
    /// Option 118, to be echoed (RFC 3011 §3).
    pub subnet_selection: Option<Ipv4Addr>,
    /// The address that the relay wants named as the server's (option 82.11, RFC 5107), so that renewals come to it.
    pub server_id_override: Option<Ipv4Addr>,
    /// Client machine identifier (option 97): a type octet and a GUID.
    pub machine_id: Option<Vec<u8>>,
    /// Client identifier (option 61), echoed in answers (RFC 6842).
    pub client_id: Option<Vec<u8>>,
    /// The largest IP datagram that the client takes (option 57).
    pub largest: Option<u16>,
    /// Client system architecture (option 93, RFC 4578 §2.1), or the one spelt out in option 60.
    pub architecture: Option<u16>,
    /// What kind of client asks.
    pub client: Client,
    /// Whose BMC it calls itself, by its vendor class (option 60) or host name (option 12).
    pub bmc: Option<&'static str>,
    /// As it came, for who asks what was in it.
    pub packet: Arc<[u8]>,
}

/// Kinds of clients, as far as boot files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// iPXE: user class `iPXE` (option 77) or its own option 175.
    Ipxe,
    /// PXE firmware: vendor class `PXEClient` (option 60).
    Pxe,
    /// UEFI HTTP boot: vendor class `HTTPClient`.
    Http,
    /// An operating system.
    Other,
}

impl Client {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Ipxe => "ipxe",
            Self::Pxe => "pxe firmware",
            Self::Http => "http boot firmware",
            Self::Other => "operating system",
        }
    }
}

/// Why a packet is not a request we can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Shorter than the fixed fields, or without magic cookie: BOOTP at best.
    #[error("expected a DHCP packet of 240 bytes or more with the cookie 63 82 53 63 (RFC 2131 section 3)")]
    NotDhcp,
    /// A packet from a server.
    #[error("expected op 1, BOOTREQUEST (RFC 2131 section 2)")]
    NotRequest,
    /// Neither Ethernet nor InfiniBand.
    #[error(
        "expected htype 1 or 32 and hlen 6, an Ethernet address, or htype 32, hlen 0 and a client identifier (RFC 4390 section 2.1)"
    )]
    NotEthernet,
    /// No message type, or one a client does not send.
    #[error("expected option 53 with a message type that clients send (RFC 2132 section 9.6)")]
    NoType,
}

impl Request {
    /// Reads a packet.
    ///
    /// # Errors
    /// [`RequestError`]; such packets are dropped.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        let (header, options) = bytes.split_at_checked(HEADER).ok_or(RequestError::NotDhcp)?;
        if !header.ends_with(&COOKIE) {
            return Err(RequestError::NotDhcp);
        }
        // dhcproto reads the fixed fields only. Its option decoder stops at the first malformed option, so a bad
        // one from odd firmware would hide all that follow; ours skips it.
        let message = Message::decode(&mut Decoder::new(header)).map_err(|_| RequestError::NotDhcp)?;
        if message.opcode() != Opcode::BootRequest {
            return Err(RequestError::NotRequest);
        }
        let options = all_options(header, options);
        // The length is checked before `chaddr()` slices by it. iPXE has an Ethernet address for an InfiniBand port too.
        let infiniband = message.htype() == HType::Infiniband;
        let mac = match (message.htype(), message.hlen()) {
            (HType::Eth | HType::Infiniband, 6) => message.chaddr().first_chunk().map(|b| MacAddr(*b)),
            (HType::Infiniband, 0) => options.get(&61).and_then(|id| infiniband::port(id)),
            _ => None,
        };
        let mac = mac.ok_or(RequestError::NotEthernet)?;
        if mac.0.first().is_none_or(|b| b & 1 == 1) || mac == MacAddr([0; 6]) {
            return Err(RequestError::NotEthernet); // a group address, or none
        }
        let get = |code: u8| options.get(&code).map(|value| &**value);
        let ip = |code| get(code).and_then(|v| <[u8; 4]>::try_from(v).ok()).map(Ipv4Addr::from);
        let kind = match get(53) {
            Some([kind]) => MessageType::from(*kind),
            _ => return Err(RequestError::NoType),
        };
        if !matches!(
            kind,
            MessageType::Discover
                | MessageType::Request
                | MessageType::Decline
                | MessageType::Release
                | MessageType::Inform
        ) {
            return Err(RequestError::NoType);
        }
        let vendor_class = get(60).unwrap_or_default();
        let giaddr = message.giaddr();
        let relayed = |ip: &Ipv4Addr| !giaddr.is_unspecified() && !ip.is_unspecified();
        let relay_part = |code| get(82).and_then(|info| relay_part(info, code)).filter(relayed);
        let subnet_selection = ip(118).filter(relayed);
        Ok(Self {
            kind,
            xid: message.xid(),
            broadcast: message.flags().broadcast(),
            ciaddr: message.ciaddr(),
            giaddr,
            mac,
            infiniband,
            has_chaddr: message.hlen() != 0,
            requested_ip: ip(50),
            server_id: ip(54),
            relay_info: get(82).map(<[u8]>::to_vec),
            link: relay_part(5).or(subnet_selection),
            subnet_selection,
            server_id_override: relay_part(11),
            machine_id: get(97).filter(|v| (2..=32).contains(&v.len())).map(<[u8]>::to_vec),
            // Of one part: RFC 3396 is for options that say so, and this one does not.
            client_id: get(61).filter(|v| (1..=255).contains(&v.len())).map(<[u8]>::to_vec),
            largest: get(57).and_then(|v| <[u8; 2]>::try_from(v).ok()).map(u16::from_be_bytes),
            // RFC 4578 §2.1 allows a list of architectures: the first is the one that asks.
            architecture: get(93)
                .and_then(|v| v.first_chunk().map(|b| u16::from_be_bytes(*b)))
                .or_else(|| architecture_in(vendor_class)),
            client: client(get(77), get(175), vendor_class),
            bmc: bmc::maker(vendor_class, get(12).unwrap_or_default()),
            packet: bytes.into(),
        })
    }

    /// What the server is called towards this client (option 54).
    #[must_use]
    pub fn server_for(&self, segment: &crate::Segment) -> Ipv4Addr {
        self.server_id_override.unwrap_or(segment.server_ip)
    }

    /// Octets of DHCP that an answer may have, option 82 apart, which its relay takes out: as many as the client says, and never
    /// less than every client takes (RFC 2131 §2, RFC 2132 §9.10). On Ethernet it is not cut, with option 82.
    #[must_use]
    pub fn largest_answer(&self) -> usize {
        let relay_info = self.relay_info.as_ref().map_or(0, |info| info.len() + 2 * info.len().div_ceil(255));
        let takes = self.largest.unwrap_or(0).clamp(SMALLEST_DATAGRAM, ETHERNET_MTU);
        let on_ethernet = usize::from(ETHERNET_MTU - HEADERS).saturating_sub(relay_info);
        usize::from(takes - HEADERS).min(on_ethernet).max(usize::from(SMALLEST_DATAGRAM - HEADERS))
    }

    /// The facts of a packet in a line for people. All of it comes from numbers, so it is safe to print.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut out = self.bmc.unwrap_or_else(|| self.client.words()).to_owned();
        if let Some(architecture) = self.architecture {
            let _ = write!(out, ", architecture {architecture}");
        }
        if let Some(ip) = self.requested_ip {
            let _ = write!(out, ", wants {ip}");
        }
        if !self.ciaddr.is_unspecified() {
            let _ = write!(out, ", has {}", self.ciaddr);
        }
        if !self.giaddr.is_unspecified() {
            let _ = write!(out, ", through relay {}", self.giaddr);
            if let Some(link) = self.link {
                let _ = write!(out, " for link {link}");
            }
        }
        if let Some(id) = &self.machine_id {
            out.push_str(", guid ");
            for byte in id.iter().skip(1) {
                let _ = write!(out, "{byte:02x}");
            }
        }
        out
    }
}

/// Whose a packet is that cannot be read: by its `chaddr`, if that is a machine's of the table. Anybody can write anything
/// there, so strangers have no trace of such packets.
pub(super) fn sender(bytes: &[u8], table: &BootTable) -> (Option<MacAddr>, Option<String>) {
    let mac = bytes.get(28..34).and_then(|b| b.try_into().ok()).map(MacAddr);
    let entry = mac.and_then(|mac| table.entries_of(mac).first().map(|entry| entry.node.clone()));
    (mac.filter(|_| entry.is_some()), entry)
}

/// An address among a relay's suboptions (RFC 3046 §2.0).
fn relay_part(mut info: &[u8], wanted: u8) -> Option<Ipv4Addr> {
    while let [code, len, rest @ ..] = info {
        let (value, rest) = rest.split_at_checked(usize::from(*len))?;
        if *code == wanted {
            return <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from);
        }
        info = rest;
    }
    None
}

/// Options by code; copied where long ones have parts to be joined.
pub(crate) type Options<'a> = BTreeMap<u8, Cow<'a, [u8]>>;

/// Options by code, parts of long ones joined (RFC 3396). Stops where the packet does.
pub(super) fn options_of(bytes: &[u8]) -> Options<'_> {
    let mut out = BTreeMap::new();
    join_options(&mut out, bytes);
    out
}

/// Those in `file` and `sname` too, where option 52 says that there are some: in this order, as parts of one long field
/// (RFC 2132 §9.3, RFC 3396 §5).
pub(crate) fn all_options<'a>(header: &'a [u8], bytes: &'a [u8]) -> Options<'a> {
    let mut out = options_of(bytes);
    let overload = match out.get(&OVERLOAD).map(|value| &**value) {
        Some([how @ 1..=3]) => *how,
        _ => 0,
    };
    for (bit, field) in [(1, FILE), (2, SNAME)] {
        if overload & bit != 0 {
            join_options(&mut out, header.get(field).unwrap_or_default());
        }
    }
    out
}

fn join_options<'a>(out: &mut Options<'a>, mut bytes: &'a [u8]) {
    loop {
        match bytes {
            [0, rest @ ..] => bytes = rest,
            [] | [255, ..] | [_] => return,
            [code, len, rest @ ..] => {
                let Some((value, rest)) = rest.split_at_checked(usize::from(*len)) else { return };
                match out.entry(*code) {
                    Entry::Vacant(first) => _ = first.insert(Cow::Borrowed(value)),
                    Entry::Occupied(mut parts) => parts.get_mut().to_mut().extend_from_slice(value),
                }
                bytes = rest;
            }
        }
    }
}

fn client(user_class: Option<&[u8]>, ipxe: Option<&[u8]>, vendor_class: &[u8]) -> Client {
    // iPXE writes its user class bare; RFC 3004 wants a length before it. Either will do.
    if ipxe.is_some() || user_class.is_some_and(|c| c.windows(4).any(|w| w == b"iPXE")) {
        Client::Ipxe
    } else if vendor_class.starts_with(b"PXEClient") {
        Client::Pxe
    } else if vendor_class.starts_with(b"HTTPClient") {
        Client::Http
    } else {
        Client::Other
    }
}

/// `PXEClient:Arch:00007:UNDI:003016` has it too; some firmware sends no option 93.
fn architecture_in(vendor_class: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(vendor_class).ok()?;
    text.split_once(":Arch:")?.1.get(..5)?.parse().ok()
}

/// The segment a packet is about: the relay's if it came through one, else the one of the socket.
pub(super) fn segment_for(table: &BootTable, here: &Arc<Segment>, request: &Request) -> Option<Arc<Segment>> {
    if !request.giaddr.is_unspecified() {
        // Fabrics whose routers have no address in the subnet relay from a loopback, and say where the machine is.
        return table.segment_of(request.link.unwrap_or(request.giaddr)).cloned();
    }
    // A machine behind a relay renews and releases by itself, over the router (RFC 2131 §4.3.2, RENEWING): the
    // subnet of its address says where it is. A broadcast never comes from there.
    if !request.ciaddr.is_unspecified()
        && let Some(far) = table.segment_of(request.ciaddr).filter(|s| s.behind_relay.is_some())
    {
        return Some(Arc::clone(far));
    }
    // The table's version, so that changed settings hold at once.
    let current = table.segments().iter().find(|s| s.interface == here.interface);
    Some(Arc::clone(current.unwrap_or(here)))
}
