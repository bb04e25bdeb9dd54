//! Both ends of a SOL line, between whom somebody says, loses and repeats what he likes.

use crate::{head, messages};
use farrier_ipmi::sol::{Endpoint, Packet, Policy, Role};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
const PENDING: usize = 512;

pub fn run(data: &[u8]) {
    let ([size, room], data) = head::<2>(data);
    let policy = Policy {
        retry: Duration::from_millis(50),
        tries: 3,
        pause: Duration::from_millis(20),
        max_chars: 255,
        max_pending: PENDING,
    }
    .with_payload_size(u16::from(size));
    let mut ends = [Endpoint::new(Role::Console, policy).greeting(size), Endpoint::new(Role::Bmc, policy)];
    let mut now = *START;
    for message in messages(data) {
        let ([what], bytes) = head::<1>(message);
        let at = usize::from(what & 1);
        match what >> 1 & 3 {
            0 => {
                let taken = ends[at].push(bytes);
                assert!(taken <= bytes.len() && ends[at].room() <= PENDING);
            }
            // Anybody's packet.
            1 => {
                if let Ok(heard) = ends[at].handle(now, bytes, usize::from(room)) {
                    assert!(heard.chars.len() <= usize::from(room));
                }
            }
            // A true one, from the other end.
            2 => {
                if let Some(packet) = ends[1 - at].poll_transmit(now) {
                    let read = Packet::parse(&packet).unwrap();
                    assert_eq!(read.to_bytes(), packet);
                    ends[at].handle(now, &packet, usize::from(room)).unwrap();
                }
            }
            _ => {
                ends[at].push_break();
            }
        }
        now += Duration::from_millis(u64::from(what >> 3));
    }
    // Asked for long enough, each end falls silent: what nobody acknowledges is given up.
    for end in &mut ends {
        let mut left = 10_000;
        loop {
            while end.poll_transmit(now).is_some() {
                left -= 1;
                assert!(left > 0, "it never ends");
            }
            match end.poll_timeout() {
                Some(due) => now = now.max(due),
                None => break,
            }
        }
    }
}
