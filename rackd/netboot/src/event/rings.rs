//! Where events go, and which of them are kept: bounded, whatever comes from the wire.

use std::{
    collections::{HashMap, VecDeque},
    mem::{Discriminant, discriminant},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::broadcast;

use super::{BootEvent, EventKind};
use crate::decode::Packet;
use crate::{MacAddr, PacketOf, metrics::Counters};

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
/// Bytes of packets that are kept of nodes: all that a thousand machines say and hear that power on at once, eight of six hundred
/// bytes each. And of strangers, which push out no node's.
const NODES_PACKETS: usize = 8 << 20;
const STRANGERS_PACKETS: usize = 2 << 20;
/// Events a slow subscriber may be behind before it loses some.
const CHANNEL: usize = 1024;
const MINUTE: Duration = Duration::from_secs(60);

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
    /// The packets of the last events, of nodes and of strangers.
    nodes_packets: Packets,
    strangers_packets: Packets,
}

#[derive(Debug, Default)]
struct Packets {
    kept: VecDeque<Arc<Packet>>,
    bytes: usize,
}

impl Packets {
    /// Events of one packet come together.
    fn keep(&mut self, packet: &Arc<Packet>, most: usize) {
        if self.kept.back().is_some_and(|last| Arc::ptr_eq(last, packet)) {
            return;
        }
        self.bytes += packet.size();
        self.kept.push_back(Arc::clone(packet));
        while self.bytes > most
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(oldest.size());
        }
    }
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<BootEvent>>,
    /// It has been a node's.
    node: bool,
    /// Start of the current second, and its events by kind.
    second: Option<Instant>,
    /// A handful at a time: a boot has about ten kinds.
    counts: Vec<(Discriminant<EventKind>, u32)>,
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
        self.emit_packet((mac, node), kind, detail, None);
    }

    /// The same of a packet, which is kept for who asks what was in it.
    pub(crate) fn emit_packet(
        &self,
        (mac, node): (Option<MacAddr>, Option<&str>),
        kind: EventKind,
        detail: String,
        packet: Option<&Arc<Packet>>,
    ) {
        self.counters.count(&kind);
        let node_name = node.map(str::to_owned);
        let its = packet.map(PacketOf::new).unwrap_or_default();
        let at = SystemTime::now();
        let mut event = BootEvent { at, mac, node: node_name, kind, detail, sequence: 0, packet: its };
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
        if let Some(packet) = packet {
            match event.node {
                Some(_) => rings.nodes_packets.keep(packet, NODES_PACKETS),
                None => rings.strangers_packets.keep(packet, STRANGERS_PACKETS),
            }
        }
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

    /// What one port did, with all that was in its packets.
    pub(crate) fn trace(&self, mac: MacAddr) -> Vec<Arc<BootEvent>> {
        let events: Vec<_> = {
            let rings = self.lock();
            rings.by_mac.get(&mac).map(|ring| ring.events.iter().cloned().collect()).unwrap_or_default()
        };
        let whole = |event: Arc<BootEvent>| event.told_whole().map_or(event, Arc::new);
        events.into_iter().map(whole).collect()
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
        let count = self.count(kind);
        let most = match kind {
            EventKind::HttpScriptRefused
            | EventKind::HttpFailed { .. }
            | EventKind::TlsFailed
            | EventKind::IscsiRefused
            | EventKind::AgentRefused
            | EventKind::TftpRefused
            | EventKind::AnswerNotSent
            | EventKind::Ignored { .. }
            | EventKind::LeaseNotWritten => REFUSALS_PER_SECOND,
            _ => PER_SECOND,
        };
        match count {
            n if n <= most => Admit::Yes,
            n if n == most + 1 => Admit::Last,
            _ => Admit::No,
        }
    }

    /// One more of a kind in this second: how many that makes.
    fn count(&mut self, kind: &EventKind) -> u32 {
        let kind = discriminant(kind);
        if let Some((_, count)) = self.counts.iter_mut().find(|(other, _)| *other == kind) {
            *count = count.saturating_add(1);
            return *count;
        }
        self.counts.push((kind, 1));
        1
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
    use std::net::Ipv4Addr;

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
        // Two events of each packet; a node's packet outlasts those of strangers.
        let said = |n, node: Option<&str>| {
            let packet = Packet::dhcp6(&[&[1, 0, 0, 7][..], &[0; 600]].concat());
            for kind in [EventKind::Discover, EventKind::Offer] {
                events.emit_packet((Some(mac(n)), node), kind, "said".into(), Some(&packet));
            }
        };
        said(9000, Some("node"));
        (0..6000).for_each(|n| said(n, None));
        let kept = events.lock().strangers_packets.kept.len();
        assert!((2000..=STRANGERS_PACKETS / 600).contains(&kept), "{kept}");
        for n in [5999, 9000] {
            let told = events.trace(mac(n)).last().unwrap().detail.clone();
            assert!(told.starts_with("said [SOLICIT, xid 0x000007"), "{n}: {told}");
        }
        // Of a thousand machines that power on at once each packet is there.
        for _ in 0..8 {
            (10_000..11_000).for_each(|n| said(n, Some("node")));
        }
        let whole = |n| events.trace(mac(n)).iter().all(|event| event.detail.contains("SOLICIT"));
        assert!((10_000..11_000).all(whole));
        // Whoever follows is told in short.
        assert_eq!(events.log().last().unwrap().detail, "said");
        let events = Events::new();
        for n in 0..5000 {
            events.emit(Some(mac(n)), None, unknown(), String::new());
        }
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
