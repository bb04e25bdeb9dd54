//! A console whose BMC, or somebody in between, answers anything: the true answer still gets through.

use crate::{head, messages};
use farrier_ipmi::client::{ClientConfig, Handshake, HandshakeNonce, Step};
use farrier_ipmi::command::GetChassisStatus;
use farrier_ipmi::server::{Outcome, Server, ServerConfig, User};
use farrier_ipmi::{CipherSuite, Secret};
use ipmi_rs_core::connection::Message;
use std::time::{Duration, Instant};

pub fn run(data: &[u8]) {
    let ([mode], data) = head::<1>(data);
    let suite = if mode & 1 == 0 { CipherSuite::Suite17 } else { CipherSuite::Suite3 };
    let mut server = Server::new(ServerConfig {
        users: vec![User { name: "admin".into(), password: Secret::new("s3cret"), max_privilege: 4 }],
        kg: None,
        guid: [0xA5; 16],
        suites: vec![CipherSuite::Suite17, CipherSuite::Suite3],
        max_sessions: 2,
        idle_timeout: Duration::from_secs(60),
        handshake_timeout: Duration::from_secs(10),
    });
    let now = Instant::now();
    let mut entropy = |buffer: &mut [u8]| buffer.fill(0x5A);
    let config = ClientConfig::new(suite, "admin", &Secret::new("s3cret"), None, 4).unwrap();
    let mut client = Handshake::start(config, HandshakeNonce { session_id: 77, random: [1; 16], tag: 9 });
    let mut noise = messages(data);
    let mut session = None;
    for _ in 0..3 {
        let datagram = client.poll_transmit().to_vec();
        let Outcome::Reply(reply) = server.handle_datagram(now, &datagram, &mut entropy) else { panic!() };
        // Up to three answers that are not the BMC's: raw bytes, or its answer with bytes xored in.
        for (n, message) in noise.by_ref().take(3).enumerate() {
            let forged = if n == 0 {
                message.to_vec()
            } else {
                let mut forged = reply.clone();
                forged.iter_mut().zip(message).for_each(|(a, b)| *a ^= b);
                forged
            };
            if forged == reply {
                continue;
            }
            match client.handle_datagram(&forged) {
                // Reserved bytes are not looked at, so a mangled copy may be as good as the original.
                Step::Advanced | Step::Established(_) => return,
                Step::Failed(error) => drop(error.to_string()),
                Step::Ignored(why) => drop(why.to_string()),
            }
        }
        match client.handle_datagram(&reply) {
            Step::Established(open) => session = Some(open),
            Step::Advanced => {}
            other => panic!("the true answer was not taken: {other:?}"),
        }
    }
    let mut session = session.expect("three answers open a session");
    for message in noise {
        let request = session.request(&Message::from(GetChassisStatus));
        let sealed = session.seal(&request, &[7; 16]);
        let Outcome::Request(asked) = server.handle_datagram(now, &sealed, &mut entropy) else { panic!() };
        let mut reply = server.respond(&asked, 0, message, &mut entropy).expect("the session is open");
        let changed = message.iter().any(|b| *b != 0);
        let mut forged = reply.clone();
        forged.iter_mut().zip(message).for_each(|(a, b)| *a ^= b);
        if changed && forged != reply {
            // The RMCP header's reserved byte and sequence number are outside the MAC (§13.28.4).
            if forged.get(4..) != reply.get(4..) {
                assert!(session.open(&forged).is_err(), "a forged packet was taken");
            }
        }
        // The completion code comes first.
        let opened = session.open(&reply).expect("the true packet").data;
        assert_eq!(opened.split_first(), Some((&0, message)));
        reply.truncate(reply.len() / 2);
        assert!(session.open(&reply).is_err());
    }
}
