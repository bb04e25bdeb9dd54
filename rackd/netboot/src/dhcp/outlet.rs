//! How answers leave: at once or not at all. One that would wait for somebody's ARP keeps nobody else from theirs.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Instant;

use farrier_model::Seldom;
use tokio::net::UdpSocket;

use super::frames::Frames;
use super::{Destination, Reply};
use crate::decode::Packet;
use crate::unicast::{Unicast, Way, nobody};
use crate::{EventKind, MacAddr, Segment, server::Shared, socket};

/// An answer, and what is told of it once it has left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) mac: MacAddr,
    pub(super) node: Option<String>,
    pub(super) told: Vec<(EventKind, String)>,
}

impl Answer {
    /// It did not leave, or was not written down: this, in place of what was to be told.
    pub(super) fn failed(&self, shared: &Shared, kind: EventKind, why: &str) {
        let what = self.told.first().map(|(kind, detail)| format!("{kind} {detail}")).unwrap_or_default();
        shared.events.emit(Some(self.mac), self.node.as_deref(), kind, format!("{what}: {why}"));
    }
}

/// What answers of one segment leave by.
pub(super) struct Outlet {
    segment: Arc<Segment>,
    /// `None`: whoever has no address yet is answered by broadcast.
    frames: Option<Frames>,
    /// `None`: those with an address are answered by the socket that hears them.
    unicast: Option<Unicast>,
    /// Strangers that were told of.
    unsent: Seldom,
}

impl Outlet {
    pub(super) fn bind(segment: &Arc<Segment>) -> Self {
        let interface = segment.interface.as_str();
        let frames = Frames::bind(interface).inspect_err(|error| {
            tracing::warn!(interface, %error, "machines without an address are answered by broadcast");
        });
        let unicast = Unicast::bind(segment, SERVER_PORT).inspect_err(|error| {
            tracing::warn!(interface, %error, "answers to relays and to those that renew share one socket with all others");
        });
        let segment = Arc::clone(segment);
        Self { segment, frames: frames.ok(), unicast: unicast.ok(), unsent: Seldom::default() }
    }

    /// Sends an answer, and tells what came of it. `socket`: what broadcasts leave by.
    pub(super) fn send(&self, shared: &Shared, socket: &UdpSocket, answer: Answer) {
        let error = match self.try_send(shared, socket, &answer.reply) {
            Ok(bytes) => {
                let packet = Packet::dhcp(bytes.into());
                for (kind, detail) in answer.told {
                    let who = (Some(answer.mac), answer.node.as_deref());
                    shared.events.emit_packet(who, kind, detail, Some(&packet));
                }
                return;
            }
            Err(error) => error,
        };
        shared.events.counters.unsent("dhcp", &error);
        // What strangers make up fills no log.
        if answer.node.is_some() {
            let why = format!(
                "{error}: expected it to leave at once; it asks again, and where it is not answered then either, look at \
                 the link and who has its address"
            );
            answer.failed(shared, EventKind::AnswerNotSent, &why);
        } else if self.unsent.due(IpAddr::V4(Ipv4Addr::UNSPECIFIED), Instant::now()) {
            let (interface, mac, to) = (&self.segment.interface, answer.mac, answer.reply.to);
            tracing::warn!(interface, %mac, ?to, %error, "dhcp answer not sent, and perhaps others");
        }
    }

    /// What has left.
    fn try_send(&self, shared: &Shared, socket: &UdpSocket, reply: &Reply) -> io::Result<Vec<u8>> {
        let Some(bytes) = reply.bytes() else {
            tracing::error!("bug: dhcp answer cannot be encoded");
            return Err(io::ErrorKind::InvalidData.into());
        };
        let to = match reply.to {
            Destination::Relay(ip) => SocketAddrV4::new(ip, SERVER_PORT),
            Destination::Client(ip) => SocketAddrV4::new(ip, CLIENT_PORT),
            Destination::Frame(mac, ip) if self.send_frame(&bytes, mac, ip) => return Ok(bytes),
            Destination::Frame(..) | Destination::Broadcast => {
                let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT);
                return socket::send_now(socket, &bytes, everybody.into()).map(|()| bytes);
            }
        };
        let way = Way::to(*to.ip(), &self.segment, &shared.ways, Instant::now());
        let sent = match &self.unicast {
            Some(unicast) => unicast.send(way, &bytes, to),
            None if way == Way::Nobody => Err(nobody(*to.ip())),
            None => socket::send_now(socket, &bytes, to.into()),
        };
        sent.map(|()| bytes)
    }

    /// Whether it is under way; else everybody is sent it.
    fn send_frame(&self, bytes: &[u8], mac: MacAddr, ip: Ipv4Addr) -> bool {
        let Some(frames) = &self.frames else { return false };
        let from = SocketAddrV4::new(self.segment.server_ip, SERVER_PORT);
        let sent = frames.send(bytes, from, (mac, SocketAddrV4::new(ip, CLIENT_PORT)));
        if let Err(error) = &sent {
            tracing::debug!(interface = self.segment.interface, %mac, %error, "no frame sent, but a broadcast");
        }
        sent.is_ok()
    }
}

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
