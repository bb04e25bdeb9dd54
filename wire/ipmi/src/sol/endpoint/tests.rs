use super::*;
use proptest::prelude::*;

fn policy() -> Policy {
    Policy {
        retry: Duration::from_millis(100),
        tries: 4,
        pause: Duration::from_millis(50),
        max_chars: 8,
        max_pending: 4096,
    }
}

fn ends() -> (Endpoint, Endpoint) {
    (Endpoint::new(Role::Console, policy()), Endpoint::new(Role::Bmc, policy()))
}

#[test]
fn characters_arrive_and_are_acknowledged() {
    let (now, (mut console, mut bmc)) = (Instant::now(), ends());
    assert_eq!(console.push(b"hello"), 5);
    let sent = console.poll_transmit(now).unwrap();
    assert_eq!(sent, [1, 0, 0, 0, b'h', b'e', b'l', b'l', b'o']);
    assert_eq!(console.poll_transmit(now), None, "one packet at a time");
    assert_eq!(bmc.handle(now, &sent, 99).unwrap().chars, b"hello");
    let ack = bmc.poll_transmit(now).unwrap();
    assert_eq!(ack, [0, 1, 5, 0]);
    console.handle(now, &ack, 99).unwrap();
    assert!(console.is_idle() && bmc.is_idle() && console.poll_timeout().is_none());
}

#[test]
fn a_repeated_packet_is_acknowledged_again_and_only_what_was_added_is_news() {
    let (now, (_, mut bmc)) = (Instant::now(), ends());
    assert_eq!(bmc.handle(now, &[3, 0, 0, 0, b'a', b'b'], 99).unwrap().chars, b"ab");
    assert_eq!(bmc.poll_transmit(now).unwrap(), [0, 3, 2, 0]);
    assert_eq!(bmc.handle(now, &[3, 0, 0, 0, b'a', b'b', b'c'], 99).unwrap().chars, b"c");
    assert_eq!(bmc.poll_transmit(now).unwrap(), [0, 3, 3, 0]);
    assert_eq!(bmc.handle(now, &[4, 0, 0, 0, b'd'], 99).unwrap().chars, b"d");
    // A copy of an older one that went astray: neither news nor acknowledged.
    assert_eq!(bmc.poll_transmit(now).unwrap(), [0, 4, 1, 0]);
    assert_eq!(bmc.handle(now, &[3, 0, 0, 0, b'a', b'b'], 99).unwrap(), Heard::default());
    assert_eq!(bmc.poll_transmit(now), None);
    // 15 is followed by 1.
    let (_, mut bmc) = ends();
    bmc.handle(now, &[15, 0, 0, 0, b'y'], 99).unwrap();
    assert_eq!(bmc.handle(now, &[1, 0, 0, 0, b'z'], 99).unwrap().chars, b"z");
}

#[test]
fn what_had_no_room_is_sent_again_and_a_full_end_is_left_alone_a_while() {
    let (now, (mut console, mut bmc)) = (Instant::now(), ends());
    console.push(b"abcdef");
    let sent = console.poll_transmit(now).unwrap();
    assert_eq!(bmc.handle(now, &sent, 2).unwrap().chars, b"ab");
    let nack = bmc.poll_transmit(now).unwrap();
    assert_eq!(nack, [0, 1, 2, status::NACK]);
    console.handle(now, &nack, 99).unwrap();
    assert_eq!(console.poll_transmit(now), None);
    let later = console.poll_timeout().unwrap();
    let sent = console.poll_transmit(later).unwrap();
    assert_eq!(sent, [2, 0, 0, 0, b'c', b'd', b'e', b'f']);
    assert_eq!(bmc.handle(later, &sent, 0).unwrap().chars, b"");
    let nack = bmc.poll_transmit(later).unwrap();
    assert_eq!(nack, [0, 2, 0, status::NACK]);
    console.handle(later, &nack, 99).unwrap();
    let sent = console.poll_transmit(console.poll_timeout().unwrap()).unwrap();
    assert_eq!(bmc.handle(later, &sent, 99).unwrap().chars, b"cdef");
}

#[test]
fn a_break_keeps_its_place_and_is_told_once() {
    let (now, (mut console, mut bmc)) = (Instant::now(), ends());
    console.push(b"a");
    assert!(console.push_break());
    console.push(b"b");
    let sent = console.poll_transmit(now).unwrap();
    assert_eq!(bmc.handle(now, &sent, 99).unwrap(), Heard { chars: b"a".to_vec(), bits: 0 });
    assert_eq!(console.poll_transmit(now), None, "the break waits for what is before it");
    console.handle(now, &bmc.poll_transmit(now).unwrap(), 99).unwrap();
    let sent = console.poll_transmit(now).unwrap();
    assert_eq!(sent, [0, 0, 0, operation::BREAK]);
    assert_eq!(bmc.handle(now, &sent, 99).unwrap().bits, operation::BREAK);
    assert_eq!(console.poll_transmit(now).unwrap(), [2, 0, 0, 0, b'b']);
    // Bits of a numbered packet count once too.
    assert_eq!(bmc.handle(now, &[9, 0, 0, operation::BREAK], 99).unwrap().bits, operation::BREAK);
    assert_eq!(bmc.handle(now, &[9, 0, 0, operation::BREAK], 99).unwrap().bits, 0);
}

#[test]
fn a_greeting_keeps_the_first_characters_from_being_taken_for_a_copy() {
    for last in 0..=255 {
        let (now, (mut console, mut bmc)) = (Instant::now(), ends());
        // The console before ended with number 7, and the BMC has not forgotten it.
        bmc.handle(now, &[7, 0, 0, 0, b'x'], 99).unwrap();
        let _ = bmc.poll_transmit(now);
        console = console.greeting(last);
        console.push(b"root");
        let mut got = Vec::new();
        while let Some(packet) = console.poll_transmit(now) {
            got.extend(bmc.handle(now, &packet, 99).unwrap().chars);
            while let Some(answer) = bmc.poll_transmit(now) {
                console.handle(now, &answer, 99).unwrap();
            }
        }
        assert_eq!((got.as_slice(), console.is_idle()), (&b"root"[..], true), "after {last}");
    }
}

#[test]
fn a_console_gives_up_and_a_bmc_drops() {
    let (begin, (mut console, mut bmc)) = (Instant::now(), ends());
    let tries = |end: &mut Endpoint| {
        end.push(b"x");
        let (mut now, mut sent) = (begin, 0);
        loop {
            match end.poll_transmit(now) {
                Some(packet) if packet[0] == 1 => sent += 1,
                last => return (sent, last),
            }
            now = end.poll_timeout().unwrap();
        }
    };
    assert_eq!(tries(&mut console), (4, None));
    assert!(console.is_lost() && console.poll_timeout().is_none());
    assert_eq!(tries(&mut bmc), (4, Some(vec![0, 0, 0, status::OVERRUN])));
    assert!(!bmc.is_lost());
    bmc.push(b"y");
    let late = begin + Duration::from_secs(9);
    assert_eq!(bmc.poll_transmit(late).unwrap(), [2, 0, 0, 0, b'y']);
}

proptest! {
    /// Whatever is lost, doubled or taken in part: what arrives is what was sent, in order, in both directions.
    #[test]
    fn every_character_arrives_once_and_in_order(
        left in proptest::collection::vec(any::<u8>(), 0..200),
        right in proptest::collection::vec(any::<u8>(), 0..200),
        fates in proptest::collection::vec((0_u8..10, 0_usize..12), 1..400),
    ) {
        let patient = Policy { tries: u32::MAX, ..policy() };
        let mut ends = [Endpoint::new(Role::Console, patient), Endpoint::new(Role::Bmc, patient)];
        let sources = [left, right];
        let mut got: [Vec<u8>; 2] = [Vec::new(), Vec::new()];
        for (end, source) in ends.iter_mut().zip(&sources) {
            prop_assert_eq!(end.push(source), source.len());
        }
        let mut now = Instant::now();
        // After the bad time the network is good, and the rest has to arrive.
        let mut fates = fates.into_iter().chain(std::iter::repeat_n((9, 99), 2000));
        while !(ends[0].is_idle() && ends[1].is_idle()) {
            let mut quiet = true;
            for from in [0, 1] {
                let Some(packet) = ends[from].poll_transmit(now) else { continue };
                quiet = false;
                let (fate, room) = fates.next().expect("it never ends");
                let copies = match fate { 0..3 => 0, 3 => 2, _ => 1 };
                for _ in 0..copies {
                    let heard = ends[1 - from].handle(now, &packet, room).unwrap();
                    got[1 - from].extend(heard.chars);
                }
            }
            if quiet {
                now = ends.iter().filter_map(Endpoint::poll_timeout).min().expect("somebody waits");
            }
        }
        prop_assert_eq!(&got[1], &sources[0]);
        prop_assert_eq!(&got[0], &sources[1]);
    }

    #[test]
    fn nothing_panics_and_memory_is_bounded(
        packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..50),
    ) {
        let (mut now, (mut console, _)) = (Instant::now(), ends());
        for packet in packets {
            console.push(&packet);
            if let Ok(heard) = console.handle(now, &packet, 64) {
                prop_assert!(heard.chars.len() <= 64);
            }
            let _ = console.poll_transmit(now);
            now += Duration::from_millis(30);
            prop_assert!(console.pending.len() <= policy().max_pending + MAX_CHARS);
        }
    }
}
