//! The DHCPv6 server's whole policy, without a socket.

use std::net::Ipv6Addr;

use dhcproto::v6::{DhcpOption, MessageType, Status};

use super::{reply::Reply, reply::tftp, request::Request6};
use crate::{
    BootEntry, BootTable, Dhcp6, EventKind, LeaseChange, MacAddr, Segment,
    dhcp::{BootFile, BootFiles, Client, boot_file},
};

/// What to do about a packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision6 {
    /// Whose packet it is, as far as it says.
    pub mac: Option<MacAddr>,
    /// A port that is served in another network, and asks here: it is plugged in here, or was moved.
    pub moved: Option<MacAddr>,
    /// The answer's bytes, if there is one.
    pub reply: Option<Vec<u8>>,
    /// What its answer does to the port's lease; where none is sent, nothing.
    pub lease: Option<LeaseChange>,
    /// What happened, in order, with details for people.
    pub events: Vec<(EventKind, String)>,
}

impl Decision6 {
    fn event(mut self, kind: EventKind, detail: impl Into<String>) -> Self {
        self.events.push((kind, detail.into()));
        self
    }

    /// What changes nothing is told all the same.
    fn ignored(self, request: &Request6, why: &str) -> Self {
        let detail = format!("DHCPv6: {why}: {}", request.describe());
        self.event(EventKind::Ignored { message: word(request.kind) }, detail)
    }

    fn asked(self, request: &Request6) -> Self {
        self.event(EventKind::Dhcp6(word(request.kind)), request.describe())
    }

    fn answer(mut self, reply: &Reply, request: &Request6, kind: MessageType, detail: String) -> Self {
        self.reply = reply.bytes(&request.relays);
        match self.reply {
            Some(_) => self.event(EventKind::Dhcp6(word(kind)), detail),
            None => {
                self.event(EventKind::AnswerNotSent, format!("{}, a bug: it cannot be encoded", word(kind)))
            }
        }
    }
}

/// Decides about one packet from `source` that came in on `segment`, or through a relay that serves it. Machines that are
/// not in the table get silence: another server may answer them.
#[must_use]
pub fn decide6(
    segment: &Segment,
    six: &Dhcp6,
    table: &BootTable,
    files: &BootFiles,
    request: &Request6,
    source: Ipv6Addr,
) -> Decision6 {
    let macs = request.macs(source);
    let ports = request.port_macs(source);
    // A DUID is one machine's, an address one port's: another port of a machine has a DUID with the first one's address in it.
    let its = if ports.is_empty() { &macs } else { &ports };
    let here = |mac: &MacAddr| table.entry(*mac, &segment.network);
    let entry = its.iter().find_map(here);
    let elsewhere = || macs.iter().find(|mac| !table.entries_of(**mac).is_empty() && here(mac).is_none());
    let mac = entry.map(|entry| entry.mac).or_else(|| elsewhere().copied()).or_else(|| macs.first().copied());
    let decision = Decision6 { mac, ..Decision6::default() };
    match addressee(request, six) {
        Addressee::Us => {}
        Addressee::Other => {
            let detail = format!("DHCPv6: {}", request.describe());
            let why = "another server is meant (option 2)";
            return match entry {
                Some(_) => decision.event(EventKind::OtherServer, detail),
                None => decision.ignored(request, why),
            };
        }
        Addressee::Nobody(why) => return decision.ignored(request, why),
    }
    match entry {
        Some(entry) => known(decision, segment, six, files, request, entry),
        None if elsewhere().is_some() => {
            // A DUID is the machine's: its other ports have the same one, wherever they are.
            let mut ports = request.port_macs(source).into_iter();
            let port = ports.find(|mac| !table.entries_of(*mac).is_empty());
            moved(Decision6 { moved: port, ..decision }, segment, six, request)
        }
        None => {
            let boots = request.client != Client::Other;
            let kind = EventKind::UnknownMac { network: segment.network.clone(), boots };
            decision.event(kind, format!("on {} by DHCPv6: {}", segment.interface, request.describe()))
        }
    }
}

fn known(
    decision: Decision6,
    segment: &Segment,
    six: &Dhcp6,
    files: &BootFiles,
    request: &Request6,
    entry: &BootEntry,
) -> Decision6 {
    let (ip, seconds) = (six.address(entry.ip), segment.lease_seconds.max(60));
    let boot = boot_file(files.server(six.server_ip), files, entry, request.client, request.architecture);
    // What is started over IPv4 alone.
    let boot = match boot {
        BootFile::Tftp(file) if files.is_signed(&file) => BootFile::Unknown(
            request.architecture.unwrap_or(0),
            "Secure Boot goes by IPv4: let it boot by PXEv4",
        ),
        boot => boot,
    };
    let mut decision = decision.asked(request);
    if let BootFile::Unknown(architecture, why) = &boot {
        decision = decision.event(EventKind::UnknownArchitecture { architecture: *architecture }, *why);
    }
    let told = match &boot {
        BootFile::Nothing | BootFile::Unknown(..) => format!("{ip}, no boot file"),
        BootFile::Tftp(file) => format!("{ip}, boot file {}", tftp(six, file)),
        BootFile::Script(url) | BootFile::Http(url) => format!("{ip}, boot file {url}"),
    };
    let blocks = match (&boot, request.client) {
        (BootFile::Tftp(file), Client::Pxe) if request.wants_parameters => files.blocks(file),
        _ => None,
    };
    let reply = |kind| Reply::new(kind, request, six);
    let boots = |reply: Reply| reply.boot(six, &boot).length(blocks).dns(&segment.dns6);
    let lease = |reply: Reply| boots(reply.addresses(&request.ias, ip, seconds));
    // RFC 8415 §18.3: what of them gives an address, and what takes it back.
    decision.lease = match request.kind {
        MessageType::Solicit if !request.rapid_commit => None,
        MessageType::Solicit | MessageType::Request | MessageType::Renew | MessageType::Rebind => {
            (!request.ias.is_empty()).then_some(LeaseChange::Bound { ip: entry.ip, seconds })
        }
        MessageType::Release => Some(LeaseChange::Released),
        _ => None,
    };
    let (kind, reply, detail) = match request.kind {
        MessageType::Solicit if request.rapid_commit => {
            (MessageType::Reply, lease(reply(MessageType::Reply).with(DhcpOption::RapidCommit)), told)
        }
        MessageType::Solicit => {
            // RFC 8415 §18.2.1: 255 ends the client's wait for other servers.
            let preference = DhcpOption::Preference(255);
            (MessageType::Advertise, lease(reply(MessageType::Advertise).with(preference)), told)
        }
        MessageType::Request | MessageType::Renew | MessageType::Rebind => {
            (MessageType::Reply, lease(reply(MessageType::Reply)), told)
        }
        MessageType::Confirm => {
            let mut addresses = request.ias.iter().flat_map(|ia| &ia.addresses).peekable();
            // RFC 8415 §18.3.3: without an address there is nothing to say.
            if addresses.peek().is_none() {
                return decision.ignored(request, "expected an address in it (RFC 8415 section 18.3.3)");
            }
            let (status, words) = if addresses.all(|ip| six.contains(*ip)) {
                (Status::Success, "on this link")
            } else {
                (Status::NotOnLink, "not on this link")
            };
            (MessageType::Reply, reply(MessageType::Reply).status(status, words), words.to_owned())
        }
        MessageType::Release => (
            MessageType::Reply,
            reply(MessageType::Reply).status(Status::Success, "released"),
            "released".into(),
        ),
        MessageType::Decline => {
            let detail = format!("another machine uses {ip}: {}", request.describe());
            decision = decision.event(EventKind::Decline, detail);
            (MessageType::Reply, reply(MessageType::Reply).status(Status::Success, "noted"), "noted".into())
        }
        MessageType::InformationRequest => (MessageType::Reply, boots(reply(MessageType::Reply)), told),
        _ => return decision,
    };
    decision.answer(&reply, request, kind, detail)
}

/// A port that was moved: it may still have an address of the network it came from.
fn moved(decision: Decision6, segment: &Segment, six: &Dhcp6, request: &Request6) -> Decision6 {
    let detail = format!("on network {} by DHCPv6: {}", segment.network, request.describe());
    let decision = decision.event(EventKind::WrongNetwork, detail);
    let reply = Reply::new(MessageType::Reply, request, six);
    let mut addresses = request.ias.iter().flat_map(|ia| &ia.addresses);
    match request.kind {
        MessageType::Confirm if addresses.any(|ip| !six.contains(*ip)) => {
            let reply = reply.status(Status::NotOnLink, "not on this link");
            decision.answer(&reply, request, MessageType::Reply, "not on this link".into())
        }
        MessageType::Renew => {
            let reply = reply.no_binding(&request.ias);
            decision.answer(&reply, request, MessageType::Reply, "not reserved on this network".into())
        }
        _ => decision,
    }
}

enum Addressee {
    Us,
    Other,
    /// Not a valid message: dropped (RFC 8415 §16). Why.
    Nobody(&'static str),
}

/// RFC 8415 §16.2 to §16.12.
fn addressee(request: &Request6, six: &Dhcp6) -> Addressee {
    let ours = request.server_id.as_ref().map(|id| *id == six.duid());
    match (request.kind, request.client_id.is_some(), ours) {
        (MessageType::Solicit | MessageType::Confirm | MessageType::Rebind, true, None) => Addressee::Us,
        (
            MessageType::Request | MessageType::Renew | MessageType::Release | MessageType::Decline,
            true,
            Some(ours),
        ) => {
            if ours {
                Addressee::Us
            } else {
                Addressee::Other
            }
        }
        (MessageType::InformationRequest, _, None | Some(true)) if request.ias.is_empty() => Addressee::Us,
        (MessageType::InformationRequest, ..) if !request.ias.is_empty() => {
            Addressee::Nobody("expected no IA in it (RFC 8415 section 16.12)")
        }
        (MessageType::InformationRequest, ..) => Addressee::Other,
        (_, false, _) => Addressee::Nobody("expected a client identifier, option 1 (RFC 8415 section 16)"),
        (MessageType::Solicit | MessageType::Confirm | MessageType::Rebind, true, Some(_)) => {
            Addressee::Nobody("expected no server identifier, option 2 (RFC 8415 section 16)")
        }
        _ => Addressee::Nobody("expected a server identifier, option 2 (RFC 8415 section 16)"),
    }
}

pub(super) fn word(kind: MessageType) -> &'static str {
    match kind {
        MessageType::Solicit => "SOLICIT",
        MessageType::Advertise => "ADVERTISE",
        MessageType::Request => "REQUEST",
        MessageType::Confirm => "CONFIRM",
        MessageType::Renew => "RENEW",
        MessageType::Rebind => "REBIND",
        MessageType::Reply => "REPLY",
        MessageType::Release => "RELEASE",
        MessageType::Decline => "DECLINE",
        MessageType::InformationRequest => "INFORMATION-REQUEST",
        _ => "message",
    }
}
