//! What was begun and aborted does not come over what came after it: sessions that replace each other, and fences.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use farrier_block::{Backing, Event, Limits, LunSpec};
use farrier_iscsi::scsi::Extent;
use support::hand::{CHECK_CONDITION, GOOD, Gate, Session, WRITE_10, command, login, normal, pdu};
use support::{Server, target};

const NODE: &str = "iqn.2026-01.dev.farrier:node";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// A disk whose writes are remembered by their first byte; those of 1 wait at the gate.
#[derive(Debug, Default)]
struct Slow {
    gate: Arc<Gate>,
    written: Arc<Mutex<Vec<u8>>>,
    flushes_wait: bool,
    flushes_fail: bool,
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.gate.open();
    }
}

impl Backing for Slow {
    fn size(&self) -> u64 {
        1 << 20
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn can_discard(&self) -> bool {
        true
    }

    fn block(&self) -> u64 {
        512
    }

    fn read_at(&self, buffer: &mut [u8], _: u64) -> io::Result<()> {
        buffer.fill(*self.written.lock().unwrap().last().unwrap_or(&0));
        Ok(())
    }

    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_at(buffer, offset)
    }

    fn write_at(&self, data: &[u8], _: u64) -> io::Result<()> {
        if data[0] == 1 {
            self.gate.pass();
        }
        self.written.lock().unwrap().push(data[0]);
        Ok(())
    }

    fn try_write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        if data[0] < 3 { Err(io::ErrorKind::WouldBlock.into()) } else { self.write_at(data, offset) }
    }

    fn flush(&self) -> io::Result<()> {
        if self.flushes_wait {
            self.gate.pass();
        }
        if self.flushes_fail { Err(io::Error::other("a platter fell out")) } else { Ok(()) }
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn extents(&self, _: u64, _: usize) -> io::Result<Vec<Extent>> {
        Ok(Vec::new())
    }

    fn prefetch(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
}

struct Case {
    server: Server,
    gate: Arc<Gate>,
    written: Arc<Mutex<Vec<u8>>>,
    old: Session,
}

/// A session with a write under way that waits at the gate, and one behind it that has not begun.
fn two_writes_under_way() -> Case {
    let server = Server::start(Limits { operations_per_address: 1, ..Limits::default() }, 1);
    let disk = Slow::default();
    let (gate, written) = (Arc::clone(&disk.gate), Arc::clone(&disk.written));
    server.targets.add(target(NODE, LunSpec::new(0, Arc::new(disk)))).expect("added");
    let mut old = login(&server, ADDRESS, 1, &normal(NODE)).expect("logs in");
    send_write(&mut old, 1);
    gate.wait_for(1);
    send_write(&mut old, 2);
    nop(&mut old);
    Case { server, gate, written, old }
}

#[test]
fn a_session_that_replaces_another_comes_after_all_that_was_begun() {
    let Case { server, gate, written, old } = two_writes_under_way();
    let mut new = login(&server, ADDRESS, 1, &normal(NODE)).expect("logs in again");
    send_write(&mut new, 3);
    // Had it been written, its answer would have come before this one.
    nop(&mut new);
    assert!(written.lock().unwrap().is_empty());
    gate.open();
    assert_eq!(new.status(), GOOD);
    assert_eq!(*written.lock().unwrap(), [1, 3], "what waited is aborted, what had begun is over before");
    drop(old);
}

#[test]
fn so_does_one_that_comes_when_the_old_one_is_gone() {
    let Case { server, gate, written, old } = two_writes_under_way();
    drop(old);
    let begun = std::time::Instant::now();
    while !server.targets.sessions().is_empty() {
        assert!(begun.elapsed() < support::hand::LIMIT, "the session did not end");
        std::thread::yield_now();
    }
    let mut new = login(&server, ADDRESS, 1, &normal(NODE)).expect("logs in again");
    send_write(&mut new, 3);
    nop(&mut new);
    gate.open();
    assert_eq!(new.status(), GOOD);
    assert_eq!(*written.lock().unwrap(), [1, 3]);
}

/// What changes nothing keeps nobody out, however long it takes.
#[test]
fn a_flush_that_never_ends_does_not_keep_the_next_session_waiting() {
    let server = Server::start(Limits::default(), 1);
    let mut disk = Slow::default();
    disk.flushes_wait = true;
    let (gate, written) = (Arc::clone(&disk.gate), Arc::clone(&disk.written));
    server.targets.add(target(NODE, LunSpec::new(0, Arc::new(disk)))).expect("added");
    let mut old = login(&server, ADDRESS, 1, &normal(NODE)).expect("logs in");
    // SYNCHRONIZE CACHE (10).
    old.command(0x35, 0, 0);
    gate.wait_for(1);
    let mut new = login(&server, ADDRESS, 1, &normal(NODE)).expect("logs in again");
    send_write(&mut new, 3);
    assert_eq!(new.status(), GOOD);
    assert_eq!(*written.lock().unwrap(), [3]);
    gate.open();
}

/// Who gave up waiting for the end of a target, and removes it again, waits again.
#[test]
fn a_target_that_is_removed_twice_is_over_after_the_second_time() {
    let Case { server, gate, written, old } = two_writes_under_way();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let waits = |removal: &mut Pin<Box<dyn Future<Output = bool> + '_>>| {
        removal.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
    };
    let mut first: Pin<Box<dyn Future<Output = bool>>> = Box::pin(server.targets.remove(NODE));
    assert!(waits(&mut first), "a write has begun");
    drop(first);
    let mut second: Pin<Box<dyn Future<Output = bool>>> = Box::pin(server.targets.remove(NODE));
    assert!(waits(&mut second));
    gate.open();
    assert!(!runtime.block_on(second), "it was gone already");
    assert_eq!(*written.lock().unwrap(), [1]);
    drop(old);
}

#[test]
fn a_disk_that_fails_is_told_of_once_and_each_command_hears_it() {
    let server = Server::start(Limits::default(), 1);
    let mut disk = Slow::default();
    disk.flushes_fail = true;
    server.targets.add(target(NODE, LunSpec::new(0, Arc::new(disk)))).expect("added");
    let mut events = server.targets.subscribe();
    let mut session = login(&server, ADDRESS, 1, &normal(NODE)).expect("logs in");
    for _ in 0..3 {
        // SYNCHRONIZE CACHE (10).
        session.command(0x35, 0, 0);
        assert_eq!(session.status(), CHECK_CONDITION);
    }
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::DiskFailed { target, lun, reason } = event {
            told.push((target, lun, reason));
        }
    }
    assert_eq!(told, [(NODE.to_owned(), 0, "it cannot be written: a platter fell out".to_owned())]);
}

/// I/O fencing: when the answer comes, nothing of the node that was fenced off happens any more.
#[test]
fn a_preempted_initiator_writes_nothing_after_the_answer() {
    let Case { server, gate, written, mut old } = two_writes_under_way();
    register(&mut old, 0xa);
    assert_eq!(old.status(), GOOD);
    let mut other = login(&server, OTHER, 2, &normal(NODE)).expect("logs in");
    register(&mut other, 0xb);
    assert_eq!(other.status(), GOOD);
    // PREEMPT AND ABORT, write exclusive.
    reserve_out(&mut other, [5, 0x01], 0xb, 0xa);
    nop(&mut other);
    gate.open();
    assert_eq!(other.status(), GOOD);
    assert_eq!(*written.lock().unwrap(), [1]);
}

#[test]
fn a_reset_by_another_is_answered_when_all_is_over() {
    let Case { server, gate, written, old } = two_writes_under_way();
    let mut other = login(&server, OTHER, 2, &normal(NODE)).expect("logs in");
    // LOGICAL UNIT RESET (RFC 7143 section 11.5.1).
    let mut header = [0; 48];
    header[..2].copy_from_slice(&[0x42, 0x85]);
    header[16..20].copy_from_slice(&77u32.to_be_bytes());
    header[20..24].fill(0xff);
    header[24..28].copy_from_slice(&other.number.to_be_bytes());
    other.stream.write_all(&header).expect("sent");
    nop(&mut other);
    gate.open();
    let answer = pdu(&mut other.stream);
    assert_eq!((answer[0], answer[2]), (0x22, 0), "function complete");
    assert_eq!(*written.lock().unwrap(), [1]);
    drop(old);
}

/// Sends a write of one block, and its data when the target asks for it.
fn send_write(session: &mut Session, fill: u8) {
    let Session { stream, number } = session;
    command(stream, number, WRITE_10, 0x20, 1);
    let r2t = pdu(stream);
    assert_eq!(r2t[0], 0x31, "the target asks for the data");
    let mut header = [0; 48];
    header[..2].copy_from_slice(&[0x05, 0x80]);
    header[6] = 2;
    header[16..24].copy_from_slice(&r2t[16..24]);
    stream.write_all(&[&header[..], &[fill; 512]].concat()).expect("sent");
}

fn register(session: &mut Session, key: u64) {
    reserve_out(session, [0, 0], 0, key);
}

/// PERSISTENT RESERVE OUT (SPC-4 section 6.16) with its parameters as immediate data.
fn reserve_out(session: &mut Session, action: [u8; 2], key: u64, service_key: u64) {
    let mut header = [0; 48];
    header[..2].copy_from_slice(&[0x01, 0xa1]);
    header[7] = 24;
    header[16..20].copy_from_slice(&(session.number + 1).to_be_bytes());
    header[20..24].copy_from_slice(&24u32.to_be_bytes());
    header[24..28].copy_from_slice(&session.number.to_be_bytes());
    header[32..35].copy_from_slice(&[0x5f, action[0], action[1]]);
    header[40] = 24;
    session.number += 1;
    let list = [&key.to_be_bytes()[..], &service_key.to_be_bytes(), &[0; 8]].concat();
    session.stream.write_all(&[&header[..], &list].concat()).expect("sent");
}

/// Everything that was sent before it has been taken in, and nothing of it was answered since.
fn nop(session: &mut Session) {
    let mut header = [0; 48];
    header[..2].copy_from_slice(&[0x40, 0x80]);
    header[19] = 9;
    header[20..24].fill(0xff);
    header[24..28].copy_from_slice(&session.number.to_be_bytes());
    session.stream.write_all(&header).expect("sent");
    assert_eq!(pdu(&mut session.stream)[0], 0x20, "the echo and nothing before it");
}
