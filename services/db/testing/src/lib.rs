//! A PostgreSQL of a test's own: temporary directory, Unix socket, no port, gone with the test.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "compiled into tests only")]

use sea_orm::{ConnectionTrait as _, Database};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// initdb and the first start together take about 2 s on an idle core; tests share few cores.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server. Dropped, it stops and its directory goes.
#[derive(Debug)]
pub struct Postgres {
    dir: TempDir,
    next: AtomicU32,
    /// Closing it tells the keeper to stop the server.
    keep: Option<mpsc::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Postgres {
    /// Starts a server; panics with what to install when there is none.
    pub fn start() -> Self {
        let bin = binaries();
        let dir = TempDir::with_prefix("farrier-pg-").expect("a temporary directory");
        let data = dir.path().join("data");
        std::fs::create_dir(&data).expect("a data directory");
        if is_root() {
            // The server refuses to run as root, and needs to reach its directory as somebody else.
            let owned = Command::new("chown").arg("-R").arg(USER).arg(dir.path()).status().expect("chown");
            assert!(owned.success(), "no user {USER}: install the Debian package postgresql");
        }
        let initdb = as_user(&bin.join("initdb"))
            .args([
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .output()
            .expect("initdb starts");
        assert!(initdb.status.success(), "initdb failed: {}", String::from_utf8_lossy(&initdb.stderr));

        let (keep, closed) = mpsc::channel::<()>();
        let (ready, started) = mpsc::channel::<()>();
        let socket_dir = dir.path().to_owned();
        let keeper = std::thread::spawn(move || {
            let mut server = serve(&bin, &data, &socket_dir);
            if wait_ready(&mut server, &data) {
                let _ = ready.send(());
            }
            let _ = closed.recv();
            let _ = as_user(&bin.join("pg_ctl")).args(["stop", "-m", "immediate", "-D"]).arg(&data).output();
            let _ = server.wait();
        });
        let postgres = Self { dir, next: AtomicU32::new(0), keep: Some(keep), keeper: Some(keeper) };
        if started.recv_timeout(START_TIMEOUT).is_err() {
            let log = std::fs::read_to_string(postgres.dir.path().join("log")).unwrap_or_default();
            panic!("PostgreSQL did not start: {log}");
        }
        postgres
    }

    /// URL of a new, empty database.
    pub async fn database(&self) -> String {
        let name = format!("t{}", self.next.fetch_add(1, Ordering::Relaxed));
        let admin = Database::connect(self.url("postgres")).await.expect("PostgreSQL answers");
        admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("a database");
        admin.close().await.expect("closed");
        self.url(&name)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.dir.path().display())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.keep.take();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

/// The newest installed server.
fn binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().expect("no PostgreSQL server here: install the Debian package postgresql").1
}

/// `setpriv` changes the user in one exec and ties the server's life to this process: a test that is
/// killed leaves no server behind.
fn as_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
    }
    command.args(["--pdeathsig", "QUIT"]).arg(program).current_dir("/");
    command
}

fn serve(bin: &Path, data: &Path, socket_dir: &Path) -> Child {
    let log = std::fs::File::create(socket_dir.join("log")).expect("a log file");
    as_user(&bin.join("postgres"))
        .arg("-D")
        .arg(data)
        .arg("-k")
        .arg(socket_dir)
        .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=64"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("postgres starts")
}

/// The last line of `postmaster.pid` says when the server takes connections.
fn wait_ready(server: &mut Child, data: &Path) -> bool {
    let (_never, pause) = mpsc::channel::<()>();
    let deadline = Instant::now() + START_TIMEOUT;
    while Instant::now() < deadline && matches!(server.try_wait(), Ok(None)) {
        let pid = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        if pid.lines().nth(7).is_some_and(|status| status.trim() == "ready") {
            return true;
        }
        let _ = pause.recv_timeout(Duration::from_millis(20));
    }
    false
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

const USER: &str = "postgres";

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_db::Db;
    use sea_orm_migration::{MigrationTrait, MigratorTrait};

    struct Nothing;

    impl MigratorTrait for Nothing {
        fn migrations() -> Vec<Box<dyn MigrationTrait>> {
            Vec::new()
        }
    }

    #[tokio::test]
    async fn each_database_is_empty_and_the_server_goes() {
        let postgres = Postgres::start();
        let (a, b) = (postgres.database().await, postgres.database().await);
        assert_ne!(a, b);
        let dir = postgres.dir.path().to_owned();
        for url in [a, b] {
            let db = Db::open::<Nothing>(&url).await.unwrap();
            db.conn().execute_unprepared("CREATE TABLE t (x INT)").await.unwrap();
        }
        drop(postgres);
        assert!(!dir.exists());
    }
}
