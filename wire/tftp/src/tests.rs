//! Server and client on virtual time; and every kind of rubbish.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

mod quirks;

fn rrq(name: &str, options: &[(&str, &str)]) -> Vec<u8> {
    let mut out = vec![0, 1];
    for field in [name, "octet"].into_iter().chain(options.iter().flat_map(|(n, v)| [*n, *v])) {
        out.extend_from_slice(field.as_bytes());
        out.push(0);
    }
    out
}

fn accept(options: &[(&str, &str)], size: u64, now: Instant) -> Transfer {
    let bytes = rrq("f", options);
    let Ok(Packet::Read(request)) = Packet::parse(&bytes) else { panic!("no request") };
    Transfer::accept(&request, size, &Limits::default(), now)
}

fn ack(block: u16) -> Vec<u8> {
    [&[0, 4], &block.to_be_bytes()[..]].concat()
}

fn drain(transfer: &mut Transfer) -> Vec<Transmit> {
    std::iter::from_fn(|| transfer.poll_transmit(1)).collect()
}

fn blocks(sent: &[Transmit]) -> Vec<u16> {
    sent.iter()
        .filter_map(|t| if let Transmit::Data { block, .. } = t { Some(*block) } else { None })
        .collect()
}

#[test]
fn a_file_that_fills_its_last_block_ends_with_an_empty_one() {
    let now = Instant::now();
    let mut t = accept(&[], 1024, now);
    let mut lens = Vec::new();
    for block in 1..=3 {
        for sent in drain(&mut t) {
            let Transmit::Data { len, .. } = sent else { panic!("{sent:?}") };
            lens.push(len);
        }
        t.handle_datagram(&ack(block), now);
    }
    assert_eq!((lens, t.outcome()), (vec![512, 512, 0], &Outcome::Complete));
    assert_eq!(t.bytes_acked(), 1024);
}

#[test]
fn an_empty_file_is_one_empty_block() {
    let now = Instant::now();
    let mut t = accept(&[], 0, now);
    assert_eq!(drain(&mut t), [Transmit::Data { block: 1, count: 1, offset: 0, len: 0 }]);
    t.handle_datagram(&ack(1), now);
    assert_eq!(t.outcome(), &Outcome::Complete);
}

#[test]
fn options_are_answered_with_an_oack_that_waits_for_ack_0() {
    let now = Instant::now();
    let mut t = accept(
        &[("TSIZE", "0"), ("blksize", "65464"), ("windowsize", "4"), ("timeout", "3"), ("multicast", "x")],
        5000,
        now,
    );
    let oack = b"\0\x06tsize\x005000\0blksize\x001468\0windowsize\x004\0timeout\x003\0";
    assert_eq!(drain(&mut t), [Transmit::Bytes(oack.to_vec())]);
    t.handle_datagram(&ack(1), now); // not yet
    assert_eq!(drain(&mut t), []);
    t.handle_datagram(&ack(0), now);
    assert_eq!(blocks(&drain(&mut t)), [1, 2, 3, 4]);
}

#[test]
fn options_out_of_range_are_left_out() {
    for bad in [
        ("blksize", "7"),
        ("blksize", "70000"),
        ("timeout", "0"),
        ("timeout", "256"),
        ("windowsize", "0"),
        ("tsize", "-1"),
    ] {
        let t = accept(&[bad], 10, Instant::now());
        assert_eq!((t.negotiated().accepted.len(), t.negotiated().block_bytes), (0, 512), "{bad:?}");
    }
}

#[test]
fn a_repeated_option_counts_once() {
    let t = accept(&[("blksize", "600"), ("blksize", "1000")], 10, Instant::now());
    assert_eq!(
        (t.negotiated().accepted.as_slice(), t.negotiated().block_bytes),
        (&[("blksize", 600)][..], 600)
    );
}

#[test]
fn a_repeated_ack_does_not_repeat_data_in_lock_step() {
    let now = Instant::now();
    let mut t = accept(&[], 5000, now);
    assert_eq!(blocks(&drain(&mut t)), [1]);
    t.handle_datagram(&ack(1), now);
    assert_eq!(blocks(&drain(&mut t)), [2]);
    for _ in 0..10 {
        t.handle_datagram(&ack(1), now);
        assert_eq!(drain(&mut t), []);
    }
}

#[test]
fn silence_sends_again_with_growing_waits_and_then_gives_up() {
    let mut now = Instant::now();
    let mut t = accept(&[], 5000, now);
    assert_eq!(blocks(&drain(&mut t)), [1]);
    let mut waits = Vec::new();
    while let Some(at) = t.poll_timeout() {
        waits.push((at - now).as_secs());
        now = at;
        t.handle_timeout(now);
        assert!(blocks(&drain(&mut t)).iter().all(|b| *b == 1));
    }
    assert_eq!((waits, t.outcome()), (vec![1, 2, 4, 8, 8, 8], &Outcome::TimedOut));
}

#[test]
fn the_clients_timeout_is_kept() {
    let mut now = Instant::now();
    let mut t = accept(&[("timeout", "2")], 5000, now);
    let mut oacks = drain(&mut t).len();
    while let Some(at) = t.poll_timeout() {
        assert_eq!(at - now, Duration::from_secs(2));
        now = at;
        t.handle_timeout(now);
        oacks += drain(&mut t).len();
    }
    assert_eq!((oacks, t.outcome()), (6, &Outcome::TimedOut));
}

#[test]
fn a_gap_in_a_window_resumes_after_the_last_good_block() {
    let now = Instant::now();
    let mut t = accept(&[("windowsize", "4")], 51200, now);
    drain(&mut t);
    t.handle_datagram(&ack(0), now);
    assert_eq!(blocks(&drain(&mut t)), [1, 2, 3, 4]);
    t.handle_datagram(&ack(2), now);
    assert_eq!(blocks(&drain(&mut t)), [3, 4, 5, 6]);
    t.handle_datagram(&ack(2), now); // block 3 lost: once more
    assert_eq!(blocks(&drain(&mut t)), [3, 4, 5, 6]);
    t.handle_datagram(&ack(2), now); // and not for ever
    assert_eq!(drain(&mut t), []);
}

#[test]
fn what_was_sent_again_is_counted_from_the_first_on() {
    let now = Instant::now();
    let mut t = accept(&[("windowsize", "4")], 51200, now);
    drain(&mut t);
    let mut late = t.poll_timeout().unwrap();
    t.handle_timeout(late);
    assert_eq!(drain(&mut t).len(), 1);
    assert_eq!(t.resent(), Resent { timeouts: 1, oacks: 1, ..Resent::default() });
    let mut t = accept(&[("windowsize", "4")], 51200, now);
    drain(&mut t);
    t.handle_datagram(&ack(0), now);
    drain(&mut t);
    assert_eq!(t.resent(), Resent::default());
    t.handle_datagram(&ack(2), now);
    assert_eq!(blocks(&drain(&mut t)), [3, 4, 5, 6]);
    assert_eq!(t.resent(), Resent { gaps: 1, blocks: 2, first: Some(3), ..Resent::default() });
    late = t.poll_timeout().unwrap();
    t.handle_timeout(late);
    // In one go it is the same.
    assert_eq!(t.poll_transmit(64), Some(Transmit::Data { block: 3, count: 4, offset: 1024, len: 2048 }));
    assert_eq!(t.resent(), Resent { timeouts: 1, gaps: 1, oacks: 0, blocks: 6, first: Some(3) });
}

#[test]
fn a_size_probe_is_not_a_failure() {
    let now = Instant::now();
    let mut t = accept(&[("tsize", "0")], 5000, now);
    drain(&mut t);
    t.handle_datagram(b"\0\x05\0\x00TFTP Aborted\0", now);
    assert_eq!(t.outcome(), &Outcome::Probed { code: 0, message: "TFTP Aborted".into() });
    assert_eq!(t.poll_timeout(), None);
}

#[test]
fn a_client_that_leaves_before_the_first_block_has_asked_for_the_size_or_has_failed() {
    let now = Instant::now();
    let size = &[("tsize", "0"), ("blksize", "1400")][..];
    for (options, code, message, probed) in [
        (size, 8, "User aborted the transfer", true), // OVMF
        (size, 8, "", true),
        (size, 0, "TFTP Aborted", true),
        (size, 8, "blksize refused", false),
        (size, 3, "no memory", false),
        (&[("blksize", "1400")][..], 8, "", false),
        (&[][..], 0, "TFTP Aborted", false),
    ] {
        let mut t = accept(options, 300, now);
        drain(&mut t);
        t.handle_datagram(&[&[0, 5, 0, code], message.as_bytes(), &[0]].concat(), now);
        let (code, message) = (u16::from(code), message.to_owned());
        let expect = match probed {
            true => Outcome::Probed { code, message },
            false => Outcome::Aborted { code, message },
        };
        assert_eq!(t.outcome(), &expect);
    }
}

#[test]
fn file_names_lose_slashes_and_firmware_dirt() {
    for (sent, name) in [
        (&b"/snponly.efi"[..], Some("snponly.efi")),
        (b"\\boot\\a.efi", Some("boot\\a.efi")),
        (b"undionly.kpxe\xff", Some("undionly.kpxe")),
        (b"//", None),
        (b"a\x01b", None),
        (b"\xc3\xa9", None),
    ] {
        let request = ReadRequest { filename: sent, mode: b"OcTeT", options: vec![] };
        assert_eq!(request.name(), name, "{sent:?}");
        assert!(request.is_octet());
    }
}

#[test]
fn requests_without_name_or_mode_are_refused() {
    for bad in
        [&b""[..], b"\0", b"\0\x01", b"\0\x01\0octet\0", b"\0\x01f\0", b"\0\x01f\0\0", b"\0\x04\0", b"\x01\0"]
    {
        assert!(Packet::parse(bad).is_err(), "{bad:?}");
    }
    assert_eq!(Packet::parse(b"\0\x02f\0octet\0"), Ok(Packet::Write));
    assert!(Packet::parse(&[&[0, 1][..], &[b'a'; 2000], b"\0octet\0"].concat()).is_err());
}

/// A client over a wire that loses packets: the file arrives whole, whatever the sizes, past block 65535 too.
fn read_over_lossy_wire(size: u64, blksize: u16, window: u16, loss: &[bool]) -> (u64, Outcome) {
    let mut now = Instant::now();
    let mut loss = loss.iter().cycle();
    let mut lose = || *loss.next().unwrap_or(&false);
    let mut t = accept(&[("blksize", &blksize.to_string()), ("windowsize", &window.to_string())], size, now);
    let (mut have, mut expected, mut since_ack) = (0u64, 1u64, 0);
    loop {
        let sent = drain(&mut t);
        if t.outcome() != &Outcome::Running {
            return (have, t.outcome().clone());
        }
        if sent.is_empty() {
            now = t.poll_timeout().unwrap();
            t.handle_timeout(now);
            continue;
        }
        let mut gap = false;
        for packet in sent {
            if lose() {
                continue;
            }
            match packet {
                Transmit::Bytes(_) => t.handle_datagram(&ack(0), now),
                Transmit::Data { block, offset, len, .. } if block == (expected & 0xffff) as u16 => {
                    assert_eq!(offset, have);
                    have += len as u64;
                    expected += 1;
                    since_ack += 1;
                    if (since_ack == window || len < usize::from(blksize)) && !lose() {
                        since_ack = 0;
                        t.handle_datagram(&ack(block), now);
                    }
                }
                Transmit::Data { .. } => gap = true,
            }
        }
        if gap && !lose() {
            since_ack = 0;
            t.handle_datagram(&ack(((expected - 1) & 0xffff) as u16), now);
        }
    }
}

#[test]
fn block_numbers_roll_over() {
    let size = 8 * 70_000 + 3;
    assert_eq!(read_over_lossy_wire(size, 8, 1, &[false]), (size, Outcome::Complete));
    assert_eq!(read_over_lossy_wire(size, 8, 64, &[false]), (size, Outcome::Complete));
}

proptest! {
    #[test]
    fn many_blocks_in_one_go_are_the_same_as_one_by_one(
        size in 0u64..20_000, blksize in 8u16..1468, window in 1u16..64, most in 0u16..70, acks in prop::collection::vec(0u16..70, 0..20),
    ) {
        let now = Instant::now();
        let (blksize_text, window) = (blksize.to_string(), window.to_string());
        let options = [("blksize", blksize_text.as_str()), ("windowsize", window.as_str())];
        let (mut one, mut many) = (accept(&options, size, now), accept(&options, size, now));
        for ended in std::iter::once(0).chain(acks) {
            let mut expected = drain(&mut one).into_iter();
            while let Some(sent) = many.poll_transmit(most) {
                let Transmit::Data { block, count, offset, len } = sent else {
                    prop_assert_eq!(Some(sent), expected.next());
                    continue;
                };
                prop_assert!(count >= 1 && count <= most.max(1));
                for n in 0..count {
                    let begins = usize::from(n) * usize::from(blksize);
                    let part = Transmit::Data {
                        block: block.wrapping_add(n),
                        count: 1,
                        offset: offset + begins as u64,
                        len: len.saturating_sub(begins).min(blksize.into()),
                    };
                    prop_assert_eq!(Some(part), expected.next());
                }
            }
            prop_assert_eq!(None, expected.next());
            one.handle_datagram(&ack(ended), now);
            many.handle_datagram(&ack(ended), now);
            prop_assert_eq!(one.resent(), many.resent());
        }
    }

    #[test]
    fn a_lossy_wire_loses_nothing(
        size in 0u64..200_000, blksize in 8u16..1468, window in 1u16..64,
        loss in prop::collection::vec(prop::bool::weighted(0.1), 97),
    ) {
        let (have, outcome) = read_over_lossy_wire(size, blksize, window, &loss);
        prop_assert!(outcome == Outcome::TimedOut || have == size, "{} of {} {:?}", have, size, outcome);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(Packet::Read(r)) = Packet::parse(&bytes) {
            let _ = r.name();
            let _ = Transfer::accept(&r, 1 << 40, &Limits::default(), Instant::now()).poll_transmit(1);
        }
    }

    #[test]
    fn no_conversation_panics(
        options in prop::collection::vec(("blksize|windowsize|timeout|tsize|[a-z]{0,9}", "[0-9]{0,22}|.{0,9}"), 0..20),
        size in any::<u64>(),
        steps in prop::collection::vec((any::<u8>(), 0u16..80, prop::collection::vec(any::<u8>(), 0..12)), 0..60),
    ) {
        let options: Vec<_> = options.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let mut now = Instant::now();
        let mut t = accept(&options, size, now);
        for (kind, block, bytes) in steps {
            match kind % 4 {
                0 => t.handle_datagram(&bytes, now),
                1 | 2 => t.handle_datagram(&ack(block), now),
                _ => { now += Duration::from_secs(u64::from(kind)); t.handle_timeout(now); }
            }
            let _ = drain(&mut t);
            let _ = t.bytes_acked();
        }
    }
}
