//! Boot files beside somebody else's DHCP server (PXE 2.1 §2.2): it gives addresses, we say what to boot.
//!
//! Firmware's DHCPDISCOVER is answered with an offer of no address; some firmware then asks on port 4011 for the same
//! again. Which address a machine took from the other server is heard from its DHCPREQUEST: its boot script goes to
//! that address and no other.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use dhcproto::v4::MessageType;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::{
    BootFiles, Client, Decision, Reply, Request,
    decide::{can_be_answered, ignored, told_boot, unknown, with_unknown_architecture},
    pxe::{BootFile, boot_file},
    request::segment_for,
};
use crate::decode::Packet;
use crate::unicast::{Unicast, Way};
use crate::{BootTable, Dhcp, EventKind, MacAddr, Segment, server::Shared, socket};

/// Where a request of a segment with a proxy came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// 67, where the other server hears it too.
    Server,
    /// 4011, the boot service: it is for us alone.
    BootService,
}

/// Decides about one packet that came to the boot service of a segment with a proxy, on port 4011 (PXE 2.1 §2.2.2).
#[must_use]
pub fn decide_service(
    segment: &Segment,
    table: &BootTable,
    files: &BootFiles,
    request: &Request,
) -> Decision {
    decide(segment, table, files, request, Port::BootService)
}

/// What a proxy says to a packet. Systems are not its business.
pub(super) fn decide(
    segment: &Segment,
    table: &BootTable,
    files: &BootFiles,
    request: &Request,
    port: Port,
) -> Decision {
    let decision = Decision::default();
    let known = table.entry(request.mac, &segment.network);
    if request.client == Client::Other {
        // Systems of nobody are no business of a proxy.
        let why = "the other server's: a system, and no firmware";
        return if known.is_some() { ignored(decision, request, why) } else { decision };
    }
    if !can_be_answered(segment, request) {
        return ignored(decision, request, "expected an address of this network as the client's (ciaddr)");
    }
    let Some(entry) = known else {
        let detail = format!("on {}: {}", segment.interface, request.describe());
        return decision.event(unknown(segment, request), detail);
    };
    let (asked, answers, kind) = match (port, request.kind) {
        (Port::Server, MessageType::Discover) => (EventKind::Discover, EventKind::Offer, MessageType::Offer),
        (Port::Server, MessageType::Request) => {
            let detail = format!("of another server: {}", request.describe());
            return decision.event(EventKind::Request, detail);
        }
        (Port::BootService, MessageType::Request) => (EventKind::Request, EventKind::Ack, MessageType::Ack),
        (_, MessageType::Inform) => (EventKind::Inform, EventKind::Ack, MessageType::Ack),
        _ => return ignored(decision, request, "the other server's"),
    };
    let server = files.server(segment.server_ip);
    let boot = boot_file(server, files, entry, request.client, request.architecture);
    let decision = with_unknown_architecture(decision.event(asked, request.describe()), &boot);
    match boot {
        // Silence: it goes on to its next boot device.
        BootFile::Nothing | BootFile::Unknown(..) => decision,
        boot => {
            let reply = Reply::proxy(request, segment, kind, &boot);
            let detail = format!("proxy, {}{}", told_boot(&boot), reply.shortened());
            decision.event(answers, detail).reply(reply)
        }
    }
}

/// The address a machine says it has, or is about to have.
pub(super) fn address(segment: &Segment, request: &Request) -> Option<Ipv4Addr> {
    let asked = match request.kind {
        MessageType::Request => request.requested_ip,
        _ => None,
    };
    asked.or(Some(request.ciaddr).filter(|ip| !ip.is_unspecified())).filter(|ip| segment.contains(*ip))
}

/// Which machine of the table has which address from another server.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<HashMap<MacAddr, Ipv4Addr>>);

impl Heard {
    /// Takes note of a machine of the table.
    pub(super) fn note(&self, table: &BootTable, mac: MacAddr, ip: Ipv4Addr) {
        let mut heard = self.lock();
        if heard.len() >= TIDY_AT {
            heard.retain(|mac, _| !table.entries_of(*mac).is_empty());
        }
        // An address has one machine.
        heard.retain(|other, theirs| *other == mac || *theirs != ip);
        heard.insert(mac, ip);
    }

    pub(crate) fn has(&self, mac: MacAddr, ip: Ipv4Addr) -> bool {
        self.lock().get(&mac) == Some(&ip)
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn who(&self, ip: Ipv4Addr) -> Option<MacAddr> {
        self.lock().iter().find(|(_, theirs)| **theirs == ip).map(|(mac, _)| *mac)
    }

    /// A poisoned lock still guards whole entries.
    fn lock(&self) -> MutexGuard<'_, HashMap<MacAddr, Ipv4Addr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The boot service of one interface.
pub(crate) struct BootService {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    socket: UdpSocket,
    /// `None`: answers leave by the socket that hears.
    unicast: Option<Unicast>,
}

impl BootService {
    pub(crate) fn bind(shared: Arc<Shared>, segment: Arc<Segment>) -> io::Result<Self> {
        let socket = socket::udp_on(&segment.interface, segment.server_ip.into(), PORT)?;
        socket::widen(&socket);
        socket::widen_send(&socket);
        let unicast = Unicast::bind(&segment, PORT).inspect_err(|error| {
            tracing::warn!(interface = segment.interface, %error, "answers of the boot service share one socket");
        });
        Ok(Self { shared, segment, socket, unicast: unicast.ok() })
    }

    /// Answers until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut buffer = vec![0; 2048];
        loop {
            let received = tokio::select! {
                () = shutdown.cancelled() => return,
                received = self.socket.recv_from(&mut buffer) => received,
            };
            match received {
                Ok((len, from)) => self.packet(buffer.get(..len).unwrap_or_default(), from),
                Err(error) => {
                    tracing::debug!(interface = self.segment.interface, %error, "boot service receive failed");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    fn packet(&self, bytes: &[u8], from: SocketAddr) {
        let request = match Request::parse(bytes) {
            Ok(request) => request,
            Err(error) => {
                let who = super::request::sender(bytes, &self.shared.table.load());
                self.shared.malformed(("proxydhcp", &self.segment.interface), from, bytes, &error, who);
                return;
            }
        };
        let table = self.shared.table.load_full();
        let segment = segment_for(&table, &self.segment, &request).filter(|s| s.dhcp == Dhcp::Proxy);
        let Some(segment) = segment else { return };
        let decision = decide_service(&segment, &table, &self.shared.config.boot_files, &request);
        let entry = table.entry(request.mac, &segment.network);
        if let (Some(ip), Some(_)) = (address(&segment, &request), entry) {
            self.shared.heard.note(&table, request.mac, ip);
        }
        let (answers, asked): (Vec<_>, Vec<_>) =
            decision.events.into_iter().partition(|(kind, _)| kind.is_answer());
        let emit = |(kind, detail), packet: &Arc<Packet>| {
            // An unknown machine was told of when it asked on port 67.
            if let Some(entry) = entry {
                let who = (Some(request.mac), Some(entry.node.as_str()));
                self.shared.events.emit_packet(who, kind, detail, Some(packet));
            }
        };
        let its = Packet::dhcp(Arc::clone(&request.packet));
        asked.into_iter().for_each(|event| emit(event, &its));
        let Some(bytes) = decision.reply.as_ref().and_then(Reply::bytes) else { return };
        // To where it asked from: firmware uses 68, or 4011 itself.
        match self.send(&bytes, from) {
            Ok(()) => {
                let answer = Packet::dhcp(bytes.into());
                answers.into_iter().for_each(|event| emit(event, &answer));
            }
            Err(error) => {
                self.shared.events.counters.unsent("proxydhcp", &error);
                emit((EventKind::AnswerNotSent, format!("boot file, to {from}: {error}")), &its);
            }
        }
    }

    /// At once or not at all: one that would wait for somebody's ARP keeps nobody else from an answer.
    fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        match (&self.unicast, to) {
            (Some(unicast), SocketAddr::V4(to)) => {
                let way = Way::to(*to.ip(), &self.segment, &self.shared.ways, Instant::now());
                unicast.send(way, bytes, to)
            }
            _ => socket::send_now(&self.socket, bytes, to),
        }
    }
}

/// PXE 2.1 §2.2.2.
const PORT: u16 = 4011;
/// Machines noted before those are taken out that left the table; a rack has some hundred.
const TIDY_AT: usize = 1024;
