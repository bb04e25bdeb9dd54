//! Who gets in, and what strangers cost: with libiscsi's programs, and with bare sockets that misbehave.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use farrier_block::{Chap, Credentials, Event, Limits, LunSpec, Secret, TargetSpec};
use support::{Server, file, target, with_chap};

const NODE: &str = "iqn.2026-01.dev.farrier:node";
const OTHER: &str = "iqn.2026-01.dev.farrier:other";
const OPEN: &str = "iqn.2026-01.dev.farrier:open";

#[test]
fn chap_lets_in_who_knows_and_proves_the_target_to_who_asks() {
    let directory = tempfile::tempdir().expect("a directory");
    let server =
        Server::start(Limits { wrong_secret_delay: Duration::from_millis(1), ..Limits::default() }, 1);
    let chap = Chap {
        initiator: Credentials { user: "node".into(), secret: Secret::new(*b"initiator-secret") },
        target: Some(Credentials { user: "rack".into(), secret: Secret::new(*b"targets-secret-1") }),
    };
    let lun = LunSpec::new(0, file(directory.path(), "disk", 1 << 20));
    server.targets.add(with_chap(target(NODE, lun), chap)).expect("added");
    let mut events = server.targets.subscribe();
    let address = server.portals[0];
    let inquiry = |login: &str, more: &str| {
        iscsi_inq(&format!("iscsi://{login}{address}/{NODE}/0{more}"), "iqn.2026-01.dev.farrier:i")
    };
    assert!(inquiry("node%initiator-secret@", "").status.success());
    assert!(
        inquiry("node%initiator-secret@", "?target_user=rack&target_password=targets-secret-1")
            .status
            .success()
    );
    let fooled = inquiry("node%initiator-secret@", "?target_user=rack&target_password=another-secret-1");
    assert!(!fooled.status.success(), "the initiator found out that the target does not know");
    for refused in
        [inquiry("node%initiator-secreT@", ""), inquiry("edon%initiator-secret@", ""), inquiry("", "")]
    {
        assert!(!refused.status.success(), "{refused:?}");
    }
    let mut suspicious = 0;
    while let Ok(event) = events.try_recv() {
        let text = format!("{event:?}");
        assert!(!text.contains("initiator-secre") && !text.contains("targets-secret"), "{text}");
        suspicious += u32::from(matches!(event, Event::LoginRefused { suspicious: true, .. }));
    }
    assert_eq!(suspicious, 3);
}

#[test]
fn an_initiator_sees_and_reaches_only_its_own_targets() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(Limits::default(), 2);
    for (name, initiator) in [(NODE, "iqn.x:one"), (OTHER, "iqn.x:two")] {
        let lun = LunSpec::new(0, file(directory.path(), initiator, 1 << 20));
        let spec = TargetSpec { initiators: vec![initiator.into()], ..target(name, lun) };
        server.targets.add(spec).expect("added");
    }
    let listed = Command::new("timeout")
        .args(["60", "iscsi-ls", "-i", "iqn.x:one", &format!("iscsi://{}", server.portals[0])])
        .stdin(Stdio::null())
        .output()
        .expect("iscsi-ls of libiscsi-bin runs");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.contains(NODE) && !text.contains(OTHER), "{text}");
    assert_eq!(text.matches("Portal:127.0.0.1").count(), 2, "both portals: {text}");
    assert!(iscsi_inq(&server.url(NODE), "iqn.x:one").status.success());
    assert!(!iscsi_inq(&server.url(OTHER), "iqn.x:one").status.success());
}

#[test]
fn a_target_with_a_secret_is_shown_to_who_knows_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let server =
        Server::start(Limits { wrong_secret_delay: Duration::from_millis(1), ..Limits::default() }, 1);
    let add = |name: &str, user: Option<&str>| {
        let lun = LunSpec::new(0, file(directory.path(), name, 1 << 20));
        let spec = TargetSpec { initiators: vec!["iqn.x:one".into()], ..target(name, lun) };
        let secret = user.map(|user| Chap {
            initiator: Credentials {
                user: user.into(),
                secret: Secret::new(format!("the secret of {user}").into_bytes()),
            },
            target: None,
        });
        server.targets.add(TargetSpec { accounts: secret.into_iter().collect(), ..spec }).expect("added");
    };
    let list = |login: &str| {
        let listed = Command::new("timeout")
            .args(["60", "iscsi-ls", "-i", "iqn.x:one", &format!("iscsi://{login}{}", server.portals[0])])
            .stdin(Stdio::null())
            .output()
            .expect("iscsi-ls of libiscsi-bin runs");
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let shown = [NODE, OTHER, OPEN].into_iter().filter(|name| text.contains(name)).collect::<Vec<_>>();
        listed.status.success().then_some(shown)
    };
    add(NODE, Some("node"));
    add(OTHER, Some("other"));
    assert_eq!(list("node%the secret of node@"), Some(vec![NODE]));
    assert_eq!(list("other%the secret of other@"), Some(vec![OTHER]));
    assert_eq!(list("node%the secret of other@"), None, "a secret of another user");
    assert_eq!(list(""), None, "there is nothing to show to who proves nothing");
    add(OPEN, None);
    assert_eq!(list(""), Some(vec![OPEN]));
    assert_eq!(list("node%the secret of node@"), Some(vec![NODE, OPEN]));
}

#[test]
fn what_an_earlier_boot_knew_opens_nothing_any_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let server =
        Server::start(Limits { wrong_secret_delay: Duration::from_millis(1), ..Limits::default() }, 1);
    let account = |user: &str| Chap {
        initiator: Credentials { user: user.into(), secret: Secret::new(format!("the secret of {user}")) },
        target: None,
    };
    let lun = LunSpec::new(0, file(directory.path(), "disk", 1 << 20));
    let accounts = vec![account("boot-1"), account("boot-2")];
    server.targets.add(TargetSpec { accounts, ..target(NODE, lun) }).expect("added");
    let get = |user: &str| {
        let login = format!("{user}%the secret of {user}@{}", server.portals[0]);
        iscsi_inq(&format!("iscsi://{login}/{NODE}/0"), "iqn.x:one").status.success()
    };
    assert!(get("boot-1") && get("boot-2"));
    let mut session = Command::new("qemu-io")
        .args(["--object", "secret,id=chap,data=the secret of boot-1", "--image-opts"])
        .arg(format!(
            "driver=iscsi,transport=tcp,portal={},target={NODE},user=boot-1,password-secret=chap",
            server.portals[0]
        ))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("qemu-io of qemu-utils runs");
    wait_until("a session", || {
        server.targets.sessions().iter().any(|open| open.user.as_deref() == Some("boot-1"))
    });

    let taken = server.targets.set_accounts(NODE, vec![account("boot-2"), account("boot-3")]);
    assert_eq!(taken, Ok(true));
    wait_until("its end", || server.targets.sessions().is_empty());
    assert!(!get("boot-1") && get("boot-2") && get("boot-3"));
    assert_eq!(server.targets.set_accounts(OTHER, vec![account("boot-2")]), Ok(false));
    assert!(server.targets.set_accounts(NODE, Vec::new()).is_err(), "that would open it to everybody");
    assert!(!get("boot-1"));
    drop(session.stdin.take());
    session.kill().expect("killed");
    session.wait().expect("gone");
}

#[test]
fn digests_are_spoken_with_libiscsi() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(Limits::default(), 1);
    server
        .targets
        .add(target(NODE, LunSpec::new(0, file(directory.path(), "disk", 1 << 20))))
        .expect("added");
    let inquiry = iscsi_inq(&format!("{}?header_digest=crc32c", server.url(NODE)), "iqn.x:one");
    assert!(inquiry.status.success(), "{inquiry:?}");
}

#[test]
fn removing_a_target_ends_its_sessions_and_no_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(Limits::default(), 1);
    for name in [NODE, OTHER] {
        server
            .targets
            .add(target(name, LunSpec::new(0, file(directory.path(), &name[24..], 1 << 20))))
            .expect("added");
    }
    let mut mine = login(&server, NODE);
    let mut others = login(&server, OTHER);
    wait_until("both sessions", || server.targets.sessions().len() == 2);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    assert!(runtime.block_on(server.targets.remove(NODE)));
    let mut message = [0; 48];
    mine.read_exact(&mut message).expect("an async message");
    assert_eq!((message[0], message[36], message[39]), (0x32, 2, 7), "this connection is dropped");
    assert_eq!(mine.read(&mut [0; 1]).unwrap_or(0), 0, "the connection is closed");
    assert_eq!(server.targets.names(), [OTHER]);
    nop(&mut others);
    assert!(!runtime.block_on(server.targets.remove(NODE)), "it is gone already");
    // The same name again is another target.
    server
        .targets
        .add(target(NODE, LunSpec::new(0, file(directory.path(), "again", 1 << 20))))
        .expect("added");
    login(&server, NODE);
}

#[test]
fn a_session_of_the_same_port_replaces_the_old_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(Limits::default(), 1);
    server
        .targets
        .add(target(NODE, LunSpec::new(0, file(directory.path(), "disk", 1 << 20))))
        .expect("added");
    let mut old = login(&server, NODE);
    let mut new = login(&server, NODE);
    assert_eq!(old.read(&mut [0; 1]).unwrap_or(0), 0, "the old connection is closed");
    nop(&mut new);
    assert_eq!(server.targets.sessions().len(), 1);
}

#[test]
fn a_flood_of_half_logins_and_garbage_disturbs_nobody() {
    let directory = tempfile::tempdir().expect("a directory");
    let limits = Limits {
        login_timeout: Duration::from_secs(2),
        logins_per_address: 32,
        sessions_per_initiator: 1,
        ..Limits::default()
    };
    let server = Server::start(limits, 1);
    server
        .targets
        .add(target(NODE, LunSpec::new(0, file(directory.path(), "disk", 1 << 20))))
        .expect("added");
    let mut honest = login(&server, NODE);
    let address = server.portals[0];
    let mut flood: Vec<TcpStream> = Vec::new();
    for number in 0..200usize {
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        // Nothing; half a header; a huge length; no iSCSI at all; text without end.
        let bytes: Vec<u8> = match number % 5 {
            0 => Vec::new(),
            1 => vec![0x43; 17],
            2 => [&[0x43, 0x87, 0, 0, 0xff, 0xff, 0xff, 0xff][..], &[0; 40]].concat(),
            3 => b"GET / HTTP/1.1\r\nHost: rack\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_vec(),
            _ => [&[0x43, 0x44, 0, 0, 0, 0, 0x10, 0][..], &[0; 40], &[b'a'; 4096]].concat(),
        };
        // The server may be quicker with closing.
        let _ = stream.write_all(&bytes);
        flood.push(stream);
        if number % 20 == 0 {
            nop(&mut honest);
        }
    }
    for stream in &mut flood {
        stream.set_read_timeout(Some(LIMIT)).expect("settable");
        let mut rest = Vec::new();
        // Each is closed by the server, the silent ones by the deadline.
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "still open");
        }
        assert!(rest.len() < 4096);
    }
    nop(&mut honest);
    assert_eq!(server.targets.sessions().len(), 1);
}

#[test]
fn an_initiator_that_falls_silent_in_a_pdu_is_dropped_and_a_quiet_one_is_asked() {
    let directory = tempfile::tempdir().expect("a directory");
    let limits =
        Limits { idle: Duration::from_millis(400), dead: Duration::from_secs(2), ..Limits::default() };
    let server = Server::start(limits, 1);
    server
        .targets
        .add(target(NODE, LunSpec::new(0, file(directory.path(), "disk", 1 << 20))))
        .expect("added");
    let mut slow = login(&server, NODE);
    slow.write_all(&[0x01; 20]).expect("sent");
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).expect("closed by the server");
    let mut quiet = login(&server, NODE);
    let mut ask = [0; 48];
    quiet.read_exact(&mut ask).expect("a NOP-In");
    assert_eq!(ask[0], 0x20);
}

#[test]
fn shutting_down_tells_the_initiators() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut server = Server::start(Limits::default(), 1);
    server
        .targets
        .add(target(NODE, LunSpec::new(0, file(directory.path(), "disk", 1 << 20))))
        .expect("added");
    let mut session = login(&server, NODE);
    server.stop();
    let mut message = [0; 48];
    session.read_exact(&mut message).expect("an async message");
    assert_eq!((message[0], message[36]), (0x32, 2), "the connection is dropped (RFC 7143 section 11.9.1)");
    assert_eq!(session.read(&mut [0; 1]).expect("closed"), 0);
}

fn iscsi_inq(url: &str, initiator: &str) -> Output {
    Command::new("timeout")
        .args(["60", "iscsi-inq", "-i", initiator, url])
        .stdin(Stdio::null())
        .output()
        .expect("iscsi-inq of libiscsi-bin runs")
}

/// Logs in by hand: one request, straight to the full feature phase.
fn login(server: &Server, name: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.portals[0]).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("settable");
    let mut text = format!("InitiatorName=iqn.x:one\0TargetName={name}\0").into_bytes();
    let len = u8::try_from(text.len()).expect("short");
    text.resize(text.len().next_multiple_of(4), 0);
    let mut header = [0; 48];
    header[..8].copy_from_slice(&[0x43, 0x87, 0, 0, 0, 0, 0, len]);
    header[8..14].copy_from_slice(&[0x80, 1, 2, 3, 0, 0]);
    // The connection's number.
    header[21] = 7;
    stream.write_all(&[&header[..], &text].concat()).expect("sent");
    let mut answer = [0; 48];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!((answer[0], answer[36], answer[37]), (0x23, 0, 0), "logged in");
    let len = usize::from(answer[6]) << 8 | usize::from(answer[7]);
    stream.read_exact(&mut vec![0; len.next_multiple_of(4)]).expect("its text");
    stream
}

/// Asks for an echo, and reads until it comes.
fn nop(stream: &mut TcpStream) {
    let mut header = [0; 48];
    header[..2].copy_from_slice(&[0x40, 0x80]);
    header[19] = 9;
    header[20..24].fill(0xff);
    stream.write_all(&header).expect("sent");
    let mut answer = [0; 48];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!((answer[0], answer[19]), (0x20, 9));
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "{what} did not come");
        std::thread::yield_now();
    }
}

/// Against a hang on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);
