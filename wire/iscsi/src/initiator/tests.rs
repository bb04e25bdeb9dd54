use super::*;
use crate::chap::Secret;
use proptest::prelude::*;

fn login(chap: bool) -> Login {
    let secret = Secret::new(b"a secret of sixteen".to_vec());
    Login {
        initiator: "iqn.2026-01.dev.farrier:n1".into(),
        target: "iqn.2026-01.dev.farrier:t".into(),
        chap: chap.then(|| Credentials { user: "n1".into(), secret }),
        isid: [1, 2, 3],
    }
}

fn response(flags: u8, text: &str) -> Vec<u8> {
    let mut bhs = Bhs::new(opcode::LOGIN_RESPONSE, flags).with_u32(24, 7).with_u32(28, 1).with_u32(32, 9);
    bhs.set_data_len(text.len());
    let mut bytes = bhs.0.to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn text_of(pdu: &[u8]) -> String {
    String::from_utf8_lossy(&pdu[BHS_LEN..]).replace('\0', " ")
}

/// Logged in, by a target that wants no proof.
fn full_feature() -> Initiator {
    let (mut initiator, mut out) = (Initiator::new(login(false)), Vec::new());
    initiator.login(&mut out);
    assert_eq!(out[1], 0x81, "transit from security to operational");
    assert!(initiator.receive(&response(0x81, ""), &mut out).unwrap().is_empty());
    assert_eq!(initiator.receive(&response(0x87, ""), &mut out).unwrap(), [Event::LoggedIn]);
    initiator
}

/// RFC 1994 section 4.1 computed by hand: SHA-256 over identifier, secret, challenge.
#[test]
fn chap_goes_through_its_stages() {
    let (mut initiator, mut out) = (Initiator::new(login(true)), Vec::new());
    initiator.login(&mut out);
    assert!(text_of(&out).contains("AuthMethod=CHAP"));
    out.clear();
    initiator.receive(&response(0x00, "AuthMethod=CHAP\0"), &mut out).unwrap();
    assert!(text_of(&out).contains("CHAP_A=7,6,5"));
    out.clear();
    initiator.receive(&response(0x00, "CHAP_A=7\0CHAP_I=9\0CHAP_C=0x0102030405060708\0"), &mut out).unwrap();
    let secret = Secret::new(b"a secret of sixteen".to_vec());
    let proof = to_hex_of(&Algorithm::Sha256.response(9, &secret, &[1, 2, 3, 4, 5, 6, 7, 8]));
    assert!(text_of(&out).contains(&format!("CHAP_R={proof}")), "{}", text_of(&out));
    assert_eq!(out[1], 0x81);
    out.clear();
    initiator.receive(&response(0x81, ""), &mut out).unwrap();
    assert!(!initiator.may_send());
    assert_eq!(initiator.receive(&response(0x87, ""), &mut out).unwrap(), [Event::LoggedIn]);
    assert!(initiator.may_send());
}

use crate::chap::Algorithm;
use crate::text::to_hex as to_hex_of;

#[test]
fn a_refusal_says_what_it_means() {
    let (mut initiator, mut out) = (Initiator::new(login(true)), Vec::new());
    initiator.login(&mut out);
    let mut refusal = response(0, "");
    (refusal[36], refusal[37]) = (2, 1);
    let error = initiator.receive(&refusal, &mut out).unwrap_err();
    assert!(error.to_string().contains("secret is wrong"), "{error}");
}

#[test]
fn commands_stay_inside_the_window_and_data_comes_in_pieces() {
    let mut initiator = full_feature();
    let mut out = Vec::new();
    let tags: Vec<u32> =
        std::iter::from_fn(|| initiator.may_send().then(|| initiator.read(0, 8, 2, 512, &mut out)))
            .take(100)
            .collect();
    // MaxCmdSN 9, the first command has 1.
    assert_eq!(tags.len(), 9);
    let mut data = Bhs::new(opcode::DATA_IN, 0x81)
        .with_itt(tags[0])
        .with_u32(24, 8)
        .with_u32(28, 2)
        .with_u32(32, 10)
        .with_u32(40, 512);
    data.set_data_len(4);
    let bytes = [data.0.as_slice(), b"abcd"].concat();
    let mut events = Vec::new();
    for byte in bytes {
        events.extend(initiator.receive(&[byte], &mut out).unwrap());
    }
    let tag = tags[0];
    assert_eq!(
        events,
        [
            Event::Data { tag, offset: 512, data: b"abcd".to_vec() },
            Event::Ended { tag, status: 0, sense: Vec::new() }
        ]
    );
    assert!(initiator.may_send(), "the window has moved on");
}

#[test]
fn a_capacity_is_read_and_an_insane_one_is_not() {
    let mut data = [0; 32];
    data[..8].copy_from_slice(&99u64.to_be_bytes());
    data[8..12].copy_from_slice(&512u32.to_be_bytes());
    assert_eq!(Capacity::parse(&data), Some(Capacity { blocks: 100, block_bytes: 512 }));
    data[11] = 1;
    assert_eq!(Capacity::parse(&data), None);
    assert_eq!(Capacity::parse(&data[..11]), None);
}

/// Seeds that break off at their first byte would lead the fuzzer nowhere.
#[test]
fn the_fuzzers_seeds_reach_the_data() {
    for (seed, chap, ended) in [
        (&include_bytes!("../../../../fuzz/seeds/iscsi_initiator/plain")[..], false, [0, 2].as_slice()),
        (include_bytes!("../../../../fuzz/seeds/iscsi_initiator/chap"), true, &[0]),
    ] {
        let (how, data) = seed.split_first().unwrap();
        assert_eq!(how & 1 == 1, chap);
        let (mut initiator, mut out) = (Initiator::new(login(chap)), Vec::new());
        initiator.login(&mut out);
        let mut events = Vec::new();
        for piece in data.chunks(usize::from(how >> 1)) {
            events.extend(initiator.receive(piece, &mut out).unwrap());
            if initiator.may_send() {
                initiator.read(0, 0, 8, 512, &mut out);
            }
        }
        assert!(events.contains(&Event::LoggedIn));
        let statuses: Vec<u8> = events
            .iter()
            .filter_map(|event| if let Event::Ended { status, .. } = event { Some(*status) } else { None })
            .collect();
        assert_eq!(statuses, ended);
    }
}

proptest! {
    #[test]
    fn no_target_panics_it(bytes in proptest::collection::vec(any::<u8>(), 0..400), logged_in: bool) {
        let mut out = Vec::new();
        let mut initiator = if logged_in { full_feature() } else { Initiator::new(login(true)) };
        if !logged_in {
            initiator.login(&mut out);
        }
        let _ = initiator.receive(&bytes, &mut out);
        let mut answer = response(0x00, "AuthMethod=CHAP\0");
        for (at, byte) in bytes.iter().enumerate() {
            if let Some(place) = answer.get_mut(at * 7 % 64) {
                *place ^= byte;
            }
        }
        let _ = initiator.receive(&answer, &mut out);
    }
}
