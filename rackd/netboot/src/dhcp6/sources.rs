//! From how many addresses one machine is answered.
//!
//! Whoever knows a machine's MAC address can ask in its name from any number of link-local addresses, and each answer that nobody
//! is there for takes a place in the kernel's table of neighbours (RFC 4861 §5.1) and in the socket's buffer until it is given up.
//! A machine has one address for its firmware, one for iPXE and one for its system.

use std::{
    collections::HashMap,
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use crate::MacAddr;

#[derive(Debug, Default)]
pub(super) struct Sources(HashMap<MacAddr, Minute>);

#[derive(Debug)]
struct Minute {
    since: Instant,
    from: Vec<Ipv6Addr>,
}

impl Sources {
    /// Whether `mac`, a machine of the table, is answered at `from`.
    pub(super) fn admits(&mut self, mac: MacAddr, from: Ipv6Addr, now: Instant) -> bool {
        let is_over = |minute: &Minute| now.saturating_duration_since(minute.since) >= MINUTE;
        if self.0.len() >= MOST && !self.0.contains_key(&mac) {
            self.0.retain(|_, minute| !is_over(minute));
            if self.0.len() >= MOST {
                return false;
            }
        }
        let minute = self.0.entry(mac).or_insert_with(|| Minute { since: now, from: Vec::new() });
        if is_over(minute) {
            (minute.since, minute.from) = (now, Vec::new());
        }
        if minute.from.contains(&from) {
            return true;
        }
        let has_room = minute.from.len() < EACH;
        if has_room {
            minute.from.push(from);
        }
        has_room
    }
}

/// In a minute.
const EACH: usize = 8;
const MINUTE: Duration = Duration::from_secs(60);
/// Machines: more than a rack's network has.
const MOST: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    fn from(n: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n)
    }

    #[test]
    fn a_machine_has_a_few_addresses_a_minute_and_whoever_makes_them_up_takes_no_others() {
        let (mut sources, now) = (Sources::default(), Instant::now());
        let mac = |n: u16| MacAddr([2, 0, 0, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]]);
        let admitted = (0..1000).filter(|n| sources.admits(mac(1), from(*n), now)).count();
        assert_eq!(admitted, EACH);
        assert!(sources.admits(mac(1), from(0), now), "one that was answered is answered again");
        assert!(sources.admits(mac(2), from(999), now), "another machine");
        assert!(sources.admits(mac(1), from(999), now + MINUTE));
        let machines = u16::try_from(MOST).unwrap();
        assert!((0..machines * 2).filter(|n| sources.admits(mac(*n), from(1), now)).count() <= MOST);
        assert_eq!(sources.0.len(), MOST);
        assert!(sources.admits(mac(machines * 3), from(1), now + MINUTE * 2), "what is over makes room");
    }
}
