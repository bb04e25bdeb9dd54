//! A target with a disk in memory, and an initiator that may lie.

mod peer;

use proptest::prelude::*;

use crate::bhs::{Bhs, opcode};
use crate::frame::digest;
use crate::params::Offer;

use super::{Closed, Connection};
use peer::{DISK, MemoryHost, Peer, pdu};

fn logged_in(text: &str) -> (Peer, MemoryHost) {
    let mut host = MemoryHost::default();
    let mut peer = Peer::new(Offer::default());
    peer.login(&mut host, text).expect("logs in");
    (peer, host)
}

#[test]
fn a_login_goes_straight_through_and_says_what_it_agreed_on() {
    let (peer, _) = logged_in("HeaderDigest=CRC32C,None\0MaxBurstLength=65536\0Odd=1\0MaxConnections=8\0");
    for expected in [
        "HeaderDigest=CRC32C",
        "MaxBurstLength=65536",
        "Odd=NotUnderstood",
        "MaxConnections=1",
        "TargetPortalGroupTag=1",
        "MaxRecvDataSegmentLength=262144",
    ] {
        assert!(peer.login_text.contains(&format!("{expected}\0")), "{expected} in {:?}", peer.login_text);
    }
}

#[test]
fn logins_that_break_the_rules_are_refused_with_the_right_status() {
    let login = |flags: u8, tsih: u16, version: u8, text: &str| {
        let bhs = Bhs::new(opcode::LOGIN_REQUEST | 0x40, flags).with_u8(3, version).with_u16(14, tsih);
        pdu(bhs, text.as_bytes(), false, false)
    };
    let good = "InitiatorName=iqn.2026-01.dev.farrier:a\0TargetName=iqn.2026-01.dev.farrier:t\0";
    for (name, bytes, status) in [
        ("no initiator name", login(0x87, 0, 0, "TargetName=iqn.2026-01.dev.farrier:t\0"), 0x0207),
        ("no target name", login(0x87, 0, 0, "InitiatorName=iqn.2026-01.dev.farrier:a\0"), 0x0207),
        ("another target", login(0x87, 0, 0, "InitiatorName=iqn.a\0TargetName=iqn.b\0"), 0x0203),
        ("a second connection of a session", login(0x87, 7, 0, good), 0x020a),
        ("a version to come", login(0x87, 0, 1, good), 0x0205),
        ("back to an older stage", login(0x84, 0, 0, good), 0x0200),
        ("goes on and ends", login(0xc7, 0, 0, good), 0x0200),
        ("another kind of session", login(0x87, 0, 0, &format!("{good}SessionType=Odd\0")), 0x0209),
        ("a key twice", login(0x87, 0, 0, &format!("{good}InitiatorName=iqn.x\0")), 0x0200),
        ("no pair", login(0x87, 0, 0, &format!("{good}oops\0")), 0x0200),
        ("a burst of nothing", login(0x87, 0, 0, &format!("{good}MaxBurstLength=0\0")), 0x0200),
    ] {
        let mut host = MemoryHost::default();
        let mut connection = Connection::new(Offer::default(), 1 << 20);
        let closed = connection.receive(&bytes, &mut host).expect_err(name);
        assert!(
            matches!(&closed, Closed::LoginRefused(refused) if refused.status == status),
            "{name}: {closed:?}"
        );
        let answer = connection.output().pending();
        assert_eq!(u16::from_be_bytes([answer[36], answer[37]]), status, "{name}");
    }
}

#[test]
fn chap_is_asked_for_and_no_way_leads_around_it() {
    let names = "InitiatorName=iqn.2026-01.dev.farrier:a\0TargetName=iqn.2026-01.dev.farrier:t\0";
    let mut host = MemoryHost { secret: true, ..MemoryHost::default() };
    for (name, flags, text) in [
        ("straight to parameters", 0x87, names.to_owned()),
        ("parameters first", 0x04, names.to_owned()),
        ("only None", 0x81, format!("{names}AuthMethod=None\0")),
        ("nothing", 0x81, names.to_owned()),
    ] {
        let mut connection = Connection::new(Offer::default(), 1 << 20);
        let bytes = pdu(Bhs::new(opcode::LOGIN_REQUEST | 0x40, flags), text.as_bytes(), false, false);
        let closed = connection.receive(&bytes, &mut host).expect_err(name);
        assert!(matches!(&closed, Closed::LoginRefused(refused) if refused.suspicious), "{name}: {closed:?}");
    }
    let mut peer = Peer::new(Offer::default());
    assert!(peer.login_with_chap(&mut host, b"wrong wrong wrong").is_err());
    let mut peer = Peer::new(Offer::default());
    peer.login_with_chap(&mut host, b"the secret of it").expect("the right one");
}

#[test]
fn a_broken_header_digest_ends_the_connection_and_a_broken_data_digest_is_rejected_first() {
    let (mut peer, mut host) = logged_in("HeaderDigest=CRC32C\0DataDigest=CRC32C\0");
    let good = pdu(peer.command(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], 0xa0, 512), &[1; 512], true, true);
    let mut bad_data = good.clone();
    bad_data[100] ^= 1;
    assert!(matches!(peer.connection.receive(&bad_data, &mut host), Err(Closed::Protocol(_))));
    assert_eq!(peer.connection.output().pending()[0], opcode::REJECT);
    let (mut peer, mut host) = logged_in("HeaderDigest=CRC32C\0");
    let mut bad_header = pdu(peer.command(&[0; 6], 0x80, 0), &[], true, false);
    bad_header[20] ^= 1;
    assert!(matches!(peer.connection.receive(&bad_header, &mut host), Err(Closed::Protocol(_))));
}

#[test]
fn the_digest_is_that_of_rfc_7143() {
    // Appendix A.4 of RFC 7143.
    assert_eq!(digest(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
    assert_eq!(digest(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
    let counting: Vec<u8> = (0..32).collect();
    assert_eq!(digest(&counting), [0x4e, 0x79, 0xdd, 0x46]);
}

#[test]
fn commands_outside_the_window_are_ignored_and_early_ones_wait() {
    let (mut peer, mut host) = logged_in("");
    let ready = |peer: &mut Peer, sn: u32, itt: u32| {
        let bhs = peer.command(&[0; 6], 0x80, 0).with_u32(24, sn).with_itt(itt);
        pdu(bhs, &[], false, false)
    };
    let next = peer.cmd_sn;
    for sn in [next.wrapping_sub(1), next + 128, next + 5000] {
        let bytes = ready(&mut peer, sn, 9);
        assert_eq!(peer.exchange(&bytes, &mut host).len(), 0, "{sn}");
    }
    let early = ready(&mut peer, next + 1, 11);
    assert_eq!(peer.exchange(&early, &mut host).len(), 0);
    let missing = ready(&mut peer, next, 10);
    let answers = peer.exchange(&missing, &mut host);
    assert_eq!(answers.iter().map(|(bhs, _)| bhs.itt()).collect::<Vec<_>>(), [10, 11]);
}

#[test]
fn tasks_are_asked_for_and_aborted_also_before_they_come() {
    let (mut peer, mut host) = logged_in("");
    peer.attentions(&mut host);
    let manage = |peer: &mut Peer, host: &mut MemoryHost, function: u8, tag: u32, of: u32| {
        let bhs = Bhs::new(opcode::TASK_MANAGEMENT | 0x40, 0x80 | function)
            .with_itt(7777)
            .with_u32(20, tag)
            .with_u32(24, peer.cmd_sn)
            .with_u32(32, of);
        let mut answers = peer.exchange(&pdu(bhs, &[], false, false), host);
        assert_eq!(answers.len(), 1, "function {function}");
        let (answer, _) = answers.remove(0);
        (answer.0[2], [answer.0[8], answer.0[9], answer.0[10]])
    };
    let nothing = [0; 3];
    assert_eq!(manage(&mut peer, &mut host, 10, 0, 0), (0, nothing), "no task");
    // A write that waits for its data.
    let write = peer.command(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], 0xa0, 512);
    let number = peer.cmd_sn;
    peer.cmd_sn += 1;
    peer.exchange(&pdu(write, &[], false, false), &mut host);
    assert_eq!(manage(&mut peer, &mut host, 9, write.itt(), number), (7, nothing), "QUERY TASK");
    assert_eq!(manage(&mut peer, &mut host, 10, 0, 0), (7, nothing), "QUERY TASK SET");
    assert_eq!(manage(&mut peer, &mut host, 11, 0, 0), (0, nothing), "I_T NEXUS RESET");
    assert_eq!(manage(&mut peer, &mut host, 9, write.itt(), number), (0, nothing), "its tasks are gone");
    // One attention, UNIT ATTENTION, I_T NEXUS LOSS OCCURRED; asking leaves it there.
    assert_eq!(manage(&mut peer, &mut host, 12, 0, 0), (7, [0x16, 0x29, 0x07]), "QUERY ASYNCHRONOUS EVENT");
    peer.attentions(&mut host);
    assert_eq!(manage(&mut peer, &mut host, 12, 0, 0), (0, nothing));

    // A command that was lost on its way, and aborted: what comes behind it has its turn.
    let lost = peer.cmd_sn;
    let behind = peer.command(&[0; 6], 0x80, 0).with_u32(24, lost + 1);
    assert!(peer.exchange(&pdu(behind, &[], false, false), &mut host).is_empty());
    peer.cmd_sn = lost + 2;
    let abort = Bhs::new(opcode::TASK_MANAGEMENT | 0x40, 0x81)
        .with_itt(7777)
        .with_u32(20, 4242)
        .with_u32(24, peer.cmd_sn)
        .with_u32(32, lost);
    let answers = peer.exchange(&pdu(abort, &[], false, false), &mut host);
    let codes: Vec<(u8, u8)> = answers.iter().map(|(bhs, _)| (bhs.opcode(), bhs.0[2])).collect();
    assert_eq!(codes, [(opcode::TASK_MANAGEMENT_RESPONSE, 0), (opcode::SCSI_RESPONSE, 0)]);
    assert_eq!(answers[1].0.itt(), behind.itt());
    assert_eq!(manage(&mut peer, &mut host, 1, 4242, lost), (1, nothing), "no such number is to come");
}

/// An initiator that aborts for ever what the medium never ends has its bound, and its answers come when it does.
#[test]
fn aborted_tasks_count_until_the_medium_is_done_with_them() {
    let (mut peer, mut host) = logged_in("");
    peer.attentions(&mut host);
    host.later = true;
    let mut full = 0;
    for _ in 0..2000 {
        let flush = peer.command(&[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0x80, 0);
        peer.cmd_sn += 1;
        let answers = peer.exchange(&pdu(flush, &[], false, false), &mut host);
        full += answers.iter().filter(|(bhs, _)| bhs.0[3] == 0x28).count();
        let abort = Bhs::new(opcode::TASK_MANAGEMENT | 0x40, 0x82).with_itt(9).with_u32(24, peer.cmd_sn);
        peer.exchange(&pdu(abort, &[], false, false), &mut host);
    }
    assert!(host.waiting.len() <= 256 && full >= 1700, "{} under way, {full} refused", host.waiting.len());
    host.finish_some(&mut peer.connection, usize::MAX);
    host.later = false;
    let flush = peer.command(&[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0x80, 0);
    let answers = peer.exchange(&pdu(flush, &[], false, false), &mut host);
    assert_eq!(answers.last().map(|(bhs, _)| (bhs.opcode(), bhs.0[3])), Some((opcode::SCSI_RESPONSE, 0)));
}

#[test]
fn send_targets_of_many_comes_in_parts_and_whole() {
    let mut host = MemoryHost { targets: 200, ..MemoryHost::default() };
    let mut peer = Peer::new(Offer::default());
    peer.login(&mut host, "SessionType=Discovery\0MaxRecvDataSegmentLength=512\0").expect("logs in");
    let text = peer.send_targets(&mut host);
    assert_eq!(text.matches("TargetName=").count(), 200);
    assert_eq!(text.matches("TargetAddress=").count(), 200);
}

#[derive(Debug, Clone)]
struct Way {
    initial_r2t: bool,
    immediate: bool,
    header_digest: bool,
    data_digest: bool,
    segment: usize,
    burst: usize,
    first: usize,
    r2ts: u32,
    blocks: usize,
    lba: usize,
    immediate_part: usize,
    later: bool,
}

fn way() -> impl Strategy<Value = Way> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let lengths = (1..8usize, 1..32usize, 1..32usize, 1..5u32, 1..100usize, 0..100usize, 0..40usize);
    (flags, lengths).prop_map(|(flags, (segment, burst, first, r2ts, blocks, lba, immediate_part))| Way {
        initial_r2t: flags.0,
        immediate: flags.1,
        header_digest: flags.2,
        data_digest: flags.3,
        segment: segment * 512,
        burst: burst * 512,
        first: first * 512,
        r2ts,
        blocks,
        lba,
        immediate_part: immediate_part * 256,
        later: flags.4,
    })
}

proptest! {
    #[test]
    fn what_is_written_in_any_agreed_way_is_read_back(way in way()) {
        let digest = |on: bool| if on { "CRC32C" } else { "None" };
        let yes = |on: bool| if on { "Yes" } else { "No" };
        let text = format!(
            "HeaderDigest={}\0DataDigest={}\0InitialR2T={}\0ImmediateData={}\0MaxRecvDataSegmentLength={}\0\
             MaxBurstLength={}\0FirstBurstLength={}\0MaxOutstandingR2T={}\0",
            digest(way.header_digest), digest(way.data_digest), yes(way.initial_r2t), yes(way.immediate),
            way.segment, way.burst, way.first, way.r2ts,
        );
        let (mut peer, mut host) = logged_in(&text);
        peer.attentions(&mut host);
        host.later = way.later;
        let data: Vec<u8> = (0..way.blocks * 512).map(|at| (at / 7 + way.lba) as u8).collect();
        peer.write(&mut host, way.lba, &data, way.immediate_part, way.segment);
        prop_assert_eq!(&host.disk()[way.lba * 512..way.lba * 512 + data.len()], &data[..]);
        let read = peer.read(&mut host, way.lba, way.blocks);
        prop_assert!(read == data);
    }

    /// Hostile sequences after an honest login: no panic, bounded answers, and the disk is written only by
    /// commands that say so.
    #[test]
    fn hostile_pdus_cost_little(
        pdus in proptest::collection::vec((any::<[u8; 48]>(), 0..6usize, any::<[u8; 8]>(), proptest::collection::vec(any::<u8>(), 0..700)), 1..40),
        later in any::<bool>(),
    ) {
        let (mut peer, mut host) = logged_in("");
        peer.attentions(&mut host);
        host.later = later;
        for (mut header, kind, choices, data) in pdus {
            // Fields that make it further than random ones.
            header[0] = [0x01, 0x41, 0x05, 0x02, 0x00, 0x04][kind] | header[0] & 0x40;
            header[4] = 0;
            header[8..16].fill(0);
            let mut bhs = Bhs(header).with_itt(u32::from(choices[0] % 4)).with_u32(24, peer.cmd_sn);
            if kind == 0 {
                bhs = bhs.with_u8(32, [0x2a, 0x28, 0x8a, 0x89, 0x93, 0x42, 0x5f, 0x15][usize::from(choices[1] % 8)]);
            }
            if kind == 2 {
                bhs = bhs.with_u32(20, u32::from(choices[2] % 4)).with_u32(36, u32::from(choices[3] % 2)).with_u32(40, u32::from(choices[4]) * 512);
            }
            let bytes = pdu(bhs, &data, false, false);
            match peer.connection.receive(&bytes, &mut host) {
                Ok(_) => {
                    if bhs.opcode() != opcode::DATA_OUT && !bhs.immediate() {
                        peer.cmd_sn = peer.connection.link.exp_cmd_sn;
                    }
                    let pending = peer.connection.output().pending().len();
                    prop_assert!(pending <= (2 << 20) + 4096, "{pending}");
                    peer.connection.output().advance(pending);
                }
                Err(_) => break,
            }
            host.finish_some(&mut peer.connection, usize::from(choices[5] % 3));
        }
        prop_assert_eq!(host.disk().len(), DISK);
    }

    #[test]
    fn random_bytes_before_login_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0..300usize) {
        let mut host = MemoryHost::default();
        let mut connection = Connection::new(Offer::default(), 1 << 20);
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        if connection.receive(first, &mut host).is_ok() {
            let _ = connection.receive(second, &mut host);
        }
        prop_assert!(connection.output().pending().len() < 64 * 1024);
    }
}
