//! A PostgreSQL of our own for one test binary: temporary directory, Unix socket only, gone with the process.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Debian's package `postgresql-15`.
const BIN: &str = "/usr/lib/postgresql/15/bin";

struct Server {
    dir: PathBuf,
    /// Stops the server when its standard input closes, however the test process ends.
    _watchdog: Child,
}

/// URL of a new, empty database.
pub(crate) fn new_database() -> String {
    static SERVER: OnceLock<Server> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let dir = &SERVER.get_or_init(start).dir;
    let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
    run(tool("createdb").arg("-h").arg(dir).args(["-U", "postgres", &name]));
    format!("postgres://postgres@localhost/{name}?host={}", dir.display())
}

fn start() -> Server {
    assert!(Path::new(BIN).join("initdb").exists(), "{BIN}/initdb is missing: apt-get install postgresql-15");
    let dir = tempfile::Builder::new().prefix("farrier-pg").tempdir().unwrap().keep();
    if let Some((uid, gid)) = owner() {
        std::os::unix::fs::chown(&dir, Some(uid), Some(gid)).unwrap();
    }
    let data = dir.join("data");
    run(tool("initdb")
        .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
        .arg(&data));
    let options = format!(
        "-F -c listen_addresses= -c unix_socket_directories={} -c max_connections=300",
        dir.display()
    );
    run(tool("pg_ctl")
        .arg("-D")
        .arg(&data)
        .arg("-l")
        .arg(dir.join("log"))
        .args(["-w", "-o", &options, "start"]));
    let mut watchdog = Command::new("sh");
    watchdog
        .arg("-c")
        .arg("cat >/dev/null; \"$1\" -s -D \"$2/data\" -m immediate stop; rm -rf \"$2\"")
        .arg("watchdog")
        .arg(Path::new(BIN).join("pg_ctl"))
        .arg(&dir)
        .stdin(Stdio::piped())
        // Not the test runner's pipes: it would wait for them.
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some((uid, gid)) = owner() {
        watchdog.uid(uid).gid(gid);
    }
    // A Ctrl-C at the terminal must not reach the one who cleans up.
    Server { dir, _watchdog: watchdog.process_group(0).spawn().unwrap() }
}

fn tool(name: &str) -> Command {
    let mut command = Command::new(Path::new(BIN).join(name));
    command.current_dir("/").stdout(Stdio::null()).stderr(Stdio::piped());
    if let Some((uid, gid)) = owner() {
        command.uid(uid).gid(gid);
    }
    command
}

/// PostgreSQL refuses to run as root: then it runs as `postgres`.
fn owner() -> Option<(u32, u32)> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let uid = status.lines().find_map(|l| l.strip_prefix("Uid:"))?.split_whitespace().nth(1)?;
    if uid != "0" {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd
        .lines()
        .find(|l| l.starts_with("postgres:"))
        .expect("user postgres: apt-get install postgresql-15");
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn run(command: &mut Command) {
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    if !child.wait().unwrap().success() {
        // Read only after a failure: the server that pg_ctl started keeps its end open.
        let mut said = String::new();
        let _ = child.stderr.take().unwrap().read_to_string(&mut said);
        panic!("{command:?}: {said}");
    }
}
