//! Packets that nobody can read: told once a minute and sender, so that the log says what is wrong with a machine and a
//! flood does not fill it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Who was told of, and when.
#[derive(Debug, Default)]
pub(crate) struct Malformed {
    told: Mutex<HashMap<IpAddr, Instant>>,
}

impl Malformed {
    /// A packet of `protocol` that was dropped; `error` says what was expected.
    pub(crate) fn tell(
        &self,
        protocol: &'static str,
        interface: &str,
        from: SocketAddr,
        bytes: &[u8],
        error: &dyn std::error::Error,
    ) {
        if self.due(from.ip(), Instant::now()) {
            let saw = seen(bytes);
            tracing::info!(protocol, interface, %from, %error, %saw, "malformed packet dropped");
        }
    }

    /// Whether this sender may be told of now.
    fn due(&self, from: IpAddr, now: Instant) -> bool {
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

fn seen(bytes: &[u8]) -> String {
    let mut text = format!("{} bytes", bytes.len());
    if !bytes.is_empty() {
        text.push_str(" that begin");
    }
    for byte in bytes.iter().take(FIRST) {
        let _ = write!(text, " {byte:02x}");
    }
    text
}

const EVERY: Duration = Duration::from_secs(60);
/// Senders remembered at a time.
const SENDERS: usize = 256;
/// Bytes shown of a packet.
const FIRST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_sender_is_told_of_once_a_minute_and_a_flood_is_not() {
        let malformed = Malformed::default();
        let start = Instant::now();
        let sender = |number: u32| IpAddr::from(Ipv4Addr::from(number));
        assert!(malformed.due(sender(1), start));
        assert!(!malformed.due(sender(1), start + Duration::from_secs(59)));
        assert!(malformed.due(sender(1), start + EVERY));
        let told = (0..10_000).filter(|n| malformed.due(sender(100 + n), start + EVERY)).count();
        assert_eq!(told, SENDERS - 1);
        assert_eq!(malformed.told.lock().unwrap().len(), SENDERS);
        assert!(malformed.due(sender(99_999), start + EVERY * 2));
    }

    #[test]
    fn what_was_seen_is_shown_in_part() {
        assert_eq!(seen(&[]), "0 bytes");
        assert_eq!(seen(&[1, 0xAB]), "2 bytes that begin 01 ab");
        assert!(seen(&[0; 2048]).len() < 80);
    }
}
