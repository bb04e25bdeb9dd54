//! The servers: processes with the same disk each, whose CPU time and memory can be asked for.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// tgt's LUN 0 is a controller.
    pub(crate) lun: u8,
    child: Child,
}

pub(crate) const TARGET: &str = "iqn.2026-01.dev.farrier:bench";

impl Server {
    /// CPU time of all its threads so far.
    pub(crate) fn cpu(&self) -> Outcome<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit_once(')').ok_or("no process")?.1.split_whitespace().collect();
        let ticks: u64 = fields.get(11).ok_or("no utime")?.parse::<u64>()?
            + fields.get(12).ok_or("no stime")?.parse::<u64>()?;
        // USER_HZ is 100 on every Linux.
        Ok(Duration::from_millis(ticks * 10))
    }

    pub(crate) fn rss_mib(&self) -> Outcome<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // tgt ignores SIGTERM while it has targets.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn rackd(program: &Path, disk: &Path) -> Outcome<Server> {
    let mut child = Command::new(program)
        .args(["block", "serve", "--listen", "127.0.0.1:0", "--target"])
        .arg(format!("{TARGET}={}", disk.display()))
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let address = line.trim().strip_prefix("listening on ").ok_or("rackd says something else")?.parse()?;
    Ok(Server { name: "farrier", address, lun: 0, child })
}

pub(crate) fn tgt(directory: &Path, disk: &Path) -> Outcome<Server> {
    // It takes no free port by itself.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let socket = directory.join("tgt.socket");
    let child = Command::new("/usr/sbin/tgtd")
        .args(["-f", "--iscsi", &format!("portal={address}")])
        .env("TGT_IPC_SOCKET", &socket)
        .stderr(Stdio::null())
        .spawn()?;
    let server = Server { name: "tgt", address, lun: 1, child };
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        if begun.elapsed() > Duration::from_secs(20) {
            return Err("tgtd does not listen".into());
        }
        std::thread::yield_now();
    }
    let disk = disk.display().to_string();
    for arguments in [
        &["new", "--mode", "target", "--tid", "1", "-T", TARGET][..],
        &["new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", &disk],
        &["bind", "--mode", "target", "--tid", "1", "-I", "ALL"],
    ] {
        let done = Command::new("/usr/sbin/tgtadm")
            .args(["--lld", "iscsi", "--op"])
            .args(arguments)
            .env("TGT_IPC_SOCKET", &socket)
            .status()?;
        if !done.success() {
            return Err(format!("tgtadm {arguments:?}: {done}").into());
        }
    }
    Ok(server)
}

/// One process and thread of nginx that gives the same file, as quick as it goes: sendfile.
pub(crate) fn nginx(directory: &Path, disk: &Path) -> Outcome<Server> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let at = directory.display();
    let root = disk.parent().ok_or("a disk without a directory")?.display();
    let mut config = format!(
        "daemon off; master_process off; user root; pid {at}/nginx.pid; error_log {at}/nginx.log;\n\
         events {{ worker_connections 256; }}\n\
         http {{ access_log off; sendfile on; sendfile_max_chunk 0; tcp_nopush on;\n\
         keepalive_requests 1000000; server {{ listen {address}; root {root}; }}\n"
    );
    for scratch in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        config += &format!("{scratch}_temp_path {at}/nginx-{scratch};\n");
    }
    config += "}\n";
    let file = directory.join("nginx.conf");
    std::fs::write(&file, config)?;
    let child = Command::new("/usr/sbin/nginx").arg("-c").arg(&file).spawn()?;
    let server = Server { name: "nginx", address, lun: 0, child };
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        if begun.elapsed() > Duration::from_secs(20) {
            return Err("nginx does not listen".into());
        }
        std::thread::yield_now();
    }
    Ok(server)
}
