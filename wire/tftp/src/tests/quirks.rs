//! What firmware asks for and does that others do not, each as it was seen or read of: UEFI 2.10 §24.3 and EDK2's
//! `PxeBcMtftp.c`, shim's `netboot.c`, and ROMs in bug trackers of other servers.

use super::*;

/// The client of a whole transfer: it acknowledges as told, and counts what it gets.
fn fetches(options: &[(&str, &str)], size: u64) -> (Transfer, Vec<usize>) {
    let now = Instant::now();
    let mut transfer = accept(options, size, now);
    let mut lens = Vec::new();
    loop {
        let sent = drain(&mut transfer);
        let Some(last) = sent.last() else { return (transfer, lens) };
        let answer = match last {
            Transmit::Bytes(_) => ack(0),
            Transmit::Data { block, .. } => ack(*block),
        };
        lens.extend(sent.iter().filter_map(|t| match t {
            Transmit::Data { len, .. } => Some(*len),
            Transmit::Bytes(_) => None,
        }));
        transfer.handle_datagram(&answer, now);
    }
}

/// As shim fetches GRUB: 512 whatever the frame would hold. In new firmware with windows, in older without; and where firmware
/// leaves out what is the default anyway, there is nothing to agree on.
#[test]
fn a_shim_that_asks_for_blocks_of_512_octets_is_answered_with_them_and_has_all_of_grub() {
    const GRUB: u64 = 3_843_520;
    for (options, oack, window) in [
        (&[("blksize", "512"), ("windowsize", "4")][..], Some("blksize\x00512\0windowsize\x004\0"), 4),
        (&[("blksize", "512")], Some("blksize\x00512\0"), 1),
        (&[("tsize", "0"), ("blksize", "512")], Some("tsize\x003843520\0blksize\x00512\0"), 1),
        (&[], None, 1),
    ] {
        let now = Instant::now();
        let mut transfer = accept(options, GRUB, now);
        let first = drain(&mut transfer);
        match oack {
            Some(oack) => {
                assert_eq!(first, [Transmit::Bytes([b"\0\x06", oack.as_bytes()].concat())]);
                transfer.handle_datagram(&ack(0), now);
                let blocks = drain(&mut transfer);
                assert_eq!(blocks.len(), window, "{options:?}");
                assert_eq!(blocks[0], Transmit::Data { block: 1, count: 1, offset: 0, len: 512 });
            }
            None => assert_eq!(first, [Transmit::Data { block: 1, count: 1, offset: 0, len: 512 }]),
        }
        let (transfer, lens) = fetches(options, GRUB);
        assert_eq!(transfer.outcome(), &Outcome::Complete, "{options:?}");
        assert_eq!((lens.len(), lens.iter().sum::<usize>() as u64), (7507, GRUB), "{options:?}");
        assert!(lens[..7506].iter().all(|len| *len == 512) && lens[7506] == 448, "{options:?}");
    }
}

/// 1456 and 1432 of ROMs that leave room for headers of their own, 1408 and 1024 of others, 8192 and 65464 of who thinks of
/// jumbo frames, and odd ones. What is larger than a frame is cut to one: fragments are what ROMs lose.
#[test]
fn any_block_size_is_agreed_as_it_is_or_cut_to_a_frame_and_the_file_comes_whole() {
    let asked = [
        8, 9, 511, 512, 513, 1024, 1400, 1408, 1428, 1431, 1432, 1456, 1467, 1468, 1469, 1470, 1500, 2048,
        4096, 8191, 8192, 16_384, 32_768, 65_463, 65_464,
    ];
    for asked in asked {
        let agreed = asked.min(1468);
        for size in [0, 1, agreed - 1, agreed, agreed + 1, agreed * 7, agreed * 7 + 3] {
            for window in [None, Some("4"), Some("65535")] {
                let text = asked.to_string();
                let mut options = vec![("blksize", text.as_str())];
                options.extend(window.map(|window| ("windowsize", window)));
                let (transfer, lens) = fetches(&options, size);
                assert_eq!(u64::from(transfer.negotiated().block_bytes), agreed);
                assert_eq!(transfer.outcome(), &Outcome::Complete, "{asked} {size} {window:?}");
                assert_eq!(lens.iter().sum::<usize>() as u64, size, "{asked} {window:?}");
                // RFC 1350 §6: a block that is shorter is the last, and there is one.
                assert_eq!(lens.len() as u64, size / agreed + 1, "{asked} {size}");
            }
        }
    }
}

/// Its last ACK was lost, or its ROM sends none, and what it started has no such port: it has the file. One that goes before the last
/// block went out has not.
#[test]
fn a_client_whose_port_closes_after_the_last_block_has_its_file() {
    for (options, size, acked) in [
        (&[("blksize", "512"), ("windowsize", "4")][..], 2000, 0),
        (&[("blksize", "512")], 1000, 1),
        (&[("tsize", "0")], 100, 0),
        (&[], 1000, 1),
    ] {
        let now = Instant::now();
        let mut transfer = accept(options, size, now);
        drain(&mut transfer);
        if !options.is_empty() {
            transfer.handle_gone();
            assert_eq!(transfer.outcome(), &Outcome::Running, "it has not answered at all");
            transfer.handle_datagram(&ack(0), now);
        }
        for block in 0..acked {
            drain(&mut transfer);
            transfer.handle_gone();
            assert_eq!(transfer.outcome(), &Outcome::Running, "blocks are left");
            transfer.handle_datagram(&ack(block + 1), now);
        }
        drain(&mut transfer);
        // It is said while the window is sent again, of which one block may be out.
        transfer.handle_timeout(transfer.poll_timeout().unwrap());
        transfer.poll_transmit(1).unwrap();
        transfer.handle_gone();
        assert_eq!(transfer.outcome(), &Outcome::Unconfirmed, "{options:?}");
    }
}

/// RFC 2347: EDK2 refuses an OACK with `tsize` in it that it did not ask for, and switches one with octets behind its last value.
#[test]
fn an_oack_has_what_was_asked_for_in_that_order_and_not_an_octet_more() {
    for (options, expected) in [
        (&[("blksize", "1468"), ("windowsize", "4")][..], &b"\0\x06blksize\x001468\0windowsize\x004\0"[..]),
        (&[("tsize", "0")], b"\0\x06tsize\x00300\0"),
        (&[("windowsize", "1"), ("blksize", "1456")], b"\0\x06windowsize\x001\0blksize\x001456\0"),
        // Of options that nobody knows, and of those that are wrong, not a word.
        (&[("rollover", "0"), ("blksize", "1456"), ("bigfile", "")], b"\0\x06blksize\x001456\0"),
        (&[("blksize", "1456 "), ("tsize", "0")], b"\0\x06tsize\x00300\0"),
    ] {
        let mut transfer = accept(options, 300, Instant::now());
        assert_eq!(drain(&mut transfer), [Transmit::Bytes(expected.to_vec())], "{options:?}");
    }
    for options in [&[("rollover", "0")][..], &[("blksize", "")], &[("blksize", "4294967808")]] {
        let mut transfer = accept(options, 300, Instant::now());
        let data = Transmit::Data { block: 1, count: 1, offset: 0, len: 300 };
        assert_eq!(drain(&mut transfer), [data], "{options:?}: nothing to agree on is no OACK");
    }
}

/// `EFI_PXE_BASE_CODE_TFTP_GET_FILE_SIZE`, then `…_READ_FILE`: size first, which ends with ERROR 8, then the file without it.
#[test]
fn firmware_that_answers_the_oack_with_error_8_and_asks_again_without_tsize_has_its_file() {
    for message in ["User aborted the transfer", ""] {
        let now = Instant::now();
        let mut probe = accept(&[("tsize", "0"), ("blksize", "1468")], 173_792, now);
        assert_eq!(
            drain(&mut probe),
            [Transmit::Bytes(b"\0\x06tsize\x00173792\0blksize\x001468\0".to_vec())]
        );
        probe.handle_datagram(&[b"\0\x05\0\x08", message.as_bytes(), b"\0"].concat(), now);
        assert_eq!(probe.outcome(), &Outcome::Probed { code: 8, message: message.to_owned() });
        assert_eq!((drain(&mut probe), probe.poll_timeout()), (vec![], None), "it is over, and silent");
        let (transfer, lens) = fetches(&[("blksize", "1468")], 173_792);
        assert_eq!((transfer.outcome(), lens.len()), (&Outcome::Complete, 119));
    }
    // Refused in earnest, it is told as that; and who asks again without any option gets RFC 1350.
    let mut refused = accept(&[("blksize", "1456")], 1000, Instant::now());
    drain(&mut refused);
    refused.handle_datagram(b"\0\x05\0\x08blksize 1456?\0", Instant::now());
    assert_eq!(refused.outcome(), &Outcome::Aborted { code: 8, message: "blksize 1456?".into() });
    assert_eq!(fetches(&[], 1000).1, [512, 488]);
}

/// An OACK that was late was sent twice, so its ACK comes twice too.
#[test]
fn an_ack_0_that_comes_twice_repeats_nothing_in_lock_step_and_one_window_at_most() {
    let now = Instant::now();
    let mut lock_step = accept(&[("blksize", "1456")], 10_000, now);
    drain(&mut lock_step);
    lock_step.handle_datagram(&ack(0), now);
    assert_eq!(blocks(&drain(&mut lock_step)), [1]);
    for _ in 0..3 {
        lock_step.handle_datagram(&ack(0), now);
        assert_eq!(drain(&mut lock_step), []);
    }
    lock_step.handle_datagram(&ack(1), now);
    assert_eq!(blocks(&drain(&mut lock_step)), [2]);
    // Where it stands in the middle it is one that was late.
    lock_step.handle_datagram(&ack(0), now);
    assert_eq!(drain(&mut lock_step), []);

    let mut windows = accept(&[("windowsize", "4")], 51_200, now);
    drain(&mut windows);
    windows.handle_datagram(&ack(0), now);
    assert_eq!(blocks(&drain(&mut windows)), [1, 2, 3, 4]);
    windows.handle_datagram(&ack(0), now);
    assert_eq!(
        blocks(&drain(&mut windows)),
        [1, 2, 3, 4],
        "it says that block 1 was lost (RFC 7440 section 4)"
    );
    windows.handle_datagram(&ack(0), now);
    assert_eq!(drain(&mut windows), [], "and not for ever");
    windows.handle_datagram(&ack(4), now);
    assert_eq!(blocks(&drain(&mut windows)), [5, 6, 7, 8]);
}

/// RFC 2347: "the client must acknowledge the OACK". One that awaits DATA instead is asked again, never sent a block whose size it
/// may not know of, and given up as silent: it has its next boot device.
#[test]
fn firmware_that_awaits_data_without_an_ack_0_is_sent_the_oack_again_and_no_block() {
    let mut now = Instant::now();
    let mut transfer = accept(&[("blksize", "1456")], 10_000, now);
    let oack = Transmit::Bytes(b"\0\x06blksize\x001456\0".to_vec());
    assert_eq!(drain(&mut transfer), std::slice::from_ref(&oack));
    // Nor is an ACK of what was not sent one of the OACK.
    for early in [1, 2, 65_535] {
        transfer.handle_datagram(&ack(early), now);
        assert_eq!(drain(&mut transfer), []);
    }
    let mut again = 0;
    while let Some(at) = transfer.poll_timeout() {
        now = at;
        transfer.handle_timeout(now);
        let sent = drain(&mut transfer);
        assert!(sent.iter().all(|sent| *sent == oack), "{sent:?}");
        again += sent.len();
        if again == 3 {
            break;
        }
    }
    // Late, and in time all the same.
    transfer.handle_datagram(&ack(0), now);
    assert_eq!(blocks(&drain(&mut transfer)), [1]);

    let mut silent = accept(&[("blksize", "1456")], 10_000, now);
    while let Some(at) = silent.poll_timeout() {
        drain(&mut silent);
        silent.handle_timeout(at);
    }
    assert_eq!((silent.outcome(), silent.bytes_acked()), (&Outcome::TimedOut, 0));
}

/// ROMs whose request has bytes behind the last option, none behind the mode, or its words in capitals.
#[test]
fn requests_with_dirt_behind_them_are_read_as_far_as_they_go() {
    for (bytes, agreed) in [
        (&b"\0\x01f\0OCTET\0BLKSIZE\x001456\0"[..], 1456),
        (b"\0\x01f\0octet\0blksize\x001456\0\0\0\0\0", 1456),
        (b"\0\x01f\0octet\0blksize\x001456\0tsize", 1456),
        (b"\0\x01f\0octet\0blksize", 512),
        (b"\0\x01f\0octet\0\xff\xff", 512),
    ] {
        let Ok(Packet::Read(request)) = Packet::parse(bytes) else { panic!("{bytes:?}") };
        let transfer = Transfer::accept(&request, 5000, &Limits::default(), Instant::now());
        assert_eq!((request.is_octet(), transfer.negotiated().block_bytes), (true, agreed), "{bytes:?}");
    }
}
