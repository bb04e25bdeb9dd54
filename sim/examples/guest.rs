//! Boots a guest image and measures it: `guest mini|debian bios|uefi [virtio|nvme|ahci] [marker…]`.
//!
//! Prints the serial log and how long each marker took from power-on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use farrier_sim::machine::{BootDevice, DiskBus, DiskSpec, Firmware, Machine};
use farrier_sim::media::{MediaStore, seed_volume};
use farrier_sim::rack::Rack;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    farrier_sim::cleanup::on_signals();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |index: usize| args.get(index).map(String::as_str);
    let store = MediaStore::of_workspace()?;
    let started = Instant::now();
    let image = match arg(0) {
        Some("mini") => store.mini()?,
        Some("debian") => store.debian()?,
        _ => bail!("which image? mini or debian"),
    };
    println!("image {} in {:.1?}", image.path.display(), started.elapsed());
    let firmware = if arg(1) == Some("uefi") { Firmware::Uefi } else { Firmware::Bios };
    let bus = match arg(2) {
        Some("nvme") => DiskBus::Nvme,
        Some("ahci") => DiskBus::Ahci,
        _ => DiskBus::VirtioBlk,
    };
    let rack = Rack::build()?;
    let (mut spec, _tap) = rack.machine_spec(1, firmware)?;
    image.copy_to(&spec.disk_path(0))?;
    let network = "version: 2\nethernets:\n  id0:\n    match:\n      macaddress: \"52:54:00:90:00:01\"\n    \
                   addresses: [10.90.0.20/24]\n    gateway4: 10.90.0.1\n";
    let user = "#cloud-config\nssh_authorized_keys:\n  - ssh-ed25519 AAAA lab\n\
                phone_home:\n  url: http://10.90.0.1:8080/home/$INSTANCE_ID\n  post: [hostname, instance_id]\n  tries: 2\n";
    let meta = "instance-id: i-1\nlocal-hostname: anvil\n";
    let seed = [("meta-data", meta), ("user-data", user), ("network-config", network)];
    seed_volume(&spec.disk_path(1), &seed)?;
    spec.boot = BootDevice::Disk;
    spec.memory_mib = 768;
    spec.disks.push(DiskSpec { bus, size: 0, serial: "os".into(), path: None });
    let bus = DiskBus::VirtioBlk;
    spec.disks.push(DiskSpec { bus, size: 0, serial: "seed".into(), path: None });
    let listener = rack.netns().tcp_listen("10.90.0.1:8080".parse()?)?;
    let machine = Machine::new(spec)?;
    let log = machine.spec().serial_log();
    let started = Instant::now();
    machine.power_on().await?;
    tokio::spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, from) = listener.accept().await?;
            println!("{:.1?}: phone home from {from}", started.elapsed());
            stream.readable().await?;
            let mut buffer = vec![0; 4096];
            let n = stream.try_read(&mut buffer).unwrap_or(0);
            println!("{}", String::from_utf8_lossy(buffer.get(..n).unwrap_or_default()));
            stream.writable().await?;
            stream.try_write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        }
        #[allow(unreachable_code, reason = "gives the block its type")]
        Ok::<(), std::io::Error>(())
    });
    let mut at = 0;
    for marker in args.iter().skip(3) {
        let waited = machine.wait_serial(at, marker, Duration::from_secs(300)).await;
        println!("{:.1?}: {marker}", started.elapsed());
        if waited.is_err() {
            println!("{}", String::from_utf8_lossy(&std::fs::read(&log)?));
        }
        at = waited?;
    }
    println!("{}", String::from_utf8_lossy(&std::fs::read(&log).context("serial log")?));
    let pid = machine.pid().await.context("the machine is off")?;
    println!("{:.1} s of CPU", cpu_seconds(pid)?);
    machine.power_soft().await?;
    let soft = Instant::now();
    machine.wait_off(Duration::from_secs(120)).await?;
    println!("soft off after {:.1?}", soft.elapsed());
    Ok(())
}

/// CPU time of a process so far: unlike the clock, it does not see what else the host does.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold spaces; utime and stime are fields 14 and 15.
    let (_, rest) = stat.rsplit_once(')').context("stat")?;
    let ticks = rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok());
    Ok(ticks.sum::<f64>() / 100.0)
}
