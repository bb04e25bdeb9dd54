//! Packets that nobody can read: told once a minute and sender.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Instant;

use farrier_model::Seldom;

#[derive(Debug, Default)]
pub(crate) struct Malformed(Seldom);

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
        if self.0.due(from.ip(), Instant::now()) {
            let saw = seen(bytes);
            tracing::info!(protocol, interface, %from, %error, %saw, "malformed packet dropped");
        }
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
