//! HTTP clients that mean no good: heads without an end, connections without a request, readers who read nothing. What they cost is
//! bounded, and a machine has its file meanwhile.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use farrier_netboot::{Artifact, Boot, Config};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::flood::resident;
use crate::lab::{Cable, HTTP_PORT, Running, SERVER_IP, noise, segment, table, text};

/// Connections at a time; both their ends are in this process.
const WAVE: usize = 300;
/// What all of a wave may have in memory together: less than a tenth of what it sends.
const GROWN: u64 = 12 << 20;
/// Hyper alone would keep so much of a head, and wait for more.
const BOMB: usize = 400_000;

fn start(cable: &Cable) -> Running {
    let all = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: all.maximum, ..all }).unwrap();
    std::fs::write(cable.path("kernel"), noise(30_000_000)).unwrap();
    let mut table = table(segment(), Boot::None);
    table.publish_artifact("kernel".parse().unwrap(), Artifact::File(cable.path("kernel")));
    table.publish_artifact("initrd".parse().unwrap(), Artifact::Bytes(noise(20_000).into()));
    Running::start(&cable.server, Config::new(HTTP_PORT), table)
}

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

/// As one long header, as many short ones, as a path, and as rubbish that is a request of another kind up to then.
#[test]
fn heads_without_an_end_are_cut_off_where_a_head_is_too_long() {
    let cable = Cable::addressed();
    let _server = start(&cable);
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

/// They asked for a kernel each, and take nothing of it: it stays in the file that it is in.
#[test]
fn readers_who_read_nothing_keep_nothing_in_memory() {
    let cable = Cable::addressed();
    let _server = start(&cable);
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
