//! HTTP clients that mean no good: heads without an end, connections without a request, readers who read nothing. What they cost is
//! bounded, and a machine has its file meanwhile.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use farrier_netboot::{Artifact, Boot, Config, http};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::flood::resident;
use crate::lab::{Cable, HTTP_PORT, Running, SERVER_IP, noise, segment, table, text};

/// Connections at a time; both their ends are in this process.
const WAVE: usize = 300;
/// What all of a wave may have in memory together: less than a tenth of what it sends.
const GROWN: u64 = 12 << 20;
/// Hyper alone would keep so much of a head, and wait for more.
const BOMB: usize = 400_000;

/// A server that waits so long for a head.
fn start(cable: &Cable, header_timeout: Duration) -> Running {
    let all = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: all.maximum, ..all }).unwrap();
    std::fs::write(cable.path("kernel"), noise(30_000_000)).unwrap();
    let mut table = table(segment(), Boot::None);
    table.publish_artifact("kernel".parse().unwrap(), Artifact::File(cable.path("kernel")));
    table.publish_artifact("initrd".parse().unwrap(), Artifact::Bytes(noise(20_000).into()));
    let limits = http::Limits { header_timeout, ..http::Limits::default() };
    Running::begin_within(&cable.server, Config::new(HTTP_PORT), table, limits)
}

/// Nothing here is as patient.
const FOR_EVER: Duration = Duration::from_secs(86_400);

fn connect() -> TcpStream {
    let stream = TcpStream::connect((SERVER_IP, HTTP_PORT)).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn a_machine_has_its_file(cable: &Cable) {
    let url = format!("http://{SERVER_IP}:{HTTP_PORT}/artifacts/initrd");
    let output = cable.client.client(20, "curl", "curl", &["-sS", "--fail", "-o", "-", &url]);
    assert!(output.status.success() && output.stdout == noise(20_000), "{}", text(&output).len());
}

/// As one long header, as many short ones, as a path, and as rubbish that is a request of another kind up to then. No time limit helps:
/// the server would wait for their ends for a day.
#[test]
fn heads_without_an_end_are_cut_off_where_a_head_is_too_long() {
    let cable = Cable::addressed();
    let _server = start(&cable, FOR_EVER);
    let bombs = [
        "GET /artifacts/kernel HTTP/1.1\r\nHost: x\r\nX: ".to_owned() + &"a".repeat(BOMB),
        "GET /artifacts/kernel HTTP/1.1\r\nHost: x\r\n".to_owned() + &"a: b\r\n".repeat(BOMB / 6),
        "GET /".to_owned() + &"a/".repeat(BOMB / 2),
        "POST /artifacts/kernel HTTP/1.1\r\nHost: x\r\nX: ".to_owned() + &"b".repeat(BOMB),
    ];
    let wave = || {
        let mut streams: Vec<_> = (0..WAVE).map(|_| connect()).collect();
        for (stream, bomb) in streams.iter_mut().zip(bombs.iter().cycle()) {
            // It may be closed before all of it is sent.
            let _ = stream.write_all(bomb.as_bytes());
        }
        let held = resident();
        a_machine_has_its_file(&cable);
        for (stream, bomb) in streams.iter_mut().zip(bombs.iter().cycle()) {
            let mut heard = Vec::new();
            let ended = stream.read_to_end(&mut heard);
            let timed_out = ended.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
            assert!(!timed_out, "kept after {}", &bomb[..20]);
            assert!(
                heard.is_empty() || heard.starts_with(b"HTTP/1.1 4"),
                "{}",
                String::from_utf8_lossy(&heard)
            );
        }
        held
    };
    cable.client.inside(|| {
        wave();
        let before = resident();
        let held = (0..2).map(|_| wave()).max().unwrap();
        assert!(held < before + GROWN, "{} KiB more than before", (held - before) >> 10);
    });
}

/// Of a head that is as long as a head may be all is read, and of one that is longer nothing is answered but that.
#[test]
fn a_head_of_16_kib_is_answered_and_a_longer_one_is_not() {
    let cable = Cable::addressed();
    let _server = start(&cable, FOR_EVER);
    cable.client.inside(|| {
        for (len, status) in [(LONGEST, "HTTP/1.1 200"), (LONGEST + 1, "HTTP/1.1 4")] {
            let begin = "GET /artifacts/initrd HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: ";
            let head = format!("{begin}{}\r\n\r\n", "a".repeat(len - begin.len() - 4));
            assert_eq!(head.len(), len);
            let mut stream = connect();
            stream.write_all(head.as_bytes()).unwrap();
            let mut heard = Vec::new();
            let ended = stream.read_to_end(&mut heard);
            let timed_out = ended.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
            // What is refused may not be read to its end, which ends the connection before the word of it is heard.
            let is_refused = len > LONGEST && heard.is_empty();
            assert!(
                !timed_out && (is_refused || heard.starts_with(status.as_bytes())),
                "{len}: {}",
                heard.len()
            );
        }
    });
}

/// However short they are, and though a byte more comes of each again and again: of a first head, of one of another kind, and of one
/// behind a request that hyper took the connection for. All that is said is far less than a head may have.
#[test]
fn heads_that_do_not_end_in_time_are_cut_off_however_short_they_are() {
    let cable = Cable::addressed();
    let _server = start(&cable, Duration::from_secs(2));
    let after_a_post =
        "POST /artifacts/initrd HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nGET /artifacts/";
    cable.client.inside(|| {
        std::thread::scope(|scope| {
            for begin in ["GET /artifacts/initrd HTTP/1.1\r\nHost: x\r\nX: ", "POST /", "", after_a_post] {
                scope.spawn(move || {
                    let (sent, over) = trickle(begin);
                    assert!(sent < LONGEST / 2, "{begin:?}: {sent} bytes show nothing of a limit of time");
                    assert!(over, "{begin:?}: kept after {sent} bytes");
                });
            }
        });
        a_machine_has_its_file(&cable);
    });
}

/// Says this, and then a byte each time that nothing is heard for a while; how much was said, and whether the connection is over.
fn trickle(begin: &str) -> (usize, bool) {
    let mut stream = connect();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (mut sent, mut heard) = (begin.len(), [0; 4096]);
    let mut is_over = stream.write_all(begin.as_bytes()).is_err();
    while !is_over && sent < begin.len() + BYTES {
        is_over = match stream.read(&mut heard) {
            Ok(0) => true,
            // What was asked for before.
            Ok(_) => false,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                sent += 1;
                stream.write_all(b"a").is_err()
            }
            Err(_) => true,
        };
    }
    (sent, is_over)
}

/// The longest head that is read, in bytes.
const LONGEST: usize = 16 << 10;
/// So many more come of a head that does not end: half a minute of them.
const BYTES: usize = 300;

/// They asked for a kernel each, and take nothing of it: it stays in the file that it is in.
#[test]
fn readers_who_read_nothing_keep_nothing_in_memory() {
    let cable = Cable::addressed();
    let _server = start(&cable, FOR_EVER);
    let wave = || {
        let streams: Vec<_> = (0..WAVE)
            .map(|_| {
                let mut stream = connect();
                stream.write_all(b"GET /artifacts/kernel HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                // Its beginning, so that the rest is on its way.
                let mut begin = [0; 15];
                stream.read_exact(&mut begin).unwrap();
                assert_eq!(&begin, b"HTTP/1.1 200 OK");
                stream
            })
            .collect();
        a_machine_has_its_file(&cable);
        let held = resident();
        drop(streams);
        held
    };
    cable.client.inside(|| {
        wave();
        let before = resident();
        let held = (0..2).map(|_| wave()).max().unwrap();
        assert!(held < before + GROWN, "{} KiB more than before", (held.saturating_sub(before)) >> 10);
    });
}
