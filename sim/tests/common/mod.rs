//! What the boot tests share: a rack, finished media, and an end to what answers the guests.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use farrier_sim::machine::{DiskBus, DiskSpec, Firmware, Machine};
use farrier_sim::media::{GuestImage, seed_volume};
use farrier_sim::rack::Rack;
use farrier_sim::tool;

/// Emulated guests on two shared cores: generous, since a test that passes never waits so long.
pub const BOOT: Duration = Duration::from_secs(240);

/// Held while a machine is on: more than two emulated machines at once starve each other.
pub async fn slot() -> tokio::sync::SemaphorePermit<'static> {
    static SLOTS: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(2);
    SLOTS.acquire().await.unwrap()
}

/// A rack; panics with the packages to install when the host lacks some.
pub fn rack() -> Rack {
    let missing = tool::missing_packages();
    assert!(missing.is_empty(), "apt-get install {}", missing.join(" "));
    farrier_sim::cleanup::on_signals();
    Rack::build().unwrap()
}

/// Machine `index` with `image` on its first disk and a CIDATA volume on its second.
pub fn seeded_machine(
    rack: &Rack,
    index: u8,
    firmware: Firmware,
    bus: DiskBus,
    image: &GuestImage,
    seed: &[(&str, &str)],
) -> Machine {
    let (mut spec, _tap) = rack.machine_spec(index, firmware).unwrap();
    image.copy_to(&spec.dir.join("disk0.raw")).unwrap();
    seed_volume(&spec.dir.join("disk1.raw"), seed).unwrap();
    spec.boot = farrier_sim::machine::BootDevice::Disk;
    spec.disks.push(DiskSpec { bus, size: image.size, serial: "os".into(), path: None });
    let seed = DiskSpec { bus: DiskBus::VirtioBlk, size: 0, serial: "seed".into(), path: None };
    spec.disks.push(seed);
    Machine::new(spec).unwrap()
}

/// dnsmasq inside the rack; killed on drop.
pub struct Dnsmasq(Child);

impl Dnsmasq {
    /// Answers DHCP on the provisioning network, with `more` options.
    pub fn start(rack: &Rack, more: &[String]) -> Self {
        let mut command = rack.netns().command("dnsmasq");
        command
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--no-ping"])
            .args(["--interface=prov", "--bind-interfaces", "--user=root", "--log-facility=-"])
            .args(["--dhcp-range=10.90.0.50,10.90.0.99,255.255.255.0,10m", "--dhcp-authoritative"])
            .arg("--enable-ra")
            .arg("--dhcp-range=fd00:90::,ra-only")
            // iPXE: do not wait for a ProxyDHCP offer.
            .arg("--dhcp-option=175,b0:01:01")
            .arg(format!("--dhcp-leasefile={}", rack.dir().join("leases").display()))
            .arg(format!("--pid-file={}", rack.dir().join("dnsmasq.pid").display()))
            .args(more);
        let log = std::fs::File::create(rack.dir().join("dnsmasq.log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Self(child.unwrap())
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A tiny HTTP server inside the rack: GET answers files, POST gives its body to the receiver.
pub fn http(
    rack: &Rack,
    address: &str,
    files: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static,
) -> Receiver<String> {
    let address: SocketAddr = address.parse().unwrap();
    let listener: TcpListener = rack.netns().tcp_listen(address).unwrap();
    listener.set_nonblocking(false).unwrap();
    let (sender, posts) = channel();
    // Ends with the test process: it holds only a socket.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            let head = loop {
                match stream.read(&mut chunk) {
                    Ok(0) | Err(_) => break None,
                    Ok(n) => request.extend_from_slice(&chunk[..n]),
                }
                if let Some(at) = request.windows(4).position(|w| w == b"\r\n\r\n") {
                    break Some(at + 4);
                }
            };
            let Some(head) = head else { continue };
            let text = String::from_utf8_lossy(&request[..head]).into_owned();
            let length = text
                .lines()
                .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
                .unwrap_or(0_usize);
            while request.len() < head + length {
                match stream.read(&mut chunk) {
                    Ok(0) | Err(_) => break,
                    Ok(n) => request.extend_from_slice(&chunk[..n]),
                }
            }
            let path = text.split(' ').nth(1).unwrap_or("/").to_owned();
            let answer = if text.starts_with("POST") {
                let body = String::from_utf8_lossy(&request[head..]).into_owned();
                // The test may have seen enough and gone.
                let _ = sender.send(format!("{path} {body}"));
                Some(Vec::new())
            } else {
                files(&path)
            };
            let (status, body) = match answer {
                Some(body) => ("200 OK", body),
                None => ("404 Not Found", Vec::new()),
            };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // A client that goes away early is its own affair.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    posts
}

/// Whether any process of the host runs inside the namespace file or was started with `needle` in
/// its command line.
pub fn processes_with(needle: &str) -> Vec<String> {
    let output = Command::new("ps").args(["-eo", "pid,args", "-ww"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.contains(needle))
        .map(str::to_owned)
        .collect()
}
