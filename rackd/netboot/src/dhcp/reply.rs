//! The answer: which options, and where to send it.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use dhcproto::{
    Encodable,
    v4::{DhcpOption, Flags, HType, Message, MessageType, Opcode, OptionCode, UnknownOption},
};

use super::{fit::fit, pxe::BootFile, request::Request};
use crate::{MacAddr, Segment};

/// BOOTP's smallest packet in bytes; some relays and ROMs drop shorter ones (RFC 1542 §2.1).
const MIN_PACKET: usize = 300;
/// Octets of an answer without what has no fixed length: header, 20 options, and some more.
const FIXED: usize = 360;
const RELAY_INFO: u8 = 82;
const END: u8 = 255;
/// `file` is 128 bytes with its NUL.
const MAX_FILE: usize = 127;
/// Name servers sent at most.
const MAX_DNS: usize = 8;
/// iPXE's encapsulated option 176, `no-pxedhcp` = 1: there is no ProxyDHCP server to wait for.
const IPXE_NO_PROXY_DHCP: [u8; 3] = [176, 1, 1];

/// Option 43, PXE_DISCOVERY_CONTROL (tag 6) with bit 3: take the file that this names, and look for no boot server
/// (PXE 2.1 table 2-1).
const PXE_TAKE_THIS_FILE: [u8; 4] = [6, 1, 8, 255];

/// An answer and its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The message.
    pub message: Message,
    /// Relay agent information to append (option 82), as the relay wrote it. Not among the message's options:
    /// dhcproto would take it apart, and an unknown option of that number it writes twice.
    pub relay_info: Option<Vec<u8>>,
    /// Where it goes.
    pub to: Destination,
    /// Options that would have made it larger than its client takes.
    pub left_out: Vec<OptionCode>,
}

/// Where an answer goes (RFC 2131 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To the relay agent's server port.
    Relay(Ipv4Addr),
    /// To the client's address, which it has and answers ARP for.
    Client(Ipv4Addr),
    /// To the hardware address of a client that has no address yet: it cannot answer ARP, and takes a frame for the one that it
    /// is given.
    Frame(MacAddr, Ipv4Addr),
    /// To everybody on the segment.
    Broadcast,
}

impl Reply {
    /// The bytes to send. `None` if the message cannot be encoded, which no table can bring about.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let mut out = self.message.to_vec().ok()?;
        if let Some(info) = &self.relay_info {
            // RFC 3046 §2.1: the last option before the end.
            out.pop_if(|last| *last == END);
            for part in info.chunks(255) {
                out.extend([RELAY_INFO, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
                out.extend_from_slice(part);
            }
            out.push(END);
        }
        if out.len() < MIN_PACKET {
            out.resize(MIN_PACKET, 0);
        }
        Some(out)
    }

    /// An answer with nothing in it but who it is for.
    fn to_request(request: &Request, segment: &Segment, kind: MessageType, to: Destination) -> Self {
        let mut message = Message::new_with_id(
            request.xid,
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::UNSPECIFIED,
            request.giaddr,
            &request.mac.0,
        );
        if request.infiniband {
            message.set_htype(HType::Infiniband);
        }
        // RFC 4390 §2.1: `hlen` is 0.
        if !request.has_chaddr {
            message.set_chaddr(&[]);
        }
        message.set_opcode(Opcode::BootReply);
        if request.broadcast {
            message.set_flags(Flags::default().set_broadcast());
        }
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ServerIdentifier(request.server_for(segment)));
        if let Some(subnet) = request.subnet_selection {
            options.insert(DhcpOption::SubnetSelection(subnet));
        }
        if let Some(id) = &request.client_id {
            options.insert(DhcpOption::ClientIdentifier(id.clone()));
        }
        Self { message, relay_info: request.relay_info.clone(), to, left_out: Vec::new() }
    }

    /// DHCPNAK. RFC 2131 §4.3.2: broadcast, or through the relay with the broadcast flag set.
    pub(super) fn nak(request: &Request, segment: &Segment, why: &str) -> Self {
        let to = if request.giaddr.is_unspecified() {
            Destination::Broadcast
        } else {
            Destination::Relay(request.giaddr)
        };
        let mut reply = Self::to_request(request, segment, MessageType::Nak, to);
        if !request.giaddr.is_unspecified() {
            reply.message.set_flags(Flags::default().set_broadcast());
        }
        reply.message.opts_mut().insert(DhcpOption::Message(why.to_owned()));
        reply.fitting(request, why.len())
    }

    /// DHCPOFFER or DHCPACK with an address.
    pub(super) fn lease(
        request: &Request,
        segment: &Segment,
        kind: MessageType,
        ip: Ipv4Addr,
        hostname: &str,
        boot: &BootFile,
    ) -> Self {
        let to = match destination(request, segment) {
            Destination::Broadcast if !request.broadcast && !request.infiniband => {
                Destination::Frame(request.mac, ip)
            }
            to => to,
        };
        let mut reply = Self::to_request(request, segment, kind, to);
        reply.message.set_yiaddr(ip);
        if kind == MessageType::Ack {
            reply.message.set_ciaddr(request.ciaddr);
        }
        let seconds = segment.lease_seconds.max(60);
        let options = reply.message.opts_mut();
        options.insert(DhcpOption::AddressLeaseTime(seconds));
        options.insert(DhcpOption::Renewal(seconds / 2));
        options.insert(DhcpOption::Rebinding(seconds - seconds / 8));
        reply.settings(request, segment, hostname, boot);
        reply.fitting(request, names(segment, hostname) + boot.length())
    }

    /// DHCPACK to a DHCPINFORM: settings, no address, no lease time (RFC 2131 §4.3.5).
    pub(super) fn inform(request: &Request, segment: &Segment, hostname: &str, boot: &BootFile) -> Self {
        let mut reply = Self::to_request(request, segment, MessageType::Ack, destination(request, segment));
        reply.message.set_ciaddr(request.ciaddr);
        reply.settings(request, segment, hostname, boot);
        reply.fitting(request, names(segment, hostname) + boot.length())
    }

    /// An offer, or the boot service's DHCPACK, without an address and its settings: those are the other server's.
    pub(super) fn proxy(request: &Request, segment: &Segment, kind: MessageType, boot: &BootFile) -> Self {
        let mut reply = Self::to_request(request, segment, kind, destination(request, segment));
        if kind == MessageType::Ack {
            reply.message.set_ciaddr(request.ciaddr);
        }
        // PXE 2.1 §2.2.3: what makes an offer one of a proxy; UEFI's HTTP boot puts its own word instead.
        reply.message.opts_mut().insert(DhcpOption::ClassIdentifier(b"PXEClient".to_vec()));
        if matches!(boot, BootFile::Tftp(_)) {
            reply.message.opts_mut().insert(DhcpOption::VendorExtensions(PXE_TAKE_THIS_FILE.to_vec()));
        }
        reply.boot(request, segment, boot);
        reply.fitting(request, boot.length())
    }

    /// As large as its client takes, and no larger. `named`: how long is what tables say.
    fn fitting(mut self, request: &Request, named: usize) -> Self {
        let length = |id: &Option<Vec<u8>>| id.as_ref().map_or(0, Vec::len);
        let limit = request.largest_answer();
        // Most are far from it, and need not be written to know.
        if FIXED + named + length(&request.client_id) + length(&request.machine_id) > limit {
            self.left_out = fit(&mut self.message, limit);
        }
        self
    }

    /// What it is without, for people; empty, if it says all.
    #[must_use]
    pub fn shortened(&self) -> String {
        let mut out = String::new();
        for (n, code) in self.left_out.iter().enumerate() {
            let before = if n == 0 { ", without options " } else { " " };
            let _ = write!(out, "{before}{}", u8::from(*code));
        }
        if !out.is_empty() {
            out.push_str(", for the client takes no more octets (option 57)");
        }
        out
    }

    fn settings(&mut self, request: &Request, segment: &Segment, hostname: &str, boot: &BootFile) {
        let options = self.message.opts_mut();
        options.insert(DhcpOption::SubnetMask(segment.netmask()));
        if let Some(gateway) = segment.gateway {
            options.insert(DhcpOption::Router(vec![gateway]));
        }
        if !segment.dns.is_empty() {
            options.insert(DhcpOption::DomainNameServer(segment.dns.iter().take(MAX_DNS).copied().collect()));
        }
        if !hostname.is_empty() {
            options.insert(DhcpOption::Hostname(hostname.to_owned()));
        }
        if let Some(domain) = segment.domain.as_ref().filter(|d| !d.is_empty()) {
            options.insert(DhcpOption::DomainName(domain.clone()));
        }
        if matches!(boot, BootFile::Script(_)) {
            options.insert(raw(OptionCode::Unknown(175), &IPXE_NO_PROXY_DHCP));
        }
        self.boot(request, segment, boot);
    }

    fn boot(&mut self, request: &Request, segment: &Segment, boot: &BootFile) {
        let options = self.message.opts_mut();
        // PXE 2.1 wants its GUID back.
        if let Some(id) = &request.machine_id {
            options.insert(DhcpOption::ClientMachineIdentifier(id.clone()));
        }
        match boot {
            BootFile::Nothing | BootFile::Unknown(..) => {}
            BootFile::Tftp(file) => {
                let server = segment.server_ip.to_string();
                options.insert(DhcpOption::TFTPServerName(server.clone().into_bytes()));
                self.message.set_sname_str(server);
                self.boot_file(segment, file);
            }
            BootFile::Script(url) => self.boot_file(segment, url),
            BootFile::Http(url) => {
                // UEFI 2.10 §24.7.3.1: without this echo the firmware takes the offer for a plain one.
                options.insert(DhcpOption::ClassIdentifier(b"HTTPClient".to_vec()));
                self.boot_file(segment, url);
            }
        }
    }

    fn boot_file(&mut self, segment: &Segment, name: &str) {
        self.message.set_siaddr(segment.server_ip);
        // UNDI ROMs of the 1990s want the NUL that C strings have, options do not: so no NUL in option 67.
        self.message.opts_mut().insert(DhcpOption::BootfileName(name.as_bytes().to_vec()));
        if name.len() <= MAX_FILE {
            self.message.set_fname_str(name);
        }
    }
}

/// RFC 2131 §4.1. An address that no machine of the segment can have is none that it uses: anybody can write one there, also of
/// somebody else who is to be sent our answers.
fn destination(request: &Request, segment: &Segment) -> Destination {
    if !request.giaddr.is_unspecified() {
        Destination::Relay(request.giaddr)
    } else if segment.has_host(request.ciaddr) {
        Destination::Client(request.ciaddr)
    } else {
        Destination::Broadcast
    }
}

/// How long is what a segment and a machine are called by.
fn names(segment: &Segment, hostname: &str) -> usize {
    hostname.len() + segment.domain.as_ref().map_or(0, String::len) + 4 * segment.dns.len()
}

/// An option by its bytes.
fn raw(code: OptionCode, bytes: &[u8]) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(code, bytes.to_vec()))
}
