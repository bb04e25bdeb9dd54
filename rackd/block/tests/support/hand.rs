//! Sessions that are spoken by hand, and a gate at which operations wait.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::Server;

/// A session that was logged in to by hand.
pub(crate) struct Session {
    pub(crate) stream: TcpStream,
    /// Of the next command.
    pub(crate) number: u32,
}

impl Session {
    pub(crate) fn command(&mut self, opcode: u8, direction: u8, blocks: u8) {
        command(&mut self.stream, &mut self.number, opcode, direction, u32::from(blocks));
    }

    /// Of the next command that ends.
    pub(crate) fn status(&mut self) -> u8 {
        status(&mut self.stream)
    }
}

pub(crate) fn normal(target: &str) -> String {
    format!("TargetName={target}\0")
}

pub(crate) fn connect(server: &Server, from: Ipv4Addr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("bound");
    socket.connect(&server.portals[0].into()).expect("connects");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT)).expect("settable");
    stream
}

/// Sends the only request of a login.
pub(crate) fn begin(server: &Server, from: Ipv4Addr, number: u8, what: &str) -> TcpStream {
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
pub(crate) fn login(server: &Server, from: Ipv4Addr, number: u8, what: &str) -> Option<Session> {
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
pub(crate) fn command(stream: &mut TcpStream, number: &mut u32, opcode: u8, direction: u8, blocks: u32) {
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
pub(crate) fn begin_write(stream: &mut TcpStream, number: &mut u32, blocks: u32) -> bool {
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
pub(crate) fn write_one(session: &mut Session, fill: u8) -> u8 {
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
pub(crate) fn status(stream: &mut TcpStream) -> u8 {
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

pub(crate) fn pdu(stream: &mut TcpStream) -> [u8; 48] {
    let mut answer = [0; 48];
    stream.read_exact(&mut answer).expect("an answer");
    skip(stream, &answer);
    answer
}

pub(crate) fn skip(stream: &mut TcpStream, header: &[u8; 48]) {
    let len = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
    stream.read_exact(&mut vec![0; len.next_multiple_of(4)]).expect("its data");
}

/// Where readers wait until the test lets them go.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Readers inside, and whether it is open.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        while !state.1 {
            state = self.changed.wait(state).unwrap();
        }
        state.0 -= 1;
    }

    pub(crate) fn wait_for(&self, inside: usize) {
        let state = self.state.lock().unwrap();
        let (state, late) = self.changed.wait_timeout_while(state, LIMIT, |state| state.0 < inside).unwrap();
        assert!(!late.timed_out(), "{} readers came", state.0);
    }

    pub(crate) fn inside(&self) -> usize {
        self.state.lock().unwrap().0
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "{what} did not come");
        std::thread::yield_now();
    }
}

pub(crate) const READ_10: u8 = 0x28;
pub(crate) const WRITE_10: u8 = 0x2a;
pub(crate) const GOOD: u8 = 0;
pub(crate) const CHECK_CONDITION: u8 = 2;
pub(crate) const TASK_SET_FULL: u8 = 0x28;

/// Against a hang on a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
