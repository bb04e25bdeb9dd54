//! Option negotiation: RFC 2347, 2348, 2349 and 7440.

use std::time::Duration;

use crate::ReadRequest;

/// What the server is willing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest block in bytes. 1468 fills an Ethernet frame (1500 − IP 20 − UDP 8 − TFTP 4); larger blocks
    /// travel as IP fragments, which option ROMs and switches handle badly.
    pub block_bytes: u16,
    /// Largest window in blocks (RFC 7440). 64 blocks of 1468 bytes fit any switch buffer.
    pub window_blocks: u16,
    /// How long to wait for an ACK the first time, when the client has no `timeout` option. Doubles each try; once
    /// answers are measured the wait follows them.
    pub timeout: Duration,
    /// How often one window is sent again before the client is given up, were each wait as long as agreed.
    pub retries: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { block_bytes: 1468, window_blocks: 64, timeout: Duration::from_secs(1), retries: 5 }
    }
}

/// What server and client agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// Block size in bytes; 512 without the option.
    pub block_bytes: u16,
    /// Window in blocks; 1 without the option, which is RFC 1350's lock step.
    pub window_blocks: u16,
    /// Retransmission interval the client asked for (RFC 2349): no wait is longer.
    pub timeout: Option<Duration>,
    /// What the OACK says, in the order asked. Empty: no OACK, the first DATA is the answer.
    pub accepted: Vec<(&'static str, u64)>,
}

impl Negotiated {
    /// Answers a request's options for a file of `size` bytes.
    ///
    /// An option that is unknown, out of range or repeated is left out of the OACK (RFC 2347: the client then
    /// goes on without it), because refusing it would keep a server with odd firmware from booting at all.
    #[must_use]
    pub fn new(request: &ReadRequest<'_>, size: u64, limits: &Limits) -> Self {
        let mut out = Self { block_bytes: 512, window_blocks: 1, timeout: None, accepted: Vec::new() };
        for (name, value) in &request.options {
            let Some(value) = number(value) else { continue };
            let accept = if name.eq_ignore_ascii_case(b"blksize") {
                // RFC 2348: 8 to 65464; the server may answer with less.
                (8..=65_464).contains(&value).then(|| {
                    out.block_bytes = narrow(value).min(limits.block_bytes.max(8));
                    ("blksize", u64::from(out.block_bytes))
                })
            } else if name.eq_ignore_ascii_case(b"windowsize") {
                // RFC 7440 §3: 1 to 65535; the server may answer with less.
                (1..=65_535).contains(&value).then(|| {
                    out.window_blocks = narrow(value).min(limits.window_blocks.max(1));
                    ("windowsize", u64::from(out.window_blocks))
                })
            } else if name.eq_ignore_ascii_case(b"timeout") {
                // RFC 2349: 1 to 255 seconds, and the answer must be the same number.
                (1..=255).contains(&value).then(|| {
                    out.timeout = Some(Duration::from_secs(value));
                    ("timeout", value)
                })
            } else if name.eq_ignore_ascii_case(b"tsize") {
                // RFC 2349: the client says 0 in a read request, the server answers with the size.
                Some(("tsize", size))
            } else {
                None
            };
            if let Some(accept) = accept
                && !out.accepted.iter().any(|(known, _)| *known == accept.0)
            {
                out.accepted.push(accept);
            }
        }
        // A repeated option: what the OACK says is what counts.
        for (name, value) in &out.accepted {
            match *name {
                "blksize" => out.block_bytes = narrow(*value),
                "windowsize" => out.window_blocks = narrow(*value),
                "timeout" => out.timeout = Some(Duration::from_secs(*value)),
                _ => {}
            }
        }
        out
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

fn narrow(value: u64) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}
