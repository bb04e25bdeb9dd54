//! One machine that asks for all it can get, from 127.0.0.2, and another from 127.0.0.1 that goes on as if it were
//! alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use farrier_block::{
    Backing, Chap, Credentials, Event, Image, Limits, LunSpec, Overlay, OverlayOptions, Secret,
};
use support::hand::*;
use support::{Server, file, target, with_chap};

const GREEDY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const HONEST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const NODE: &str = "iqn.2026-01.dev.farrier:node";
const OTHER: &str = "iqn.2026-01.dev.farrier:other";
/// Login status (RFC 7143 section 11.13.5).
const OUT_OF_RESOURCES: u16 = 0x0302;

#[test]
fn discoveries_are_few_for_one_address_and_end_and_others_still_discover() {
    let directory = tempfile::tempdir().expect("a directory");
    let limits = Limits {
        discoveries: 3,
        discoveries_per_address: 1,
        discovery_time: Duration::from_secs(3600),
        ..Limits::default()
    };
    let server = started(limits, directory.path());
    let open: Vec<Option<Session>> =
        (0..12).map(|n| login(&server, GREEDY, n, "SessionType=Discovery\0")).collect();
    assert_eq!(open.iter().flatten().count(), 3);
    let listed = Command::new("timeout")
        .args(["60", "iscsi-ls", &format!("iscsi://{}", server.portals[0])])
        .stdin(Stdio::null())
        .output()
        .expect("iscsi-ls of libiscsi-bin runs");
    assert!(String::from_utf8_lossy(&listed.stdout).contains(NODE), "{listed:?}");
    // A place that is given back is another's.
    drop(open);
    wait_until("a place", || login(&server, GREEDY, 99, "SessionType=Discovery\0").is_some());

    let server =
        started(Limits { discovery_time: Duration::from_millis(50), ..Limits::default() }, directory.path());
    let mut idle = login(&server, GREEDY, 1, "SessionType=Discovery\0").expect("begins");
    assert_eq!(idle.stream.read(&mut [0; 48]).expect("closed by the server"), 0);
}

#[test]
fn a_refused_login_keeps_its_place_until_it_is_answered_and_a_wrong_secret_is_answered_late() {
    let directory = tempfile::tempdir().expect("a directory");
    let limits = Limits {
        logins: 2,
        logins_per_address: 2,
        // For ever, as this test sees it.
        wrong_secret_delay: Duration::from_secs(3600),
        ..Limits::default()
    };
    let mut server = started(limits, directory.path());
    let initiator = Credentials { user: "node".into(), secret: Secret::new(*b"initiator-secret") };
    let guarded = target(OTHER, LunSpec::new(0, file(directory.path(), "guarded", 1 << 20)));
    server.targets.add(with_chap(guarded, Chap { initiator, target: None })).expect("added");
    let mut events = server.targets.subscribe();
    let mut refused: Vec<TcpStream> = (0..2).map(|n| begin(&server, GREEDY, n, &normal(OTHER))).collect();
    for _ in 0..2 {
        wait_until("a refusal", || {
            matches!(events.try_recv(), Ok(Event::LoginRefused { suspicious: true, .. }))
        });
    }
    // Neither has its answer, so both places are taken: the third is not even heard.
    let mut third = connect(&server, GREEDY);
    assert_eq!(third.read(&mut [0; 1]).unwrap_or(0), 0, "closed at once");
    let mut honest = login(&server, HONEST, 1, &normal(NODE)).expect("another address logs in");
    assert_eq!(write_one(&mut honest, 0), GOOD);
    for stream in &mut refused {
        stream.set_nonblocking(true).expect("set");
        assert_eq!(stream.read(&mut [0; 1]).expect_err("no answer yet").kind(), io::ErrorKind::WouldBlock);
        stream.set_nonblocking(false).expect("set");
    }
    server.stop();
    for stream in &mut refused {
        let mut answer = [0; 48];
        stream.read_exact(&mut answer).expect("the answer, late");
        // Initiator error, authentication failure (RFC 7143 section 11.13.5).
        assert_eq!((answer[0], answer[36], answer[37]), (0x23, 2, 1));
    }
}

#[test]
fn sessions_of_one_initiator_have_their_number() {
    let directory = tempfile::tempdir().expect("a directory");
    let limits = Limits { sessions_per_initiator: 2, sessions_per_target: 3, ..Limits::default() };
    let server = started(limits, directory.path());
    let status = |from, number| {
        let mut stream = begin(&server, from, number, &normal(NODE));
        let mut answer = [0; 48];
        std::io::Read::read_exact(&mut stream, &mut answer).expect("an answer");
        (stream, u16::from_be_bytes([answer[36], answer[37]]))
    };
    let (_first, one) = status(GREEDY, 1);
    let (_second, two) = status(GREEDY, 2);
    let (_third, three) = status(GREEDY, 3);
    assert_eq!((one, two, three), (0, 0, OUT_OF_RESOURCES), "for this initiator");
    let (_honest, four) = status(HONEST, 1);
    let (_other, five) = status(Ipv4Addr::new(127, 0, 0, 3), 1);
    assert_eq!((four, five), (0, OUT_OF_RESOURCES), "for this target");
}

#[test]
fn write_data_that_never_comes_takes_no_memory_from_another_address() {
    let directory = tempfile::tempdir().expect("a directory");
    let limits = Limits { outstanding_crowded: 1 << 20, outstanding_share: 64 << 10, ..Limits::default() };
    let server = started(limits, directory.path());
    server
        .targets
        .add(target(OTHER, LunSpec::new(0, file(directory.path(), "other", 1 << 20))))
        .expect("added");
    let mut sessions = Vec::new();
    let mut taken = 0;
    for number in 0..8 {
        let mut session = login(&server, GREEDY, number, &normal(OTHER)).expect("logs in");
        // 256 KiB each, and never any data.
        while begin_write(&mut session.stream, &mut session.number, 512) {
            taken += 1;
        }
        sessions.push(session.stream);
    }
    assert_eq!(taken, 4, "a mebibyte for all its sessions together");
    let mut honest = login(&server, HONEST, 1, &normal(NODE)).expect("logs in");
    for round in 0..8 {
        assert_eq!(write_one(&mut honest, round), GOOD);
    }
    // What sessions held is free when they are gone.
    drop(sessions);
    wait_until("memory", || {
        let mut again = login(&server, GREEDY, 50, &normal(OTHER)).expect("logs in");
        (0..4).all(|_| begin_write(&mut again.stream, &mut again.number, 512))
    });
}

#[test]
fn operations_that_take_for_ever_take_no_threads_from_another_address() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = started(
        Limits { threads: Some(1), operations_per_address: 2, ..Limits::default() },
        directory.path(),
    );
    let gate = Arc::new(Gate::default());
    for (name, slow) in [(OTHER, Some(gate.clone())), ("iqn.2026-01.dev.farrier:quick", None)] {
        let image = Arc::new(Stuck(slow));
        let path = directory.path().join(name);
        let overlay = Overlay::create(&path, &OverlayOptions::default(), image, "image").expect("made");
        server.targets.add(target(name, LunSpec::new(0, overlay as Arc<dyn Backing>))).expect("added");
    }
    // More than there are threads.
    let mut greedy: Vec<Session> =
        (0..3).map(|number| login(&server, GREEDY, number, &normal(OTHER)).expect("logs in")).collect();
    for session in &mut greedy {
        for _ in 0..100 {
            session.command(READ_10, 0x40, 8);
        }
    }
    gate.wait_for(2);
    let mut honest = login(&server, HONEST, 1, &normal("iqn.2026-01.dev.farrier:quick")).expect("logs in");
    honest.command(READ_10, 0x40, 1);
    assert_eq!(honest.status(), GOOD);
    assert_eq!(gate.inside(), 2, "its others wait for their turn");
    gate.open();
    for session in &mut greedy {
        for _ in 0..100 {
            assert_eq!(session.status(), GOOD);
        }
    }
}

/// A server with the target NODE.
fn started(limits: Limits, directory: &std::path::Path) -> Server {
    let server = Server::start(limits, 1);
    server.targets.add(target(NODE, LunSpec::new(0, file(directory, "node", 1 << 20)))).expect("added");
    server
}

/// A test that fails must not leave readers behind: the server's threads would wait for them.
impl Drop for Stuck {
    fn drop(&mut self) {
        if let Some(gate) = &self.0 {
            gate.open();
        }
    }
}

/// An image that is never at hand, and waits for its gate.
#[derive(Debug)]
struct Stuck(Option<Arc<Gate>>);

impl Image for Stuck {
    fn size(&self) -> u64 {
        1 << 20
    }

    fn read_at(&self, buffer: &mut [u8], _: u64) -> io::Result<()> {
        if let Some(gate) = &self.0 {
            gate.pass();
        }
        buffer.fill(7);
        Ok(())
    }

    fn try_read_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}
