//! DHCP servers that are not ours on a segment that is: they answer machines with other boot files, or none.
//!
//! Heard in three ways: a machine names the server it chose; a server's answer is broadcast; and DHCPDISCOVERs of our
//! own, once a minute, ask for such answers: one as a system does, one as PXE firmware does, since a proxyDHCP server
//! answers nobody else. Beside a server that gives addresses, such a proxy is the one to be found. It asks for a broadcast (bit 15 of the flags), and nobody takes what is
//! offered, so that a server which means well keeps it for a moment and forgets it.

use std::{
    fmt::Write as _,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use dhcproto::{
    Encodable as _,
    v4::{Architecture, DhcpOption, Flags, Message, MessageType, OptionCode},
};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use farrier_model::Seldom;

use super::request::{COOKIE, HEADER, options_of};
use crate::{Dhcp, EventKind, MacAddr, Segment, server::Shared, socket};

/// Who was told of lately, and what our own question looks like.
#[derive(Debug)]
pub(crate) struct Foreign {
    told: Seldom,
    probe: Probe,
}

/// The client that we play.
#[derive(Debug, Clone, Copy)]
struct Probe {
    mac: MacAddr,
    xid: u32,
}

impl Default for Foreign {
    fn default() -> Self {
        let [first, rest @ ..]: [u8; 6] = rand::random();
        let [b, c, d, e, f] = rest;
        // Locally administered, of one station (IEEE 802 §8.2): no machine's.
        let mac = MacAddr([first & 0xfc | 2, b, c, d, e, f]);
        Self { told: Seldom::default(), probe: Probe { mac, xid: rand::random() } }
    }
}

impl Foreign {
    /// Whether a packet is our own question, which comes back to us.
    pub(super) fn asked_by_us(&self, mac: MacAddr) -> bool {
        self.probe.mac == mac
    }

    /// Tells of a server, once a minute.
    pub(super) fn tell(&self, shared: &Shared, segment: &Segment, server: Ipv4Addr, how: &str) {
        let ours = |s: &Arc<Segment>| s.server_ip == server;
        if server.is_unspecified() || shared.table.load().segments().iter().any(ours) {
            return;
        }
        self.tell_of(shared, segment, server.into(), how);
    }

    /// The same of one that is known to be none of ours.
    pub(crate) fn tell_of(&self, shared: &Shared, segment: &Segment, server: IpAddr, how: &str) {
        if self.told.due(server, Instant::now()) {
            let kind = EventKind::ForeignServer { server, network: segment.network.clone() };
            shared.events.emit(None, None, kind, how.to_owned());
        }
    }
}

/// Looks for other servers on one segment.
pub(crate) struct Watcher {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    /// Where answers are broadcast to, and nothing else: a DHCP client of this host keeps its own.
    socket: UdpSocket,
}

impl Watcher {
    pub(crate) fn bind(shared: Arc<Shared>, segment: Arc<Segment>) -> io::Result<Self> {
        let socket = socket::udp_on(&segment.interface, Ipv4Addr::BROADCAST.into(), CLIENT_PORT)?;
        Ok(Self { shared, segment, socket })
    }

    /// Asks and listens until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut ask = tokio::time::interval(EVERY);
        ask.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut firmware = FIRMWARE.into_iter().cycle();
        let mut buffer = vec![0; 2048];
        loop {
            let received = tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ask.tick() => {
                    self.ask(None).await;
                    self.ask(firmware.next()).await;
                    continue;
                }
                received = self.socket.recv_from(&mut buffer) => received,
            };
            match received {
                Ok((len, from)) => {
                    let Some(answer) = buffer.get(..len).and_then(Answer::parse) else { continue };
                    // Beside us there is a server that gives addresses, and no other that names boot files.
                    if self.segment.dhcp == Dhcp::Proxy && !answer.is_proxy() {
                        continue;
                    }
                    let server = answer.server.or(match from {
                        SocketAddr::V4(from) => Some(*from.ip()),
                        SocketAddr::V6(_) => None,
                    });
                    if let Some(server) = server {
                        self.shared.foreign.tell(&self.shared, &self.segment, server, &answer.describe());
                    }
                }
                Err(error) => {
                    tracing::debug!(interface = self.segment.interface, %error, "no answer of a server received");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn ask(&self, firmware: Option<u16>) {
        let Some(bytes) = question(self.shared.foreign.probe, firmware) else { return };
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT);
        if let Err(error) = self.socket.send_to(&bytes, to).await {
            tracing::debug!(interface = self.segment.interface, %error, "other servers not asked");
        }
    }
}

/// DHCPDISCOVER (RFC 2131 §4.4.1) that wants the answer broadcast.
/// `firmware`: as PXE firmware of this architecture asks, whom alone a proxyDHCP server answers (PXE 2.1 §2.2.1).
fn question(probe: Probe, firmware: Option<u16>) -> Option<Vec<u8>> {
    let any = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(probe.xid, any, any, any, any, &probe.mac.0);
    message.set_flags(Flags::default().set_broadcast());
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(MessageType::Discover));
    options.insert(DhcpOption::ParameterRequestList(vec![
        OptionCode::SubnetMask,
        OptionCode::Router,
        OptionCode::BootfileName,
    ]));
    if let Some(architecture) = firmware {
        let class = format!("PXEClient:Arch:{architecture:05}:UNDI:003016");
        options.insert(DhcpOption::ClassIdentifier(class.into_bytes()));
        options.insert(DhcpOption::ClientSystemArchitecture(Architecture(architecture)));
        options.insert(DhcpOption::ClientNetworkInterface(1, 3, 16));
        let [a, b, c, d, e, f] = probe.mac.0;
        // A type octet, and a GUID that is nobody's.
        let guid = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d, e, f];
        options.insert(DhcpOption::ClientMachineIdentifier(guid.to_vec()));
    }
    let mut bytes = message.to_vec().ok()?;
    bytes.resize(bytes.len().max(300), 0);
    Some(bytes)
}

/// What a DHCP server's answer to somebody says, in words. `None`: it is no such answer.
#[must_use]
pub fn describe_answer(bytes: &[u8]) -> Option<String> {
    let answer = Answer::parse(bytes)?;
    let server = answer.server.map(|server| format!("{server} ")).unwrap_or_default();
    Some(format!("{server}{}", answer.describe()))
}

/// What a server said to somebody.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    kind: MessageType,
    /// Server identifier (option 54).
    server: Option<Ipv4Addr>,
    /// `yiaddr`; none of a proxyDHCP server.
    address: Ipv4Addr,
    /// `siaddr`, where it is for boot files.
    next_server: Ipv4Addr,
}

impl Answer {
    /// `None`: not an answer of a DHCP server.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, options) = bytes.split_at_checked(HEADER)?;
        if header.first() != Some(&2) || !header.ends_with(&COOKIE) {
            return None;
        }
        let options = options_of(options);
        let kind = match options.get(&53).map(|value| &**value) {
            Some([kind]) => MessageType::from(*kind),
            _ => return None,
        };
        if !matches!(kind, MessageType::Offer | MessageType::Ack | MessageType::Nak) {
            return None;
        }
        let field = |at: usize| header.get(at..)?.first_chunk::<4>().map(|b| Ipv4Addr::from(*b));
        let server = options.get(&54).and_then(|v| <[u8; 4]>::try_from(&**v).ok()).map(Ipv4Addr::from);
        Some(Self { kind, server, address: field(16)?, next_server: field(20)? })
    }

    /// Boot settings without an address.
    fn is_proxy(&self) -> bool {
        self.kind != MessageType::Nak && self.address.is_unspecified()
    }

    fn describe(&self) -> String {
        let mut out = match self.kind {
            MessageType::Offer => "offered",
            MessageType::Ack => "gave",
            _ => "refused",
        }
        .to_owned();
        match (self.kind, self.address.is_unspecified()) {
            (MessageType::Nak, _) => out.push_str(" an address"),
            (_, true) => out.push_str(" boot settings without an address (proxyDHCP)"),
            (_, false) => {
                let _ = write!(out, " {}", self.address);
            }
        }
        if !self.next_server.is_unspecified() {
            let _ = write!(out, ", boot files at {}", self.next_server);
        }
        out
    }
}

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// UEFI and BIOS in turns: many proxies have files for one of them only.
const FIRMWARE: [u16; 2] = [7, 0];
const EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::Request;

    fn answer(kind: u8, address: [u8; 4], options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![2, 1, 6, 0];
        bytes.resize(16, 0);
        bytes.extend(address);
        bytes.resize(236, 0);
        bytes.extend([&COOKIE[..], &[53, 1, kind], options, &[255]].concat());
        bytes
    }

    #[test]
    fn our_question_is_a_discover_that_a_server_reads() {
        let foreign = Foreign::default();
        let firmware = Request::parse(&question(foreign.probe, Some(7)).unwrap()).unwrap();
        assert_eq!((firmware.client, firmware.architecture), (crate::dhcp::Client::Pxe, Some(7)));
        let bytes = question(foreign.probe, None).unwrap();
        let request = Request::parse(&bytes).unwrap();
        assert_eq!((request.kind, request.broadcast), (MessageType::Discover, true));
        assert!(foreign.asked_by_us(request.mac));
        assert_eq!(request.mac.0[0] & 3, 2, "locally administered, not a group");
        assert_eq!(Answer::parse(&bytes), None, "a question is no answer");
    }

    #[test]
    fn answers_say_who_and_what() {
        let offer = Answer::parse(&answer(2, [10, 0, 0, 9], &[54, 4, 10, 0, 0, 1])).unwrap();
        assert_eq!(
            (offer.server, offer.describe().as_str()),
            (Some([10, 0, 0, 1].into()), "offered 10.0.0.9")
        );
        let proxy = Answer::parse(&answer(2, [0; 4], &[54, 1, 10])).unwrap();
        assert_eq!(proxy.server, None);
        assert!(proxy.describe().contains("proxyDHCP") && proxy.is_proxy() && !offer.is_proxy());
        assert_eq!(Answer::parse(&answer(1, [0; 4], &[])), None);
        assert_eq!(Answer::parse(&answer(2, [0; 4], &[])[..239]), None);
        assert_eq!(Answer::parse(&[]), None);
    }
}
