//! The DHCP server's whole policy, without a socket.

use std::net::Ipv4Addr;

use dhcproto::v4::MessageType;

use super::{
    proxy,
    pxe::{BootFile, BootFiles, boot_file},
    reply::Reply,
    request::{Client, Request},
};
use crate::{BootEntry, BootTable, Dhcp, EventKind, LeaseChange, Segment};

/// What to do about a packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// The answer, if there is one.
    pub reply: Option<Reply>,
    /// What happened, in order, with details for people.
    pub events: Vec<(EventKind, String)>,
    /// What it does to the lease view.
    pub lease: Option<LeaseChange>,
}

impl Decision {
    pub(super) fn event(mut self, kind: EventKind, detail: impl Into<String>) -> Self {
        self.events.push((kind, detail.into()));
        self
    }

    pub(super) fn reply(mut self, reply: Reply) -> Self {
        self.reply = Some(reply);
        self
    }

    fn lease(mut self, change: LeaseChange) -> Self {
        self.lease = Some(change);
        self
    }
}

/// Decides about one packet that came in on `segment` (or through a relay that serves it).
///
/// `guest` is what an unknown machine gets if the segment has a pool; without it an unknown machine gets silence
/// (RFC 2131 §4.3.2: "the server MUST remain silent" about clients it has no record of), so that another server
/// may answer.
#[must_use]
pub fn decide(
    segment: &Segment,
    table: &BootTable,
    files: &BootFiles,
    request: &Request,
    guest: Option<&BootEntry>,
) -> Decision {
    match segment.dhcp {
        Dhcp::Ours => {}
        Dhcp::Proxy => return proxy::decide(segment, table, files, request, proxy::Port::Server),
        Dhcp::Off => return ignored(Decision::default(), request, "DHCP is somebody else's on this network"),
    }
    if !segment.boots && request.client != Client::Other {
        return bootless(segment, request);
    }
    let known = table.entry(request.mac, &segment.network).map(AsRef::as_ref);
    let mut decision = Decision::default();
    if known.is_none() && !table.entries_of(request.mac).is_empty() {
        return wrong_network(segment, table, request);
    }
    if known.is_none() {
        decision = decision
            .event(unknown(segment, request), format!("on {}: {}", segment.interface, request.describe()));
    }
    let Some(entry) = known.or(guest) else { return decision };
    let server = files.server(segment.server_ip);
    let boot = boot_file(server, files, entry, request.client, request.architecture);
    match request.kind {
        MessageType::Discover => discover(decision, segment, request, entry, &boot),
        MessageType::Request => {
            let decision = requested(decision, segment, request, entry, &boot);
            // A BMC with a reservation is met like one without.
            let met = known.is_none() || !segment.boots;
            if met { with_guest(decision, segment, request) } else { decision }
        }
        MessageType::Inform if !can_be_answered(segment, request) => {
            ignored(decision, request, "expected an address of this network as the client's (ciaddr)")
        }
        MessageType::Inform => {
            let reply = Reply::inform(request, segment, &entry.hostname, &boot);
            let detail = request.describe() + &reply.shortened();
            decision.event(EventKind::Inform, detail).reply(reply)
        }
        MessageType::Release if request.ciaddr == entry.ip && ours(segment, request) => {
            decision.event(EventKind::Release, request.describe()).lease(LeaseChange::Released)
        }
        // Of an address that is not its own it knows nothing (RFC 2131 §4.3.3: option 50 names it).
        MessageType::Decline
            if request.requested_ip.is_none_or(|ip| ip == entry.ip) && ours(segment, request) =>
        {
            decision
                .event(
                    EventKind::Decline,
                    format!("another machine uses {}: {}", entry.ip, request.describe()),
                )
                .lease(LeaseChange::Declined { ip: entry.ip, seconds: segment.lease_seconds.max(60) })
        }
        _ if !ours(segment, request) => ignored(decision, request, "another server is meant (option 54)"),
        _ => {
            let its_own = format!("expected its own address {} there, saw another", entry.ip);
            ignored(decision, request, &its_own)
        }
    }
}

/// What changes nothing is told all the same: whoever looks for a reason sees that it came.
pub(super) fn ignored(decision: Decision, request: &Request, why: &str) -> Decision {
    let message = name(request.kind);
    decision.event(EventKind::Ignored { message }, format!("{why}: {}", request.describe()))
}

/// As it is called in RFC 2131 §2, of those that clients send.
pub(super) fn name(kind: MessageType) -> &'static str {
    match kind {
        MessageType::Discover => "DHCPDISCOVER",
        MessageType::Request => "DHCPREQUEST",
        MessageType::Decline => "DHCPDECLINE",
        MessageType::Release => "DHCPRELEASE",
        MessageType::Inform => "DHCPINFORM",
        _ => "DHCP message",
    }
}

fn discover(
    decision: Decision,
    segment: &Segment,
    request: &Request,
    entry: &BootEntry,
    boot: &BootFile,
) -> Decision {
    let reply = Reply::lease(request, segment, MessageType::Offer, entry.ip, &entry.hostname, boot);
    with_unknown_architecture(decision.event(EventKind::Discover, request.describe()), boot)
        .event(EventKind::Offer, told(entry.ip, boot, &reply))
        .reply(reply)
}

/// RFC 2131 §4.3.2, told apart by what is filled in.
fn requested(
    decision: Decision,
    segment: &Segment,
    request: &Request,
    entry: &BootEntry,
    boot: &BootFile,
) -> Decision {
    let decision = decision.event(EventKind::Request, request.describe());
    let asked = match (request.server_id, request.requested_ip) {
        // SELECTING, somebody else.
        (Some(server), _) if server != request.server_for(segment) => {
            return decision.event(EventKind::OtherServer, format!("took the offer of {server}"));
        }
        // SELECTING us, or INIT-REBOOT.
        (_, Some(ip)) => ip,
        // RENEWING or REBINDING.
        (_, None) if !request.ciaddr.is_unspecified() => request.ciaddr,
        (_, None) => return decision,
    };
    if asked != entry.ip {
        return nak(decision, segment, request, asked, &format!("{} is reserved for it", entry.ip));
    }
    let reply = Reply::lease(request, segment, MessageType::Ack, entry.ip, &entry.hostname, boot);
    with_unknown_architecture(decision, boot)
        .event(EventKind::Ack, told(entry.ip, boot, &reply))
        .lease(LeaseChange::Bound { ip: entry.ip, seconds: segment.lease_seconds.max(60) })
        .reply(reply)
}

/// A port that was moved: it still asks for the address of the network it came from. Telling it no makes it ask
/// anew at once; without that it waits for its lease to end.
fn wrong_network(segment: &Segment, table: &BootTable, request: &Request) -> Decision {
    let networks: Vec<&str> = table.entries_of(request.mac).iter().map(|e| e.network.as_str()).collect();
    let detail =
        format!("on network {}, reserved on {}: {}", segment.network, networks.join(" "), request.describe());
    let decision = Decision::default().event(EventKind::WrongNetwork, detail);
    let asked = request.requested_ip.or(Some(request.ciaddr).filter(|ip| !ip.is_unspecified()));
    match (request.kind, request.server_id, asked) {
        (MessageType::Request, None, Some(asked)) if !segment.contains(asked) => {
            nak(decision, segment, request, asked, "not an address of this network")
        }
        _ => decision,
    }
}

fn nak(decision: Decision, segment: &Segment, request: &Request, asked: Ipv4Addr, why: &str) -> Decision {
    decision
        .event(EventKind::Nak, format!("{asked}: {why}"))
        .reply(Reply::nak(request, segment, "wrong address"))
        .lease(LeaseChange::Refused)
}

/// Firmware on a network where nobody boots: with an address of it, it would go on to look for a boot file.
fn bootless(segment: &Segment, request: &Request) -> Decision {
    let detail = format!(
        "on {}: expected nobody who boots on a management network, saw {}; plug this port into a provisioning network",
        segment.interface,
        request.describe()
    );
    Decision::default().event(EventKind::BootsOnManagement { network: segment.network.clone() }, detail)
}

/// An address of the pool went to a machine that nobody knows.
fn with_guest(decision: Decision, segment: &Segment, request: &Request) -> Decision {
    let Some(LeaseChange::Bound { ip, .. }) = decision.lease else { return decision };
    let (network, boots) = (segment.network.clone(), request.client != Client::Other);
    let kind = EventKind::Guest { network, ip, boots, bmc: request.bmc };
    decision.event(kind, request.describe())
}

pub(super) fn unknown(segment: &Segment, request: &Request) -> EventKind {
    let boots = request.client != Client::Other;
    EventKind::UnknownMac { network: segment.network.clone(), boots }
}

/// RFC 2131 §4.3.5: the answer to a DHCPINFORM goes to the address that the machine says it has. One of elsewhere is no
/// machine's of this segment, and would make us send to whomever the packet names.
pub(super) fn can_be_answered(segment: &Segment, request: &Request) -> bool {
    request.kind != MessageType::Inform
        || !request.giaddr.is_unspecified()
        || request.ciaddr.is_unspecified()
        || segment.has_host(request.ciaddr)
}

/// Whether it is said to us: DHCPDECLINE and DHCPRELEASE name their server (RFC 2131 table 5).
fn ours(segment: &Segment, request: &Request) -> bool {
    request.server_id.is_none_or(|server| server == request.server_for(segment))
}

pub(super) fn with_unknown_architecture(decision: Decision, boot: &BootFile) -> Decision {
    match boot {
        BootFile::Unknown(architecture, why) => {
            decision.event(EventKind::UnknownArchitecture { architecture: *architecture }, *why)
        }
        _ => decision,
    }
}

fn told(ip: Ipv4Addr, boot: &BootFile, reply: &Reply) -> String {
    format!("{ip}, {}{}", told_boot(boot), reply.shortened())
}

pub(super) fn told_boot(boot: &BootFile) -> String {
    match boot {
        BootFile::Nothing | BootFile::Unknown(..) => "no boot file".to_owned(),
        BootFile::Tftp(file) => format!("boot file {file} by tftp"),
        BootFile::Script(url) | BootFile::Http(url) => format!("boot file {url}"),
    }
}
