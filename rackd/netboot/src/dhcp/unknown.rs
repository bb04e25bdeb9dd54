//! Machines that are not in the table, told of seldom.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::MacAddr;

/// Who was told of lately, so that a machine in a boot loop, or a storm, is one event.
#[derive(Debug, Default)]
pub(crate) struct UnknownMachines(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    told: HashMap<(MacAddr, bool), Lately>,
    /// When those of long ago were last taken out: not at every packet of a storm.
    tidied: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Lately {
    at: Instant,
    /// Nobody could do anything about it.
    again: bool,
    /// How often it was told since then: firmware asks four times in a minute.
    times: u8,
}

impl UnknownMachines {
    /// Of one address, firmware that boots and all else apart.
    pub(crate) fn first_in_a_while(&self, mac: (MacAddr, bool), now: Instant) -> bool {
        self.lock().first_in_a_while(mac, now)
    }

    /// Firmware that asks again, some seconds later, is told of again: one machine's, or everybody's. It keeps its place among
    /// those of the minute: a storm of addresses stays as small as it was.
    pub(crate) fn tell_again(&self, mac: Option<MacAddr>) {
        let mut told = self.lock();
        let firmware =
            told.told.iter_mut().filter(|((other, boots), _)| *boots && mac.is_none_or(|mac| mac == *other));
        firmware.for_each(|(_, lately)| lately.again = true);
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().told.len()
    }

    /// A poisoned lock still guards whole entries.
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn first_in_a_while(&mut self, mac: (MacAddr, bool), now: Instant) -> bool {
        let recent = |lately: &Lately| now.duration_since(lately.at) < UNKNOWN_EVERY;
        if let Some(lately) = self.told.get_mut(&mac).filter(|lately| recent(lately)) {
            let after = AGAIN_AFTER * u32::from(lately.times);
            let due = lately.again && lately.times < TIMES && now.duration_since(lately.at) >= after;
            if due {
                (lately.again, lately.times) = (false, lately.times + 1);
            }
            return due;
        }
        if self.told.len() >= UNKNOWN_MAX {
            if self.tidied.is_some_and(|at| now.duration_since(at) < TIDY_EVERY) {
                return false;
            }
            self.tidied = Some(now);
            self.told.retain(|_, lately| recent(lately));
            if self.told.len() >= UNKNOWN_MAX {
                return false;
            }
        }
        self.told.insert(mac, Lately { at: now, again: false, times: 1 });
        true
    }
}

/// Between two of what nobody could do anything about. Firmware asks again after 4, 8 and 16 seconds.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
const TIMES: u8 = 4;
/// How often the same unknown machine makes an event.
const UNKNOWN_EVERY: Duration = Duration::from_secs(60);
/// Unknown machines remembered; more than a rack has, and when it is a storm nobody misses an event.
const UNKNOWN_MAX: usize = 1024;
const TIDY_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_machine_is_told_of_once_a_minute_and_a_storm_is_cut() {
        let unknown = UnknownMachines::default();
        let now = Instant::now();
        let mac = |n: u16| {
            let [a, b] = n.to_be_bytes();
            (MacAddr([2, 0, 0, 0, a, b]), false)
        };
        assert!(unknown.first_in_a_while(mac(0), now));
        assert!(unknown.first_in_a_while((mac(0).0, true), now), "its firmware is another word");
        assert!(!unknown.first_in_a_while(mac(0), now + Duration::from_secs(59)));
        assert!(unknown.first_in_a_while(mac(0), now + Duration::from_secs(60)));
        let mut then = now;
        for whose in [Some(mac(0).0), None] {
            unknown.tell_again(whose);
            assert!(!unknown.first_in_a_while((mac(0).0, true), then), "not at once");
            then += AGAIN_AFTER;
            assert!(unknown.first_in_a_while((mac(0).0, true), then), "nobody could do anything about it");
            assert!(!unknown.first_in_a_while((mac(0).0, true), then + AGAIN_AFTER));
        }
        // A storm of addresses that nobody can do anything about is as small as any.
        let storm = (0..30).flat_map(|second| (0..2000).map(move |n| (second, (mac(n).0, true))));
        let told = storm.filter(|(second, who)| {
            let told = unknown.first_in_a_while(*who, now + Duration::from_secs(*second));
            unknown.tell_again(Some(who.0));
            told
        });
        let told = told.count();
        assert!(told <= UNKNOWN_MAX * usize::from(TIMES), "{told}");
        assert!(unknown.first_in_a_while(mac(9), now + Duration::from_secs(120)));
    }
}
