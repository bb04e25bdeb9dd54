//! TFTP packets and a whole transfer driven by a hostile client.

use crate::{head, messages};
use farrier_tftp::{Limits, Outcome, Packet, Transfer, Transmit};
use std::time::{Duration, Instant};

pub fn run(data: &[u8]) {
    let ([a, b, c, request_len], data) = head::<4>(data);
    let (request, rest) = data.split_at(usize::from(request_len).min(data.len()));
    // Sizes around block and roll-over boundaries.
    let size = (u64::from(a) << 16 | u64::from(b) << 8 | u64::from(c)) * 7;
    let Ok(Packet::Read(request)) = Packet::parse(request) else { return };
    if let Some(name) = request.name() {
        assert!(!name.starts_with(['/', '\\']) && name.bytes().all(|b| (0x20..0x7f).contains(&b)));
    }
    let _ = request.is_octet();
    let limits = Limits::default();
    let mut now = Instant::now();
    let mut transfer = Transfer::accept(&request, size, &limits, now);
    let (block, window) = (transfer.negotiated().block_bytes, transfer.negotiated().window_blocks);
    assert!((8..=limits.block_bytes).contains(&block) || block == 512);
    // One by one, or so many at once.
    let most = u16::from(a % 64);
    let mut acked = 0;
    for message in messages(rest) {
        let mut sent = 0;
        while let Some(transmit) = transfer.poll_transmit(most) {
            sent += match transmit {
                Transmit::Bytes(_) => 1,
                Transmit::Data { count, offset, len, .. } => {
                    assert!(count >= 1 && count <= most.max(1));
                    assert!(len <= usize::from(block) * usize::from(count));
                    assert!(offset + len as u64 <= size || len == 0);
                    u32::from(count)
                }
            };
            // A client cannot make us send more than a window (and one OACK) for one packet of its own.
            assert!(sent <= u32::from(window) + 1);
        }
        if message.is_empty() {
            now = transfer.poll_timeout().unwrap_or(now).max(now) + Duration::from_millis(1);
            transfer.handle_timeout(now);
        } else {
            transfer.handle_datagram(message, now);
        }
        assert!(transfer.bytes_acked() >= acked && transfer.bytes_acked() <= size);
        acked = transfer.bytes_acked();
        if *transfer.outcome() != Outcome::Running {
            assert!(transfer.poll_transmit(most).is_none());
        }
    }
}
