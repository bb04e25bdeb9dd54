//! What happened on the way to a booted machine, told so that nobody needs tcpdump.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    mem::{Discriminant, discriminant},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::broadcast;

use crate::{MacAddr, metrics::Counters};

/// Events kept for each port: several whole boots, each is about ten events.
const RING: usize = 128;
/// Of one kind in a ring: of what anybody can cause for a port, such as a refused script, so much and no more, or it
/// would push out what the port itself did.
const ALIKE: usize = 16;
/// Events kept of all ports together: a row of racks that powers on.
const LOG: usize = 4096;
/// Ports of nodes with a ring. Those first seen longest ago go first.
const RINGS: usize = 4096;
/// Ports of nobody with a ring: made-up addresses push out each other, and no node's.
const STRANGERS: usize = 1024;
/// Events of one kind and port in a second; a boot has about ten in all. Beyond it they are dropped, and one that
/// says so is kept, so that a machine gone wild does not fill the log. Each kind by itself: rubbish in a machine's
/// name must not hide its real steps.
const PER_SECOND: u32 = 50;
/// The same of what is refused or did not leave, which a machine hears once a boot.
const REFUSALS_PER_SECOND: u32 = 5;
/// Senders without a port whose events of one kind are told, in a minute, and how often each.
const UNNAMED: usize = 256;
const UNNAMED_PER_MINUTE: u32 = 8;
/// Events a slow subscriber may be behind before it loses some.
const CHANNEL: usize = 1024;
const MINUTE: Duration = Duration::from_secs(60);

/// One thing that happened.
#[derive(Debug, Clone)]
pub struct BootEvent {
    /// When.
    pub at: SystemTime,
    /// The port it is about, if that is known.
    pub mac: Option<MacAddr>,
    /// Its node, if the port is in the table.
    pub node: Option<String>,
    /// What.
    pub kind: EventKind,
    /// The rest, for people. Never a secret.
    pub detail: String,
    /// Grows by one with each event of this process.
    pub sequence: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A machine looks for an address (DHCPDISCOVER).
    Discover,
    /// We offered one.
    Offer,
    /// It asks for one, or to keep one (DHCPREQUEST).
    Request,
    /// It has one.
    Ack,
    /// It may not have the one it asked for.
    Nak,
    /// It asked for settings only (DHCPINFORM), and got them.
    Inform,
    /// It found its address in use by another machine (DHCPDECLINE).
    Decline,
    /// It gave its address back.
    Release,
    /// A DHCPv6 message, of a machine or to it, by its name in RFC 8415 §7.3.
    Dhcp6(&'static str),
    /// It took another server's offer.
    OtherServer,
    /// A DHCP server that is not ours answers on a network that is. Told once a minute for each.
    ForeignServer {
        /// Its address; of a DHCPv6 server the link-local one.
        server: IpAddr,
        /// The network.
        network: String,
    },
    /// A router advertises on a network whose IPv6 is ours, and says otherwise. Told once a minute for each.
    RogueRouter {
        /// Its link-local address.
        router: Ipv6Addr,
        /// The network.
        network: String,
    },
    /// An address of ours is used by somebody who did not get it from us. One of a pool is left alone.
    AddressInUse,
    /// A lease could not be written to disk, so its machine was told nothing.
    LeaseNotWritten,
    /// What a machine of the table was to be told did not leave.
    AnswerNotSent,
    /// A machine that is not in the table. Told once a minute for each address, firmware and systems apart.
    UnknownMac {
        /// The network it is on.
        network: String,
        /// Whether it is firmware that wants to boot, not a system that wants an address.
        boots: bool,
    },
    /// A machine that is not in the table has an address of the pool, or has it again.
    Guest {
        /// The network it is on.
        network: String,
        /// Its address.
        ip: Ipv4Addr,
        /// Whether it is firmware that wants to boot.
        boots: bool,
        /// Whose BMC it calls itself.
        bmc: Option<&'static str>,
    },
    /// A machine that is not in the table, and no address of the pool is free. Told once a minute.
    PoolExhausted {
        /// The network whose pool it is.
        network: String,
    },
    /// A known machine on a network where nothing is reserved for it.
    WrongNetwork,
    /// Firmware that wants to boot, on a network of BMCs, where it gets no answer. Told once a minute for each address.
    BootsOnManagement {
        /// The network.
        network: String,
    },
    /// A relay agent of a subnet that is none of ours. Told once a minute for each.
    UnknownRelay {
        /// Its address (`giaddr`).
        relay: Ipv4Addr,
    },
    /// Firmware of a kind we have no boot file for (option 93).
    UnknownArchitecture {
        /// The number, RFC 4578 §2.1 and IANA's registry.
        architecture: u16,
    },
    /// A file is being fetched by TFTP.
    TftpStart,
    /// A file was fetched by TFTP.
    TftpDone {
        /// Bytes acknowledged.
        bytes: u64,
        /// From request to last ACK.
        elapsed: Duration,
    },
    /// A transfer broke off.
    TftpFailed {
        /// Bytes acknowledged.
        bytes: u64,
    },
    /// A TFTP request was refused.
    TftpRefused,
    /// So many transfers are under way that requests are not answered until some end. Told once a minute.
    TftpFull,
    /// GRUB's boot script was given out by TFTP.
    TftpScript,
    /// A boot script was given out.
    HttpScript,
    /// A boot script was refused.
    HttpScriptRefused,
    /// Boot firmware was fetched over HTTP.
    HttpFirmware {
        /// Name of the file.
        name: String,
        /// Bytes sent.
        bytes: u64,
    },
    /// A kernel or initrd was fetched.
    HttpArtifact {
        /// Served name.
        name: String,
        /// Bytes sent; less than its size when the machine broke off.
        bytes: u64,
    },
    /// A packet that nobody can read was dropped. Told once a minute and sender, of machines of the table.
    Malformed {
        /// What it was to be.
        protocol: &'static str,
    },
    /// More than fifty events of one kind and port in a second, or five refusals: the rest of that second is not told.
    Flood,
    /// Listening on an interface.
    SegmentUp,
    /// Not listening on an interface (any more).
    SegmentDown,
}

impl EventKind {
    /// Whether it is about addresses: DHCP, its pools, and its servers.
    #[must_use]
    pub fn is_dhcp(&self) -> bool {
        match self {
            Self::Discover
            | Self::Offer
            | Self::Request
            | Self::Ack
            | Self::Nak
            | Self::Inform
            | Self::Decline
            | Self::Release
            | Self::Dhcp6(_)
            | Self::OtherServer
            | Self::ForeignServer { .. }
            | Self::RogueRouter { .. }
            | Self::AddressInUse
            | Self::LeaseNotWritten
            | Self::AnswerNotSent
            | Self::UnknownMac { .. }
            | Self::Guest { .. }
            | Self::PoolExhausted { .. }
            | Self::WrongNetwork
            | Self::BootsOnManagement { .. }
            | Self::UnknownRelay { .. }
            | Self::UnknownArchitecture { .. }
            | Self::Malformed { protocol: "dhcp" | "proxydhcp" | "dhcpv6" }
            | Self::Flood
            | Self::SegmentUp
            | Self::SegmentDown => true,
            Self::TftpStart
            | Self::TftpDone { .. }
            | Self::TftpFailed { .. }
            | Self::TftpRefused
            | Self::TftpFull
            | Self::Malformed { .. }
            | Self::TftpScript
            | Self::HttpScript
            | Self::HttpScriptRefused
            | Self::HttpFirmware { .. }
            | Self::HttpArtifact { .. } => false,
        }
    }
}

impl EventKind {
    /// Whether it is told when an answer has left, and not before.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self, Self::Offer | Self::Ack | Self::Nak | Self::Inform | Self::Guest { .. })
    }
}

impl EventKind {
    /// Whether a boot script went out, and with it the secret that was in it.
    #[must_use]
    pub fn gave_script(&self) -> bool {
        matches!(self, Self::HttpScript | Self::TftpScript)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discover => "DHCPDISCOVER",
            Self::Offer => "DHCPOFFER",
            Self::Request => "DHCPREQUEST",
            Self::Ack => "DHCPACK",
            Self::Nak => "DHCPNAK",
            Self::Inform => "DHCPINFORM",
            Self::Decline => "DHCPDECLINE",
            Self::Release => "DHCPRELEASE",
            Self::Dhcp6(message) => return write!(f, "DHCPv6 {message}"),
            Self::OtherServer => "other DHCP server",
            Self::ForeignServer { server, network } => {
                return write!(f, "foreign DHCP server {server} on {network}");
            }
            Self::RogueRouter { router, network } => {
                return write!(f, "rogue router {router} on {network}");
            }
            Self::AddressInUse => "address in use",
            Self::LeaseNotWritten => "lease not written",
            Self::AnswerNotSent => "answer not sent",
            Self::UnknownMac { .. } => "unknown MAC",
            Self::Guest { ip, bmc: None, .. } => return write!(f, "{ip} of the pool"),
            Self::Guest { ip, bmc: Some(bmc), .. } => return write!(f, "{ip} of the pool to {bmc}"),
            Self::WrongNetwork => "wrong network",
            Self::BootsOnManagement { network } => return write!(f, "boots on management network {network}"),
            Self::UnknownRelay { relay } => return write!(f, "unknown relay {relay}"),
            Self::UnknownArchitecture { architecture } => {
                return write!(f, "unknown architecture {architecture}");
            }
            Self::TftpStart => "TFTP begins",
            Self::TftpDone { bytes, elapsed } => {
                return write!(f, "TFTP done, {bytes} bytes in {} ms", elapsed.as_millis());
            }
            Self::TftpFailed { bytes } => return write!(f, "TFTP broke off after {bytes} bytes"),
            Self::TftpRefused => "TFTP refused",
            Self::TftpFull => "TFTP is full",
            Self::TftpScript => "TFTP boot script",
            Self::HttpScript => "HTTP boot script",
            Self::HttpScriptRefused => "HTTP boot script refused",
            Self::HttpFirmware { name, bytes } | Self::HttpArtifact { name, bytes } => {
                return write!(f, "HTTP {name}, {bytes} bytes");
            }
            Self::Malformed { protocol } => return write!(f, "malformed {protocol} packet"),
            Self::Flood => "flood",
            Self::SegmentUp => "segment up",
            Self::PoolExhausted { .. } => "address pool exhausted",
            Self::SegmentDown => "segment down",
        })
    }
}

/// Where events go: a channel for those who follow, a ring for each port and one for all for those who ask later.
#[derive(Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<Arc<BootEvent>>,
    pub(crate) counters: Counters,
    rings: Mutex<Rings>,
}

#[derive(Debug, Default)]
struct Rings {
    by_mac: HashMap<MacAddr, Ring>,
    /// Ports of nodes, and of nobody, in the order in which they were first seen so.
    nodes: VecDeque<MacAddr>,
    strangers: VecDeque<MacAddr>,
    /// What senders without a port did in the minute that began then.
    unnamed: HashMap<(IpAddr, Discriminant<EventKind>), u32>,
    unnamed_since: Option<Instant>,
    /// The last of all ports, and of none.
    log: VecDeque<Arc<BootEvent>>,
    sequence: u64,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<BootEvent>>,
    /// It has been a node's.
    node: bool,
    /// Start of the current second, and its events by kind.
    second: Option<Instant>,
    counts: HashMap<Discriminant<EventKind>, u32>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::channel(CHANNEL).0, counters: Counters::default(), rings: Mutex::default() }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<BootEvent>> {
        self.sender.subscribe()
    }

    /// Records an event. Everything we log about booting is logged here, once.
    pub(crate) fn emit(&self, mac: Option<MacAddr>, node: Option<&str>, kind: EventKind, detail: String) {
        self.counters.count(&kind);
        let node_name = node.map(str::to_owned);
        let mut event = BootEvent { at: SystemTime::now(), mac, node: node_name, kind, detail, sequence: 0 };
        let mut rings = self.lock();
        event.sequence = rings.sequence + 1;
        let event = match mac {
            Some(mac) => {
                let ring = rings.ring(mac, event.node.is_some());
                match ring.admit(&event.kind, Instant::now()) {
                    Admit::Yes => {}
                    Admit::Last => {
                        event.detail = format!("more of these in a second than are told: {}", event.kind);
                        event.kind = EventKind::Flood;
                    }
                    Admit::No => return,
                }
                let event = Arc::new(event);
                ring.push(Arc::clone(&event));
                event
            }
            None => Arc::new(event),
        };
        rings.sequence = event.sequence;
        if rings.log.len() >= LOG {
            rings.log.pop_front();
        }
        rings.log.push_back(Arc::clone(&event));
        // Under the lock: those who follow get them in order.
        let _ = self.sender.send(Arc::clone(&event)); // nobody listens: fine
        drop(rings);
        tracing::info!(node.id = node, mac = mac.map(|mac| mac.to_string()), kind = %event.kind, detail = event.detail, "boot event");
    }

    /// Records what an address did: of its port where that is known, else seldom, since anybody has an address.
    pub(crate) fn emit_from(
        &self,
        from: IpAddr,
        (mac, node): (Option<MacAddr>, Option<String>),
        kind: EventKind,
        detail: String,
    ) {
        if mac.is_some() || self.lock().admit_unnamed(from, &kind, Instant::now()) {
            self.emit(mac, node.as_deref(), kind, detail);
        }
    }

    /// The last events of all ports, oldest first.
    pub(crate) fn log(&self) -> Vec<Arc<BootEvent>> {
        self.lock().log.iter().cloned().collect()
    }

    /// Ports with a trace, events in all of them, and in the log of all.
    pub(crate) fn sizes(&self) -> [usize; 3] {
        let rings = self.lock();
        let events = rings.by_mac.values().map(|ring| ring.events.len()).sum();
        [rings.by_mac.len(), events, rings.log.len()]
    }

    pub(crate) fn trace(&self, mac: MacAddr) -> Vec<Arc<BootEvent>> {
        self.lock().by_mac.get(&mac).map(|ring| ring.events.iter().cloned().collect()).unwrap_or_default()
    }

    /// A poisoned lock still guards whole events: every change below is one push.
    fn lock(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rings {
    fn ring(&mut self, mac: MacAddr, node: bool) -> &mut Ring {
        let known = self.by_mac.get(&mac).map(|ring| ring.node);
        match (node, known) {
            (true, None | Some(false)) => {
                self.make_room(true);
                self.nodes.push_back(mac);
            }
            (false, None) => {
                self.make_room(false);
                self.strangers.push_back(mac);
            }
            (_, Some(_)) => {}
        }
        let ring = self.by_mac.entry(mac).or_default();
        ring.node |= node;
        ring
    }

    fn make_room(&mut self, nodes: bool) {
        let (order, most) = match nodes {
            true => (&mut self.nodes, RINGS),
            false => (&mut self.strangers, STRANGERS),
        };
        while order.len() >= most {
            let Some(oldest) = order.pop_front() else { return };
            // A stranger that became a node's is among the nodes by now.
            if self.by_mac.get(&oldest).is_some_and(|ring| ring.node == nodes) {
                self.by_mac.remove(&oldest);
            }
        }
    }

    fn admit_unnamed(&mut self, from: IpAddr, kind: &EventKind, now: Instant) -> bool {
        if self.unnamed_since.is_none_or(|start| now.saturating_duration_since(start) >= MINUTE) {
            self.unnamed_since = Some(now);
            self.unnamed.clear();
        }
        let key = (from, discriminant(kind));
        if self.unnamed.len() >= UNNAMED && !self.unnamed.contains_key(&key) {
            return false;
        }
        let count = self.unnamed.entry(key).or_default();
        *count = count.saturating_add(1);
        *count <= UNNAMED_PER_MINUTE
    }
}

enum Admit {
    Yes,
    Last,
    No,
}

impl Ring {
    fn admit(&mut self, kind: &EventKind, now: Instant) -> Admit {
        if self.second.is_none_or(|start| now.duration_since(start) >= Duration::from_secs(1)) {
            self.second = Some(now);
            self.counts.clear();
        }
        let count = self.counts.entry(discriminant(kind)).or_default();
        *count = count.saturating_add(1);
        let most = match kind {
            EventKind::HttpScriptRefused
            | EventKind::TftpRefused
            | EventKind::AnswerNotSent
            | EventKind::LeaseNotWritten => REFUSALS_PER_SECOND,
            _ => PER_SECOND,
        };
        match *count {
            n if n <= most => Admit::Yes,
            n if n == most + 1 => Admit::Last,
            _ => Admit::No,
        }
    }

    fn push(&mut self, event: Arc<BootEvent>) {
        let kind = discriminant(&event.kind);
        let mut alike = self.events.iter().enumerate().filter(|(_, e)| discriminant(&e.kind) == kind);
        if let Some((first, _)) = alike.next()
            && alike.count() + 1 >= ALIKE
        {
            self.events.remove(first);
        }
        if self.events.len() >= RING {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown() -> EventKind {
        EventKind::UnknownMac { network: "provisioning".into(), boots: true }
    }

    fn mac(n: u32) -> MacAddr {
        let [a, b, c, d] = n.to_be_bytes();
        MacAddr([2, 0, a, b, c, d])
    }

    #[test]
    fn rings_are_bounded_in_both_directions() {
        let events = Events::new();
        for n in 0..5000 {
            events.emit(Some(mac(n)), None, unknown(), String::new());
        }
        assert_eq!(events.lock().by_mac.len(), STRANGERS);
        let log = events.log();
        assert_eq!(log.len(), LOG);
        let numbers: Vec<_> = log.iter().map(|event| event.sequence).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1) && numbers.ends_with(&[5000]));
        assert_eq!((events.trace(mac(0)).len(), events.trace(mac(4999)).len()), (0, 1));
        for n in 0..5000 {
            events.emit(Some(mac(n)), Some("node"), EventKind::Discover, String::new());
        }
        let rings = events.lock();
        assert!(rings.by_mac.len() <= RINGS + STRANGERS);
        assert!(rings.nodes.len() <= RINGS && rings.strangers.len() <= STRANGERS);
        drop(rings);
        let mut ring = Ring::default();
        for _ in 0..50 {
            for kind in [EventKind::Discover, EventKind::Offer, EventKind::Request, EventKind::Ack] {
                ring.push(Arc::new(BootEvent { kind, ..BootEvent::clone(&log[0]) }));
            }
        }
        assert_eq!(ring.events.len(), 4 * ALIKE);
        assert!(ring.events.len() <= RING);
    }

    #[test]
    fn strangers_push_out_no_trace_of_a_node() {
        let events = Events::new();
        let steps = [EventKind::Discover, EventKind::Offer, EventKind::Request, EventKind::Ack];
        // Seen before it was a node's.
        events.emit(Some(mac(0)), None, unknown(), String::new());
        for kind in &steps {
            events.emit(Some(mac(0)), Some("node"), kind.clone(), String::new());
        }
        for n in 1..=10_000 {
            events.emit(Some(mac(n)), None, EventKind::Discover, String::new());
        }
        // As many in a second as are told, for a minute.
        let refused =
            Arc::new(BootEvent { kind: EventKind::HttpScriptRefused, ..(*events.log()[0]).clone() });
        for _ in 0..300 {
            events.lock().ring(mac(0), true).push(Arc::clone(&refused));
        }
        let kinds: Vec<_> = events.trace(mac(0)).iter().map(|event| event.kind.clone()).collect();
        assert_eq!(kinds[..5], [&[unknown()], &steps[..]].concat());
        assert_eq!(kinds.len(), 5 + ALIKE);
    }

    #[test]
    fn addresses_of_no_port_do_not_fill_the_log() {
        let events = Events::new();
        let fetched = || EventKind::HttpArtifact { name: "kernel".into(), bytes: 9 };
        let from = |n: u32| IpAddr::from(Ipv4Addr::from_bits(n));
        for _ in 0..10_000 {
            events.emit_from(from(1), (None, None), fetched(), String::new());
        }
        assert_eq!(events.log().len(), UNNAMED_PER_MINUTE as usize);
        for n in 0..10_000 {
            events.emit_from(from(n), (None, None), fetched(), String::new());
        }
        assert!(events.log().len() <= UNNAMED + UNNAMED_PER_MINUTE as usize);
        events.emit_from(from(1), (Some(mac(1)), Some("node".into())), fetched(), String::new());
        assert_eq!(events.trace(mac(1)).len(), 1, "a machine's are told");
        let mut rings = Rings::default();
        let now = Instant::now();
        assert!(
            (0..=UNNAMED_PER_MINUTE).map(|_| rings.admit_unnamed(from(1), &fetched(), now)).any(|told| !told)
        );
        assert!(rings.admit_unnamed(from(1), &fetched(), now + MINUTE));
    }

    #[test]
    fn a_flood_is_one_event() {
        let mut ring = Ring::default();
        let now = Instant::now();
        let mut told = |kind, now| matches!(ring.admit(kind, now), Admit::Yes | Admit::Last);
        let (refused, found) = (EventKind::TftpRefused, EventKind::Discover);
        assert_eq!((0..500).filter(|_| told(&refused, now)).count(), REFUSALS_PER_SECOND as usize + 1);
        assert_eq!((0..500).filter(|_| told(&found, now)).count(), PER_SECOND as usize + 1);
        assert!(told(&EventKind::Ack, now));
        assert!(told(&refused, now + Duration::from_secs(1)));
    }
}
