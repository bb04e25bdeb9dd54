//! Things that are told once a minute and sender, so that the log says what is wrong and a flood does not fill it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Who was told of, and when.
#[derive(Debug, Default)]
pub struct Seldom {
    told: Mutex<HashMap<IpAddr, Instant>>,
}

impl Seldom {
    /// Whether this sender may be told of now.
    pub fn due(&self, from: IpAddr, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |at: &Instant| now.saturating_duration_since(*at) < EVERY;
        if told.get(&from).is_some_and(recent) {
            return false;
        }
        if told.len() >= SENDERS {
            told.retain(|_, at| recent(at));
        }
        // Forged senders: the first of a minute are enough to know that there is a flood.
        if told.len() >= SENDERS {
            return false;
        }
        told.insert(from, now);
        true
    }
}

const EVERY: Duration = Duration::from_secs(60);
/// Senders remembered at a time.
const SENDERS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_sender_is_told_of_once_a_minute_and_a_flood_is_not() {
        let seldom = Seldom::default();
        let start = Instant::now();
        let sender = |number: u32| IpAddr::from(Ipv4Addr::from(number));
        assert!(seldom.due(sender(1), start));
        assert!(!seldom.due(sender(1), start + Duration::from_secs(59)));
        assert!(seldom.due(sender(1), start + EVERY));
        let told = (0..10_000).filter(|n| seldom.due(sender(100 + n), start + EVERY)).count();
        assert_eq!(told, SENDERS - 1);
        assert_eq!(seldom.told.lock().unwrap().len(), SENDERS);
        assert!(seldom.due(sender(99_999), start + EVERY * 2));
    }
}
