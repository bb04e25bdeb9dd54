//! One machine that asks for all it can get, from 127.0.0.2, and another from 127.0.0.1 that goes on as if it were
//! alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use farrier_block::{
    Backing, Chap, Credentials, Event, Image, Limits, LunSpec, Overlay, OverlayOptions, Secret,
};
use socket2::{Domain, Socket, Type};
use support::{Server, file, target, with_chap};

const GREEDY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const HONEST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const NODE: &str = "iqn.2026-01.dev.farrier:node";
const OTHER: &str = "iqn.2026-01.dev.farrier:other";

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

/// Where readers wait until the test lets them go.
#[derive(Debug, Default)]
struct Gate {
    /// Readers inside, and whether it is open.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        while !state.1 {
            state = self.changed.wait(state).unwrap();
        }
        state.0 -= 1;
    }

    fn wait_for(&self, inside: usize) {
        let state = self.state.lock().unwrap();
        let (state, late) = self.changed.wait_timeout_while(state, LIMIT, |state| state.0 < inside).unwrap();
        assert!(!late.timed_out(), "{} readers came", state.0);
    }

    fn inside(&self) -> usize {
        self.state.lock().unwrap().0
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
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

/// A session that was logged in to by hand.
struct Session {
    stream: TcpStream,
    /// Of the next command.
    number: u32,
}

impl Session {
    fn command(&mut self, opcode: u8, direction: u8, blocks: u8) {
        command(&mut self.stream, &mut self.number, opcode, direction, u32::from(blocks));
    }

    /// Of the next command that ends.
    fn status(&mut self) -> u8 {
        status(&mut self.stream)
    }
}

fn normal(target: &str) -> String {
    format!("TargetName={target}\0")
}

fn connect(server: &Server, from: Ipv4Addr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("bound");
    socket.connect(&server.portals[0].into()).expect("connects");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT)).expect("settable");
    stream
}

/// Sends the only request of a login.
fn begin(server: &Server, from: Ipv4Addr, number: u8, what: &str) -> TcpStream {
    let mut stream = connect(server, from);
    let mut text = format!("InitiatorName=iqn.x:{from}\0{what}").into_bytes();
    let len = u8::try_from(text.len()).expect("short");
    text.resize(text.len().next_multiple_of(4), 0);
    let mut header = [0; 48];
    header[..8].copy_from_slice(&[0x43, 0x87, 0, 0, 0, 0, 0, len]);
    header[8..14].copy_from_slice(&[0x80, 1, 2, 3, 0, number]);
    stream.write_all(&[&header[..], &text].concat()).expect("sent");
    stream
}

/// `None`: refused.
fn login(server: &Server, from: Ipv4Addr, number: u8, what: &str) -> Option<Session> {
    let mut stream = begin(server, from, number, what);
    let mut answer = [0; 48];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer[0], 0x23);
    skip(&mut stream, &answer);
    if answer[36] != 0 {
        return None;
    }
    let mut session = Session { stream, number: 0 };
    if what.starts_with("TargetName") {
        // The attentions of a new session (SAM-5 section 5.14).
        loop {
            session.command(0, 0, 0);
            if session.status() == GOOD {
                break;
            }
        }
    }
    Some(session)
}

/// A SCSI command (RFC 7143 section 11.3) for blocks at the start of the disk.
fn command(stream: &mut TcpStream, number: &mut u32, opcode: u8, direction: u8, blocks: u32) {
    let mut header = [0; 48];
    header[..2].copy_from_slice(&[0x01, 0x81 | direction]);
    header[16..20].copy_from_slice(&(*number + 1).to_be_bytes());
    header[20..24].copy_from_slice(&(blocks * 512).to_be_bytes());
    header[24..28].copy_from_slice(&number.to_be_bytes());
    header[32] = opcode;
    header[39..41].copy_from_slice(&u16::try_from(blocks).expect("few").to_be_bytes());
    *number += 1;
    stream.write_all(&header).expect("sent");
}

/// Asks to write and waits for the answer. `false`: TASK SET FULL; `true`: the target waits for the data.
fn begin_write(stream: &mut TcpStream, number: &mut u32, blocks: u32) -> bool {
    command(stream, number, WRITE_10, 0x20, blocks);
    let answer = pdu(stream);
    match answer[0] {
        0x31 => true,
        0x21 => {
            assert_eq!(answer[3], TASK_SET_FULL);
            false
        }
        other => panic!("{other:#04x}"),
    }
}

/// Writes a block and says what became of it.
fn write_one(session: &mut Session, fill: u8) -> u8 {
    let Session { stream, number } = session;
    command(stream, number, WRITE_10, 0x20, 1);
    let r2t = pdu(stream);
    assert_eq!(r2t[0], 0x31, "the target asks for the data");
    let mut header = [0; 48];
    header[..2].copy_from_slice(&[0x05, 0x80]);
    header[6] = 2;
    header[16..24].copy_from_slice(&r2t[16..24]);
    stream.write_all(&[&header[..], &[fill; 512]].concat()).expect("sent");
    status(stream)
}

/// Of the next command that ends: in its response, or with its last data.
fn status(stream: &mut TcpStream) -> u8 {
    loop {
        let answer = pdu(stream);
        match answer[0] {
            0x21 => return answer[3],
            0x25 if answer[1] & 1 != 0 => return answer[3],
            0x25 => {}
            other => panic!("{other:#04x}"),
        }
    }
}

fn pdu(stream: &mut TcpStream) -> [u8; 48] {
    let mut answer = [0; 48];
    stream.read_exact(&mut answer).expect("an answer");
    skip(stream, &answer);
    answer
}

fn skip(stream: &mut TcpStream, header: &[u8; 48]) {
    let len = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
    stream.read_exact(&mut vec![0; len.next_multiple_of(4)]).expect("its data");
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "{what} did not come");
        std::thread::yield_now();
    }
}

const READ_10: u8 = 0x28;
const WRITE_10: u8 = 0x2a;
const GOOD: u8 = 0;
const TASK_SET_FULL: u8 = 0x28;

/// Against a hang on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);
