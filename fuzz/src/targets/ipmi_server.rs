//! A BMC that anybody talks to, beside an honest console with an open session, which must survive it.

use crate::{head, messages};
use farrier_ipmi::client::{ClientConfig, ClientSession, Handshake, HandshakeNonce, Step};
use farrier_ipmi::command::GetChassisStatus;
use farrier_ipmi::server::{Outcome, Server, ServerConfig, User};
use farrier_ipmi::{CipherSuite, Secret};
use ipmi_rs_core::connection::Message;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn server() -> Server {
    Server::new(ServerConfig {
        users: vec![
            User { name: "admin".into(), password: Secret::new("s3cret"), max_privilege: 4 },
            User { name: String::new(), password: Secret::new(""), max_privilege: 2 },
        ],
        kg: None,
        guid: [0xA5; 16],
        suites: vec![CipherSuite::Suite17, CipherSuite::Suite3],
        max_sessions: 3,
        idle_timeout: Duration::from_secs(60),
        handshake_timeout: Duration::from_secs(10),
    })
}

fn open(server: &mut Server, now: Instant, entropy: &mut impl FnMut(&mut [u8])) -> ClientSession {
    let config = ClientConfig::new(CipherSuite::Suite17, "admin", &Secret::new("s3cret"), None, 4).unwrap();
    let mut client = Handshake::start(config, HandshakeNonce { session_id: 7, random: [3; 16], tag: 0 });
    loop {
        let datagram = client.poll_transmit().to_vec();
        let Outcome::Reply(reply) = server.handle_datagram(now, &datagram, entropy) else {
            panic!("no answer")
        };
        match client.handle_datagram(&reply) {
            Step::Established(session) => return session,
            Step::Advanced => {}
            other => panic!("{other:?}"),
        }
    }
}

pub fn run(data: &[u8]) {
    let ([seed, mode], data) = head::<2>(data);
    let mut next = seed;
    let mut entropy = move |buffer: &mut [u8]| {
        for byte in buffer {
            *byte = next;
            next = next.wrapping_mul(5).wrapping_add(7);
        }
    };
    let mut server = server();
    let mut now = *START;
    let mut session = open(&mut server, now, &mut entropy);
    for message in messages(data) {
        now += Duration::from_millis(u64::from(mode >> 4));
        // Odd modes: the bytes as a datagram. Even ones: a true datagram of the session, bytes xored in.
        let datagram = if mode & 1 == 1 {
            message.to_vec()
        } else {
            let request = session.request(&Message::from(GetChassisStatus));
            let mut sealed = match mode & 2 {
                0 => session.seal(&request, &[9; 16]),
                _ => session.seal_sol(message, &[9; 16]),
            };
            sealed.iter_mut().zip(message).for_each(|(a, b)| *a ^= b);
            sealed
        };
        match server.handle_datagram(now, &datagram, &mut entropy) {
            Outcome::Request(request) => {
                if let Some(reply) = server.respond(&request, 0, &[1, 2, 3], &mut entropy) {
                    let _ = session.open(&reply);
                }
            }
            Outcome::Reply(reply) => drop(session.open(&reply)),
            Outcome::Sol(sol) => {
                if let Some(reply) = server.seal_sol(sol.session_id, &sol.packet, &mut entropy) {
                    let _ = session.open_any(&reply);
                }
            }
            Outcome::Ignored(_) => {}
        }
        assert!(server.session_count(now) <= 3);
    }
    // Nobody without the keys ended or used up the honest session.
    if mode & 1 == 1 && now.duration_since(*START) < Duration::from_secs(50) {
        let request = session.request(&Message::from(GetChassisStatus));
        let sealed = session.seal(&request, &[9; 16]);
        assert!(matches!(server.handle_datagram(now, &sealed, &mut entropy), Outcome::Request(_)));
    }
}
