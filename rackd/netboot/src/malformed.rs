//! Packets that nobody can read: told once a minute and sender.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use farrier_model::Seldom;

#[derive(Debug, Default)]
pub(crate) struct Malformed {
    told: Seldom,
    /// Those that are in a machine's trace: what its sender said before it was known is no reason to keep silent.
    traced: Seldom,
    /// By protocol.
    counts: Mutex<BTreeMap<&'static str, u64>>,
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
        *self.lock().entry(protocol).or_default() += 1;
        if self.told.due(from.ip(), Instant::now()) {
            let saw = seen(bytes);
            tracing::info!(protocol, interface, %from, %error, %saw, "malformed packet dropped");
        }
    }

    /// What a machine's trace has of it, once a minute and sender.
    pub(crate) fn trace(
        &self,
        from: SocketAddr,
        bytes: &[u8],
        error: &dyn std::error::Error,
    ) -> Option<String> {
        let due = self.traced.due(from.ip(), Instant::now());
        due.then(|| format!("{error}; saw {} (from {from})", seen(bytes)))
    }
}

impl Malformed {
    /// How many there were, by protocol.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Bytes shown of a packet.
const FIRST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_shown_in_part() {
        assert_eq!(seen(&[]), "0 bytes");
        assert_eq!(seen(&[1, 0xAB]), "2 bytes that begin 01 ab");
        assert!(seen(&[0; 2048]).len() < 80);
    }
}
