//! What happened on the way to a booted machine, told so that nobody needs tcpdump.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    mem::{Discriminant, discriminant},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::broadcast;

use crate::{MacAddr, metrics::Counters};

/// Events kept for each port: several whole boots, each is about ten events.
const RING: usize = 128;
/// Events kept of all ports together: a row of racks that powers on.
const LOG: usize = 4096;
/// Ports with a ring. Those first seen longest ago go first, so a storm of made-up addresses cannot grow it.
const RINGS: usize = 4096;
/// Events of one kind and port in a second; a boot has about ten in all. Beyond it they are dropped, and one that
/// says so is kept, so that a machine gone wild does not fill the log. Each kind by itself: rubbish in a machine's
/// name must not hide its real steps.
const PER_SECOND: u32 = 50;
/// Events a slow subscriber may be behind before it loses some.
const CHANNEL: usize = 1024;

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
        /// Its address.
        server: Ipv4Addr,
        /// The network.
        network: String,
    },
    /// An address of a pool is used by somebody who did not get it from us; it is left alone.
    AddressInUse,
    /// A machine that is not in the table. Told once a minute for each address, firmware and systems apart.
    UnknownMac {
        /// The network it is on.
        network: String,
        /// Whether it is firmware that wants to boot, not a system that wants an address.
        boots: bool,
    },
    /// A machine that is not in the table, and no address of the pool is free. Told once a minute.
    PoolExhausted,
    /// A known machine on a network where nothing is reserved for it.
    WrongNetwork,
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
    /// More than fifty events of one kind and port in a second: the rest of that second is not told.
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
            | Self::AddressInUse
            | Self::UnknownMac { .. }
            | Self::PoolExhausted
            | Self::WrongNetwork
            | Self::UnknownArchitecture { .. }
            | Self::Flood
            | Self::SegmentUp
            | Self::SegmentDown => true,
            Self::TftpStart
            | Self::TftpDone { .. }
            | Self::TftpFailed { .. }
            | Self::TftpRefused
            | Self::TftpFull
            | Self::TftpScript
            | Self::HttpScript
            | Self::HttpScriptRefused
            | Self::HttpFirmware { .. }
            | Self::HttpArtifact { .. } => false,
        }
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
            Self::AddressInUse => "address in use",
            Self::UnknownMac { .. } => "unknown MAC",
            Self::WrongNetwork => "wrong network",
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
            Self::Flood => "flood",
            Self::SegmentUp => "segment up",
            Self::PoolExhausted => "address pool exhausted",
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
    order: VecDeque<MacAddr>,
    /// The last of all ports, and of none.
    log: VecDeque<Arc<BootEvent>>,
    sequence: u64,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<BootEvent>>,
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
                let ring = rings.ring(mac);
                match ring.admit(&event.kind, Instant::now()) {
                    Admit::Yes => {}
                    Admit::Last => {
                        event.detail = format!("more than {PER_SECOND} in a second: {}", event.kind);
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
        let mac = mac.map(|m| m.to_string());
        tracing::info!(node.id = node, mac, kind = %event.kind, detail = event.detail, "boot event");
    }

    /// The last events of all ports, oldest first.
    pub(crate) fn log(&self) -> Vec<Arc<BootEvent>> {
        self.lock().log.iter().cloned().collect()
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
    fn ring(&mut self, mac: MacAddr) -> &mut Ring {
        if !self.by_mac.contains_key(&mac) {
            if self.order.len() >= RINGS
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_mac.remove(&oldest);
            }
            self.order.push_back(mac);
        }
        self.by_mac.entry(mac).or_default()
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
        match *count {
            0..=PER_SECOND => Admit::Yes,
            n if n == PER_SECOND + 1 => Admit::Last,
            _ => Admit::No,
        }
    }

    fn push(&mut self, event: Arc<BootEvent>) {
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

    #[test]
    fn rings_are_bounded_in_both_directions() {
        let events = Events::new();
        let mac = |n: u32| {
            let [a, b, c, d] = n.to_be_bytes();
            MacAddr([2, 0, a, b, c, d])
        };
        for n in 0..5000 {
            events.emit(Some(mac(n)), None, unknown(), String::new());
        }
        assert_eq!(events.lock().by_mac.len(), RINGS);
        let log = events.log();
        assert_eq!(log.len(), LOG);
        let numbers: Vec<_> = log.iter().map(|event| event.sequence).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1) && numbers.ends_with(&[5000]));
        assert_eq!((events.trace(mac(0)).len(), events.trace(mac(4999)).len()), (0, 1));
        let mut rings = Rings::default();
        for _ in 0..500 {
            rings.ring(mac(1)).push(events.trace(mac(4999)).remove(0));
        }
        assert_eq!(rings.ring(mac(1)).events.len(), RING);
    }

    #[test]
    fn a_flood_is_one_event() {
        let mut ring = Ring::default();
        let now = Instant::now();
        let mut told = |kind, now| matches!(ring.admit(kind, now), Admit::Yes | Admit::Last);
        let refused = EventKind::TftpRefused;
        assert_eq!((0..500).filter(|_| told(&refused, now)).count(), PER_SECOND as usize + 1);
        assert!(told(&EventKind::Ack, now));
        assert!(told(&refused, now + Duration::from_secs(1)));
    }
}
