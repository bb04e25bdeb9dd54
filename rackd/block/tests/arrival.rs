//! Reads from an image whose bytes are still on their way: they wait, they cost nobody else anything, and they do
//! not become errors of the medium.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use farrier_block::{Arrival, Backing, Image, Limits, LunSpec, Overlay, OverlayOptions};
use farrier_iscsi::initiator::{Event, Initiator, Login};
use farrier_iscsi::scsi::status;
use support::{Server, target};
use tokio::sync::watch;

const FAR: &str = "iqn.2026-01.dev.farrier:far";
const NEAR: &str = "iqn.2026-01.dev.farrier:near";
const SIZE: u64 = 1 << 20;

/// An image of one byte over and over, that comes when the test says so.
#[derive(Debug)]
struct Coming {
    here: watch::Sender<bool>,
    byte: u8,
}

impl Image for Coming {
    fn size(&self) -> u64 {
        SIZE
    }

    fn read_at(&self, buffer: &mut [u8], _: u64) -> io::Result<()> {
        if !*self.here.borrow() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        buffer.fill(self.byte);
        Ok(())
    }

    /// Never at hand: what is here is read on a thread that may wait.
    fn try_read_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn arrival(&self, _: u64, _: u64) -> Option<Arrival> {
        let mut here = self.here.subscribe();
        if *here.borrow() {
            return None;
        }
        Some(Box::pin(async move { here.wait_for(|here| *here).await.map(|_| ()).map_err(io::Error::other) }))
    }
}

fn offer(server: &Server, directory: &std::path::Path, name: &str, here: bool) -> Arc<Coming> {
    let image = Arc::new(Coming { here: watch::Sender::new(here), byte: 7 });
    let path = directory.join(name.replace(':', "-"));
    let overlay = Overlay::create(&path, &OverlayOptions::default(), image.clone(), "image").expect("made");
    server.targets.add(target(name, LunSpec::new(0, overlay as Arc<dyn Backing>))).expect("added");
    image
}

/// A session that reads.
struct Session {
    stream: TcpStream,
    initiator: Initiator,
}

impl Session {
    fn login(portal: SocketAddr, target: &str, number: u8) -> Session {
        let stream = TcpStream::connect(portal).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let login = Login {
            initiator: format!("iqn.2026-01.dev.farrier:i{number}"),
            target: target.into(),
            chap: None,
            isid: [0, 0, number],
        };
        let mut session = Session { stream, initiator: Initiator::new(login) };
        let mut out = Vec::new();
        session.initiator.login(&mut out);
        session.stream.write_all(&out).expect("sent");
        while !session.receive().contains(&Event::LoggedIn) {}
        // The attentions of a new session (SAM-5 section 5.14).
        loop {
            let asked = session.ask(|initiator, out| initiator.read_capacity(0, out));
            if session.ended(asked).0 == status::GOOD {
                return session;
            }
        }
    }

    fn ask(&mut self, what: impl FnOnce(&mut Initiator, &mut Vec<u8>) -> u32) -> u32 {
        let mut out = Vec::new();
        let tag = what(&mut self.initiator, &mut out);
        self.stream.write_all(&out).expect("sent");
        tag
    }

    fn read(&mut self) -> u32 {
        self.ask(|initiator, out| initiator.read(0, 8, 1, 512, out))
    }

    fn receive(&mut self) -> Vec<Event> {
        let mut buffer = [0; 4096];
        let len = self.stream.read(&mut buffer).expect("an answer within the time of a test");
        assert!(len > 0, "the target closed the connection");
        let mut out = Vec::new();
        let events = self.initiator.receive(&buffer[..len], &mut out).expect("protocol");
        self.stream.write_all(&out).expect("sent");
        events
    }

    /// Status and data of a command.
    fn ended(&mut self, asked: u32) -> (u8, Vec<u8>) {
        let mut bytes = Vec::new();
        loop {
            for event in self.receive() {
                match event {
                    Event::Data { tag, data, .. } if tag == asked => bytes.extend(data),
                    Event::Ended { tag, status, .. } if tag == asked => return (status, bytes),
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn what_does_not_come_in_time_is_busy_and_what_comes_is_good() {
    let directory = tempfile::tempdir().expect("a directory");
    let limits = Limits { arrival_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start(limits, 1);
    let image = offer(&server, directory.path(), FAR, false);
    let mut session = Session::login(server.portals[0], FAR, 1);
    for _ in 0..3 {
        let asked = session.read();
        assert_eq!(session.ended(asked), (status::BUSY, Vec::new()));
    }
    image.here.send_replace(true);
    let asked = session.read();
    assert_eq!(session.ended(asked), (status::GOOD, vec![7; 512]));
}

#[test]
fn a_command_that_waits_is_answered_when_its_bytes_come() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(Limits { arrival_timeout: FOR_EVER, ..Limits::default() }, 1);
    let image = offer(&server, directory.path(), FAR, false);
    let mut session = Session::login(server.portals[0], FAR, 1);
    let asked = session.read();
    // It is answered behind the other one, which needs no image.
    let other = session.ask(|initiator, out| initiator.read_capacity(0, out));
    assert_eq!(session.ended(other).0, status::GOOD);
    image.here.send_replace(true);
    assert_eq!(session.ended(asked), (status::GOOD, vec![7; 512]));
}

#[test]
fn hundreds_that_wait_cost_no_thread_and_do_not_hold_up_their_targets_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let server =
        Server::start(Limits { arrival_timeout: FOR_EVER, threads: Some(1), ..Limits::default() }, 1);
    offer(&server, directory.path(), FAR, false);
    offer(&server, directory.path(), NEAR, true);
    // More than a thread of the server has helpers (64).
    let mut waiting: Vec<Session> =
        (0..10).map(|number| Session::login(server.portals[0], FAR, number)).collect();
    let mut asked = 0;
    for session in &mut waiting {
        while session.initiator.may_send() && asked % 32 != 31 {
            session.read();
            asked += 1;
        }
        asked += 1;
    }
    assert!(asked > 128, "{asked}");
    let mut near = Session::login(server.portals[0], NEAR, 100);
    let read = near.read();
    assert_eq!(near.ended(read), (status::GOOD, vec![7; 512]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let removed =
        runtime.block_on(async { tokio::time::timeout(PATIENCE, server.targets.remove(FAR)).await });
    assert!(removed.expect("removed while its commands wait"));
}

/// Far longer than anything takes on a loaded machine, far shorter than [`FOR_EVER`].
const PATIENCE: Duration = Duration::from_secs(120);
const FOR_EVER: Duration = Duration::from_secs(100_000);
