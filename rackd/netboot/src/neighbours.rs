//! Who has which address on our interfaces, as the kernel remembers it: whoever speaks to us by IP was asked by ARP
//! before it was answered.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::MacAddr;

/// The kernel's table, read seldom.
#[derive(Debug, Default)]
pub(crate) struct Neighbours(Mutex<Cache>);

#[derive(Debug, Default)]
struct Cache {
    read: Option<Instant>,
    known: HashMap<Ipv4Addr, MacAddr>,
    /// Until then it was read already, were it read at an even pace.
    paid: Option<Instant>,
}

impl Cache {
    /// Whether it may be read now: who is not in it is asked for again, and anybody can make up who that is.
    fn may_read(&mut self, now: Instant) -> bool {
        let paid = self.paid.map_or(now, |paid| paid.max(now));
        let may = paid.saturating_duration_since(now) <= READ_EVERY * AT_ONCE;
        if may {
            self.paid = Some(paid + READ_EVERY);
        }
        may
    }
}

impl Neighbours {
    /// The port that has an address which spoke to us just now. An address that two interfaces know belongs to nobody.
    pub(crate) fn who(&self, ip: Ipv4Addr, now: Instant) -> Option<MacAddr> {
        self.look(ip, now, |_| true)
    }

    /// Whether an address that spoke to us just now is this port's.
    pub(crate) fn has(&self, mac: MacAddr, ip: Ipv4Addr, now: Instant) -> bool {
        self.look(ip, now, |known| known == mac) == Some(mac)
    }

    /// What is not `enough` as it was read is read again: the address may have come since.
    fn look(&self, ip: Ipv4Addr, now: Instant, enough: impl Fn(MacAddr) -> bool) -> Option<MacAddr> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = cache.read.is_some_and(|at| now.saturating_duration_since(at) < FRESH);
        let known = cache.known.get(&ip).copied();
        if (fresh && known.is_some_and(enough)) || !cache.may_read(now) {
            return known;
        }
        (cache.read, cache.known) = (Some(now), read_all());
        cache.known.get(&ip).copied()
    }
}

/// Of one interface.
pub(crate) fn read(interface: &str) -> HashMap<Ipv4Addr, MacAddr> {
    let text = text();
    entries(&text).filter(|(_, _, device)| *device == interface).map(|(ip, mac, _)| (ip, mac)).collect()
}

fn read_all() -> HashMap<Ipv4Addr, MacAddr> {
    single(&text())
}

fn single(text: &str) -> HashMap<Ipv4Addr, MacAddr> {
    let mut out: HashMap<Ipv4Addr, Option<MacAddr>> = HashMap::new();
    for (ip, mac, _) in entries(text) {
        out.entry(ip).and_modify(|known| *known = known.filter(|known| *known == mac)).or_insert(Some(mac));
    }
    out.into_iter().filter_map(|(ip, mac)| Some((ip, mac?))).collect()
}

/// A read of some kilobytes from memory.
fn text() -> String {
    // Of this thread: processes with threads in several network namespaces exist, in tests.
    std::fs::read_to_string("/proc/thread-self/net/arp").unwrap_or_else(|error| {
        tracing::debug!(%error, "neighbours cannot be read");
        String::new()
    })
}

/// Complete entries of `/proc/net/arp`.
///
/// ```text
/// IP address       HW type     Flags       HW address            Mask     Device
/// 10.77.0.50       0x1         0x2         52:54:00:77:00:01     *        s0
/// ```
fn entries(text: &str) -> impl Iterator<Item = (Ipv4Addr, MacAddr, &str)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let ip = words.next()?.parse().ok()?;
        let flags = words.nth(1)?.strip_prefix("0x")?;
        let mac = words.next()?.parse().ok()?;
        // ATF_COM: somebody answered.
        let complete = u32::from_str_radix(flags, 16).ok()? & 2 != 0;
        Some((ip, mac, words.nth(1)?)).filter(|_| complete)
    })
}

/// An address that changed its machine is another machine's after so long.
const FRESH: Duration = Duration::from_secs(1);
/// It is read so often, at most, for those that are not in it: a flood of made-up addresses costs some hundredths of a
/// processor, and a machine that comes meanwhile is found a moment later.
const READ_EVERY: Duration = Duration::from_millis(20);
/// So often at once: each machine that has just come is found at once.
const AT_ONCE: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "IP address       HW type     Flags       HW address            Mask     Device\n\
                        10.0.0.9         0x1         0x2         52:54:00:00:00:09     *        s0\n\
                        10.0.0.8         0x1         0x0         00:00:00:00:00:00     *        s0\n\
                        10.0.0.6         0x1         0x2         52:54:00:00:00:06     *        s0\n\
                        10.0.0.6         0x1         0x2         52:54:00:00:00:66     *        s1\n\
                        10.0.0.7         0x1         0x6         52:54:00:00:00:07     *        s1\nrubbish\n";

    #[test]
    fn a_flood_of_strangers_is_looked_up_so_often_and_no_more() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let mut in_a_second = |from: Duration| {
            let packets = (0..1000).map(|n| now + from + Duration::from_millis(n));
            packets.filter(|at| cache.may_read(*at)).count()
        };
        let first = in_a_second(Duration::ZERO);
        assert!((50..=50 + AT_ONCE as usize + 1).contains(&first), "{first}");
        let second = in_a_second(Duration::from_secs(1));
        assert!((49..=51).contains(&second), "{second}");
        assert!(
            (0..AT_ONCE).all(|_| cache.may_read(now + Duration::from_secs(9))),
            "a row that comes at once"
        );
    }

    #[test]
    fn neighbours_are_those_that_answered_each_on_its_interface() {
        let of = |interface| -> Vec<_> {
            entries(TEXT)
                .filter(|(_, _, d)| *d == interface)
                .map(|(ip, mac, _)| (ip.octets()[3], mac.0[5]))
                .collect()
        };
        assert_eq!((of("s0"), of("s1")), (vec![(9, 9), (6, 6)], vec![(6, 0x66), (7, 7)]));
        let all = single(TEXT);
        assert_eq!(all.get(&[10, 0, 0, 7].into()), Some(&MacAddr([0x52, 0x54, 0, 0, 0, 7])));
        assert_eq!((all.len(), all.get(&[10, 0, 0, 6].into())), (2, None), "two say that it is theirs");
    }
}
