//! Answers IPv6 router solicitations: there is no router here, and DHCPv6 where we serve it.
//!
//! iPXE configures IPv6 before it boots and waits about 12 seconds for a router advertisement when the segment has
//! none. One that says there is nothing to be had (RFC 4861 §4.2: router lifetime 0, M and O clear, no options)
//! ends that wait without making anybody use us as a router. Where addresses and boot files come by DHCPv6, M and O say so,
//! and a prefix that is on the link and makes no addresses by itself (RFC 4861 §4.6.2: L set, A clear) lets a machine find us.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV6},
    sync::Arc,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::{Dhcp6, Segment, socket};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ROUTER_SOLICITATION: u8 = 133;

/// What is said of a segment.
///
/// ```text
/// | type 134 | code 0 | checksum (kernel) | hop limit 0 | M O | router lifetime 0 | reachable 0 | retrans 0 |
/// | type 3 | length 4 | prefix length | L | valid lifetime | preferred lifetime | 0 | prefix, 16 octets |
/// ```
fn advertisement(six: Option<&Dhcp6>) -> Vec<u8> {
    let flags = if six.is_some() { MANAGED | OTHER } else { 0 };
    let mut out = vec![134, 0, 0, 0, 0, flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    if let Some(six) = six {
        out.extend([3, 4, six.prefix.min(96), ON_LINK]);
        out.extend(DAY.to_be_bytes());
        out.extend(DAY.to_be_bytes());
        out.extend([0; 4]);
        out.extend(six.address(Ipv4Addr::UNSPECIFIED).octets());
    }
    out
}

const MANAGED: u8 = 0x80;
const OTHER: u8 = 0x40;
const ON_LINK: u8 = 0x80;
/// Seconds that a prefix stays on the link without another word.
const DAY: u32 = 86_400;

/// Shortest time between two answers on a segment. RFC 4861 §6.2.6 has 3 s for routers; ours costs nothing and
/// machines that start together each wait for it, so only a storm is slowed down.
const MIN_INTERVAL: Duration = Duration::from_millis(20);

/// Between two words that nobody asked for (RFC 4861 §6.2.1, `MaxRtrAdvInterval`), so that a prefix that is on the link stays
/// there.
const PERIOD: Duration = Duration::from_secs(600);

/// When something is said next.
struct Pace {
    /// Also unasked.
    again: bool,
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Pace {
    fn new(again: bool, now: Instant) -> Self {
        Self { again, last: None, due: again.then(|| now + PERIOD) }
    }

    /// Who asks too soon after an answer is answered late, and with it all that ask until then.
    fn asked(&mut self, now: Instant) {
        let soon = self.last.map_or(now, |last| now.max(last + MIN_INTERVAL));
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    fn said(&mut self, now: Instant) {
        (self.last, self.due) = (Some(now), self.again.then(|| now + PERIOD));
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// The advertiser of one segment.
pub(crate) struct Advertiser {
    segment: Arc<Segment>,
    index: u32,
    /// Raw ICMPv6, driven through tokio's datagram type: the calls are the same for any datagram socket.
    socket: UdpSocket,
}

impl Advertiser {
    pub(crate) fn bind(segment: Arc<Segment>) -> io::Result<Self> {
        let index = socket::index_of(&segment.interface)?;
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(segment.interface.as_bytes()))?;
        // RFC 4861 §6.1.2: receivers drop neighbour discovery that could have crossed a router.
        socket.set_multicast_hops_v6(255)?;
        socket.set_unicast_hops_v6(255)?;
        socket.set_multicast_loop_v6(false)?;
        socket.set_multicast_if_v6(index)?;
        socket.join_multicast_v6(&ALL_ROUTERS, index)?;
        Ok(Self { segment, index, socket: UdpSocket::from_std(socket.into())? })
    }

    /// Answers until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut pace = Pace::new(self.segment.dhcp6.is_some(), Instant::now());
        loop {
            let mut kind = [0u8; 1]; // the rest of the packet is cut off: nothing in it changes the answer
            let received = tokio::select! {
                () = shutdown.cancelled() => return,
                () = at(pace.due) => {
                    pace.said(Instant::now());
                    self.advertise().await;
                    continue;
                }
                received = self.socket.recv(&mut kind) => received,
            };
            match received {
                Ok(1) if kind == [ROUTER_SOLICITATION] => pace.asked(Instant::now()),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(interface = self.segment.interface, %error, "router solicitation not received");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn advertise(&self) {
        let to = SocketAddrV6::new(ALL_NODES, 0, 0, self.index);
        let words = advertisement(self.segment.dhcp6.as_ref());
        if let Err(error) = self.socket.send_to(&words, to).await {
            // Without a link-local address there is no legal source. Machines then wait, and boot all the same.
            tracing::debug!(interface = self.segment.interface, %error, "router advertisement not sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_answered_and_a_storm_is_answered_at_once_and_then_together() {
        let start = Instant::now();
        let mut pace = Pace::new(false, start);
        assert_eq!(pace.due, None);
        pace.asked(start);
        assert_eq!(pace.due, Some(start));
        pace.said(start);
        assert_eq!(pace.due, None);
        for later in [1, 2, 19] {
            pace.asked(start + Duration::from_millis(later));
            assert_eq!(pace.due, Some(start + MIN_INTERVAL));
        }
        pace.said(start + MIN_INTERVAL);
        assert_eq!(pace.due, None);
    }

    #[test]
    fn a_prefix_is_told_again_before_it_ends() {
        let start = Instant::now();
        let mut pace = Pace::new(true, start);
        assert_eq!(pace.due, Some(start + PERIOD));
        pace.asked(start + MIN_INTERVAL);
        assert_eq!(pace.due, Some(start + MIN_INTERVAL));
        pace.said(start + MIN_INTERVAL);
        assert_eq!(pace.due, Some(start + MIN_INTERVAL + PERIOD));
        assert!(PERIOD.as_secs() * 3 < DAY.into());
    }
}
