//! Both ends against each other on virtual time: no sockets, no clock.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use farrier_ipmi::client::{
    ClientConfig, ClientSession, Handshake, HandshakeError, HandshakeNonce, Incoming, Step,
};
use farrier_ipmi::command::{CloseSession, GetChassisStatus, SetSessionPrivilegeLevel};
use farrier_ipmi::server::{Entropy, Outcome, Server, ServerConfig, User};
use farrier_ipmi::{CipherSuite, RmcpStatus, Secret};
use ipmi_rs_core::app::auth::PrivilegeLevel;
use ipmi_rs_core::connection::Message;
use proptest::prelude::*;

/// A counter: different every time, the same in every run.
fn entropy() -> impl Entropy {
    let mut next = 1_u8;
    move |buffer: &mut [u8]| {
        for byte in buffer {
            *byte = next;
            next = next.wrapping_mul(5).wrapping_add(7);
        }
    }
}

fn server(kg: Option<&str>) -> Server {
    let user = User { name: "admin".into(), password: Secret::new("s3cret"), max_privilege: 4 };
    Server::new(ServerConfig {
        users: vec![user],
        kg: kg.map(Secret::new),
        guid: [0xA5; 16],
        suites: vec![CipherSuite::Suite17, CipherSuite::Suite3],
        max_sessions: 2,
        idle_timeout: Duration::from_secs(60),
        handshake_timeout: Duration::from_secs(10),
    })
}

fn handshake(suite: CipherSuite, user: &str, password: &str, kg: Option<&str>, id: u32) -> Handshake {
    let kg = kg.map(Secret::new);
    let config = ClientConfig::new(suite, user, &Secret::new(password), kg.as_ref(), 4).unwrap();
    Handshake::start(config, HandshakeNonce { session_id: id, random: [0x5A; 16], tag: 254 })
}

/// Every message is sent twice: retransmission must be harmless on both ends.
fn establish(
    server: &mut Server,
    now: Instant,
    mut client: Handshake,
) -> Result<ClientSession, HandshakeError> {
    let mut entropy = entropy();
    for _ in 0..3 {
        let datagram = client.poll_transmit().to_vec();
        let Outcome::Reply(first) = server.handle_datagram(now, &datagram, &mut entropy) else { panic!() };
        let Outcome::Reply(second) = server.handle_datagram(now, &datagram, &mut entropy) else { panic!() };
        assert_eq!(first, second, "a copy must get the same answer");
        match client.handle_datagram(&first) {
            Step::Established(session) => return Ok(session),
            Step::Failed(error) => return Err(error),
            Step::Advanced => {}
            Step::Ignored(why) => panic!("{why}"),
        }
        assert!(matches!(client.handle_datagram(&second), Step::Ignored(_)));
    }
    panic!("no session after three messages")
}

fn ask(server: &mut Server, session: &mut ClientSession, now: Instant, message: &Message) -> Option<Vec<u8>> {
    let mut entropy = entropy();
    let request = session.request(message);
    let datagram = session.seal(&request, &[9; 16]);
    let reply = match server.handle_datagram(now, &datagram, &mut entropy) {
        Outcome::Reply(reply) => reply,
        Outcome::Request(request) => server.respond(&request, 0, &[request.privilege], &mut entropy)?,
        Outcome::Ignored(_) | Outcome::Sol(_) => return None,
    };
    let response = session.open(&reply).unwrap();
    assert!(response.answers(&request));
    assert!(session.open(&reply).is_err(), "the same packet twice is a replay");
    Some(response.data)
}

#[test]
fn both_suites_open_raise_ask_and_close() {
    for suite in CipherSuite::PREFERENCE {
        for kg in [None, Some("kg-of-20-bytes-xxxxx")] {
            let (now, mut server) = (Instant::now(), server(kg));
            let client = handshake(suite, "admin", "s3cret", kg, 77);
            let mut session = establish(&mut server, now, client).unwrap();
            assert_eq!(session.suite(), suite);
            let status = Message::from(GetChassisStatus);
            assert_eq!(ask(&mut server, &mut session, now, &status), Some(vec![0, 2]), "starts as user");
            let raise = Message::from(SetSessionPrivilegeLevel(PrivilegeLevel::Administrator));
            assert_eq!(ask(&mut server, &mut session, now, &raise), Some(vec![0, 4]));
            assert_eq!(ask(&mut server, &mut session, now, &status), Some(vec![0, 4]));
            let close = Message::from(CloseSession { bmc_session_id: session.bmc_session_id() });
            assert_eq!(ask(&mut server, &mut session, now, &close), Some(vec![0]));
            assert_eq!(server.session_count(now), 0);
            assert_eq!(ask(&mut server, &mut session, now, &status), None);
        }
    }
}

#[test]
fn wrong_credentials_are_told_apart() {
    let now = Instant::now();
    let try_it = |user, password, kg_here, kg_there| {
        let client = handshake(CipherSuite::Suite17, user, password, kg_here, 78);
        establish(&mut server(kg_there), now, client).err()
    };
    assert_eq!(try_it("admin", "wrong", None, None), Some(HandshakeError::WrongPassword));
    assert_eq!(try_it("nobody", "s3cret", None, None), Some(HandshakeError::WrongPassword));
    assert_eq!(try_it("admin", "s3cret", Some("a"), Some("b")), Some(HandshakeError::WrongKg));
    assert_eq!(try_it("admin", "s3cret", None, Some("b")), Some(HandshakeError::WrongKg));
    assert_eq!(try_it("admin", "s3cret", None, None), None);
}

/// A BMC with two slots, and three who have a wrong password: each gives its slot back.
#[test]
fn a_console_that_dislikes_the_proof_leaves_no_slot_taken() {
    let (now, mut server) = (Instant::now(), server(None));
    let mut entropy = entropy();
    for id in 1..=3 {
        let mut client = handshake(CipherSuite::Suite17, "admin", "wrong", None, id);
        assert_eq!(client.give_up(), None, "nothing is there to be given up");
        loop {
            let Outcome::Reply(reply) = server.handle_datagram(now, client.poll_transmit(), &mut entropy)
            else {
                panic!("no slot for {id}")
            };
            match client.handle_datagram(&reply) {
                Step::Advanced => {}
                Step::Failed(error) => break assert_eq!(error, HandshakeError::WrongPassword),
                other => panic!("{other:?}"),
            }
        }
        let told = server.handle_datagram(now, &client.give_up().unwrap(), &mut entropy);
        assert!(matches!(told, Outcome::Ignored(_)), "no answer is due");
    }
    establish(&mut server, now, handshake(CipherSuite::Suite17, "admin", "s3cret", None, 9)).unwrap();
}

#[test]
fn sol_packets_go_both_ways_sealed_and_only_once() {
    let (now, mut server) = (Instant::now(), server(None));
    let mut session =
        establish(&mut server, now, handshake(CipherSuite::Suite17, "admin", "s3cret", None, 9)).unwrap();
    let datagram = session.seal_sol(&[1, 0, 0, 0, b'x'], &[7; 16]);
    let Outcome::Sol(sol) = server.handle_datagram(now, &datagram, &mut entropy()) else { panic!() };
    assert_eq!(sol.packet, [1, 0, 0, 0, b'x']);
    assert!(matches!(server.handle_datagram(now, &datagram, &mut entropy()), Outcome::Ignored(_)));
    let reply = server.seal_sol(sol.session_id, &[0, 1, 1, 0], &mut entropy()).unwrap();
    assert_eq!(session.open_any(&reply), Ok(Incoming::Sol(vec![0, 1, 1, 0])));
    // A session that asked for no SOL does not take it for an answer.
    let reply = server.seal_sol(sol.session_id, &[0, 1, 1, 0], &mut entropy()).unwrap();
    assert!(session.open(&reply).is_err());
    server.forget_sessions();
    assert_eq!(server.seal_sol(sol.session_id, &[0, 1, 1, 0], &mut entropy()), None);
}

#[test]
fn slots_run_out_and_come_back() {
    let (now, mut server) = (Instant::now(), server(None));
    let client = |id| handshake(CipherSuite::Suite3, "admin", "s3cret", None, id);
    establish(&mut server, now, client(1)).unwrap();
    establish(&mut server, now, client(2)).unwrap();
    assert_eq!(
        establish(&mut server, now, client(3)).err(),
        Some(HandshakeError::Refused { message: "Open Session", status: RmcpStatus::INSUFFICIENT_RESOURCES })
    );
    let later = now + Duration::from_secs(60);
    establish(&mut server, later, client(4)).unwrap();
    assert_eq!(server.session_count(later), 1);
}

proptest! {
    #[test]
    fn no_datagram_panics_either_end(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        shape in 0_u8..6,
    ) {
        // Bend random bytes towards the shapes that get deepest.
        let heads: [&[u8]; 6] = [
            &[], &[6, 0, 0xFF, 7, 6], &[6, 0, 0xFF, 7, 0], &[6, 0, 0xFF, 6, 0, 0, 0x11, 0xBE],
            &[6, 0, 0xFF, 7, 6, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0],
            &[6, 0, 0xFF, 7, 6, 0x13, 0, 0, 0, 0, 0, 0, 0, 0, 60, 0],
        ];
        let head = heads[usize::from(shape)];
        bytes.splice(0..head.len().min(bytes.len()), head.iter().copied());
        let now = Instant::now();
        let mut server = server(None);
        let mut session =
            establish(&mut server, now, handshake(CipherSuite::Suite3, "admin", "s3cret", None, 5)).unwrap();
        let _ = server.handle_datagram(now, &bytes, &mut entropy());
        prop_assert!(session.open(&bytes).is_err());
        let mut client = handshake(CipherSuite::Suite17, "admin", "s3cret", None, 5);
        let _ = client.handle_datagram(&bytes);
    }

    #[test]
    fn a_mangled_handshake_never_panics_and_never_succeeds_wrongly(
        at in any::<prop::sample::Index>(), flip in 1_u8.., step in 0_usize..6, cut in any::<bool>(),
    ) {
        let now = Instant::now();
        let mut server = server(None);
        let mut entropy = entropy();
        let mut client = handshake(CipherSuite::Suite17, "admin", "s3cret", None, 5);
        let mangle = |bytes: &mut Vec<u8>, here: bool| if here {
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
        };
        for round in 0..3 {
            let mut out = client.poll_transmit().to_vec();
            mangle(&mut out, step == round * 2);
            let Outcome::Reply(mut back) = server.handle_datagram(now, &out, &mut entropy) else { break };
            mangle(&mut back, step == round * 2 + 1);
            match client.handle_datagram(&back) {
                // Bits that mean nothing (reserved, RMCP sequence) may be flipped; the keys still agree.
                Step::Established(mut session) => {
                    prop_assert!(ask(&mut server, &mut session, now, &Message::from(GetChassisStatus)).is_some());
                }
                Step::Advanced => {}
                Step::Ignored(_) | Step::Failed(_) => break,
            }
        }
    }
}
