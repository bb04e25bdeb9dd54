//! The stock chain: dnsmasq answers DHCP and TFTP, nginx gives files, a busybox ramdisk does `wget | dd`, and
//! a script drives it with ipmitool. Tuned as well as we know how: what it loses it loses fairly.
//!
//! [`Stock::deploy`] is that script, from top to bottom.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};

use super::marks::{Marks, between};
use super::{LIMIT, PASSWORD, Subject, USER, stamp};
use crate::lab::config::{IPXE, KERNEL_ARGS};
use crate::lab::guest::Image;
use crate::lab::place::Place;
use crate::lab::process::{Process, tail};
use crate::machine::{Firmware, PowerState};
use crate::media::{GuestImage, Ramdisk, append_seed};
use crate::rack::Rack;
use crate::tool::Package;

/// The servers, running, and the script's tools.
pub(super) struct Stock {
    place: Place,
    image: Image,
    dir: PathBuf,
    dnsmasq: Process,
    nginx: Process,
}

impl Stock {
    /// Starts the servers on `rack`; they answer when this returns.
    pub(super) async fn start(
        rack: &Rack,
        ramdisk: &Ramdisk,
        image: Image,
        guest: &GuestImage,
    ) -> Result<Self> {
        let dir = rack.dir().join("stock");
        let www = dir.join("www");
        std::fs::create_dir_all(&www)?;
        std::os::unix::fs::symlink(&ramdisk.kernel, www.join("vmlinuz"))?;
        std::os::unix::fs::symlink(&ramdisk.initrd, www.join("initrd"))?;
        std::fs::write(www.join("boot.ipxe"), boot_script())?;
        // The configuration that Farrier writes to the disk after the image is in the image already.
        let disk = www.join("image");
        guest.copy_to(&disk)?;
        append_seed(&disk, SEED)?;
        let password = dir.join("password");
        std::fs::write(&password, PASSWORD)?;
        std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600))?;

        let place = Place::inside(rack.netns());
        let dnsmasq = start_dnsmasq(&place, rack, &dir)?;
        let nginx = start_nginx(&place, &dir)?;
        let mut stock = Self { place, image, dir, dnsmasq, nginx };
        stock.wait_ready(rack).await?;
        Ok(stock)
    }

    async fn wait_ready(&mut self, rack: &Rack) -> Result<()> {
        let deadline = Instant::now() + START;
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            self.ensure_running()?;
            let serves = rack.netns().tcp_connect(HTTP.parse()?).is_ok();
            let said = tail(&self.dir.join("dnsmasq.log"), 100);
            if serves && said.contains("started, version") {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "dnsmasq and nginx do not answer within {START:?}: {said}");
        }
    }

    fn ensure_running(&mut self) -> Result<()> {
        self.dnsmasq.ensure_running()?;
        self.nginx.ensure_running()
    }

    /// The script. The machine runs afterwards.
    pub(super) async fn deploy(&mut self, subject: &Subject) -> Result<Marks> {
        self.ensure_running()?;
        let machine = &subject.server.machine;
        let from = machine.serial_position();
        let calls = self.calls();
        let request = SystemTime::now();

        match subject.server.firmware {
            Firmware::Bios => self.ipmitool(subject, &["chassis", "bootdev", "pxe"]).await?,
            Firmware::Uefi => {
                self.ipmitool(subject, &["chassis", "bootdev", "pxe", "options=efiboot"]).await?
            }
        };
        self.ipmitool(subject, &["chassis", "power", "on"]).await?;
        let (init, at) = stamp(machine.wait_serial(from, "STOCK-INIT", LIMIT)).await?;
        let (ready, at) = stamp(machine.wait_serial(at, "STOCK-READY", LIMIT)).await?;
        let (written, at) = stamp(machine.wait_serial(at, "STOCK-WRITTEN", LIMIT)).await?;
        while !self.ipmitool(subject, &["chassis", "power", "status"]).await?.contains("is off") {
            ensure!(between(written, SystemTime::now()) < LIMIT.as_secs_f64(), "the ramdisk does not end");
            tokio::time::sleep(POWER_POLL).await;
        }
        match subject.server.firmware {
            Firmware::Bios => self.ipmitool(subject, &["chassis", "bootdev", "disk"]).await?,
            Firmware::Uefi => {
                self.ipmitool(subject, &["chassis", "bootdev", "disk", "options=efiboot"]).await?
            }
        };
        self.ipmitool(subject, &["chassis", "power", "on"]).await?;
        let up = async { Ok(stamp(machine.wait_serial(at, self.image.up_marker(), LIMIT)).await?.0) };
        let (up, called) = tokio::try_join!(up, self.wait_call(calls))?;
        let done = SystemTime::now();

        let (ramdisk, system) = subject.last_two_runs(request).await?;
        let since = |time| between(request, time);
        Ok(Marks {
            power_on: since(ramdisk.asked),
            init: since(init),
            agent: since(ready),
            write: since(ready),
            written: since(written),
            off: since(ramdisk.off().context("the ramdisk's run never ended")?),
            start: since(system.asked),
            up: since(up),
            called: since(called),
            done: since(done),
        })
    }

    /// Pulls the plug and empties the disk, as cleaning does.
    pub(super) async fn take_back(&self, subject: &Subject) -> Result<()> {
        let machine = &subject.server.machine;
        machine.power_off().await?;
        ensure!(machine.power_state().await == PowerState::Off);
        let disk = machine.spec().disk_path(0);
        let size = disk.metadata()?.len();
        std::fs::File::create(&disk)?.set_len(size)?;
        Ok(())
    }

    async fn ipmitool(&self, subject: &Subject, words: &[&str]) -> Result<String> {
        let address = subject.server.bmc_address;
        let mut command = self.place.command(Path::new("ipmitool"));
        command.args(["-I", "lanplus", "-C", "17", "-U", USER, "-f"]).arg(self.dir.join("password"));
        command.args(["-H", &address.ip().to_string(), "-p", &address.port().to_string()]).args(words);
        let mut command = tokio::process::Command::from(command);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let done = tokio::time::timeout(IPMI, command.output()).await;
        let done = done.with_context(|| format!("ipmitool {words:?} takes longer than {IPMI:?}"))??;
        if !done.status.success() {
            bail!("ipmitool {words:?}: {}: {}", done.status, String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// How often systems have called, by nginx's log.
    fn calls(&self) -> usize {
        let log = std::fs::read_to_string(self.dir.join("access.log")).unwrap_or_default();
        log.matches("POST /phone-home").count()
    }

    /// Waits for a call after the first `seen`.
    async fn wait_call(&self, seen: usize) -> Result<SystemTime> {
        let called = async {
            let mut look = tokio::time::interval(LOOK);
            while self.calls() <= seen {
                look.tick().await;
            }
            SystemTime::now()
        };
        tokio::time::timeout(LIMIT, called).await.context("the system does not call")
    }

    /// For a report of a failure.
    pub(super) fn tails(&self) -> String {
        let one = |name: &str| format!("── {name}\n{}\n", tail(&self.dir.join(name), 30));
        ["dnsmasq.log", "nginx.log", "access.log"].map(one).concat()
    }

    pub(super) async fn shutdown(mut self) -> Result<()> {
        self.dnsmasq.end(GRACE).await?;
        self.nginx.end(GRACE).await?;
        Ok(())
    }
}

fn start_dnsmasq(place: &Place, rack: &Rack, dir: &Path) -> Result<Process> {
    let mut command = place.command(Path::new("dnsmasq"));
    command
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root"])
        .args(["--log-facility=-", "--bind-interfaces", "--no-ping", "--dhcp-authoritative"])
        .arg(format!("--interface={}", rack.provisioning().name()))
        .arg("--dhcp-range=10.90.0.50,10.90.0.99,255.255.255.0,1h")
        // Unanswered router solicitations cost iPXE 12 s, a ProxyDHCP offer that never comes 4.
        .args(["--enable-ra", "--dhcp-range=fd00:90::,ra-only", "--dhcp-option=175,b0:01:01"])
        .args(["--dhcp-match=set:ipxe,175", "--enable-tftp"])
        .arg(format!("--tftp-root={IPXE}"))
        .arg("--dhcp-boot=tag:!ipxe,snponly.efi")
        .arg(format!("--dhcp-boot=tag:ipxe,http://{HTTP}/boot.ipxe"))
        .arg(format!("--dhcp-leasefile={}", dir.join("leases").display()))
        .arg(format!("--pid-file={}", dir.join("dnsmasq.pid").display()));
    Process::start("dnsmasq", command, &dir.join("dnsmasq.log"))
}

fn start_nginx(place: &Place, dir: &Path) -> Result<Process> {
    let path = dir.display();
    // Every path that the package has compiled in, or it writes to the host's.
    let scratch = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {path}/{name};"))
        .join("\n    ");
    let config = format!(
        "daemon off;\nuser root;\nworker_processes 2;\npid {path}/nginx.pid;\nerror_log stderr;\n\
         events {{}}\nhttp {{\n    {scratch}\n    access_log {path}/access.log;\n    sendfile on;\n    \
         tcp_nopush on;\n    default_type application/octet-stream;\n    server {{\n        \
         listen {HTTP};\n        root {path}/www;\n        \
         location = /phone-home {{ return 200; }}\n    }}\n}}\n"
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, config)?;
    let mut command = place.command(Path::new("nginx"));
    command.args(["-e", "stderr", "-c"]).arg(&file).arg("-p").arg(dir);
    Process::start("nginx", command, &dir.join("nginx.log"))
}

/// The same kernel arguments as Farrier's ramdisk has; `${net0/ip}` is iPXE's.
fn boot_script() -> String {
    format!(
        "#!ipxe\nkernel http://{HTTP}/vmlinuz initrd=initrd {KERNEL_ARGS} address=${{net0/ip}} \
         image=http://{HTTP}/image\ninitrd http://{HTTP}/initrd\nboot\n"
    )
}

/// `/init` of its ramdisk.
pub(super) const INIT: &str = include_str!("stock/init.sh");

/// What the peer needs.
pub(super) const PACKAGES: &[Package] =
    &[("nginx", "/usr/sbin/nginx", &["nginx"]), ("ipmitool", "/usr/bin/ipmitool", &["ipmitool"])];

/// Programs whose version belongs to a result, and how they are asked.
pub(super) const PROGRAMS: &[(&str, &str)] = &[("dnsmasq", "--version"), ("nginx", "-v"), ("ipmitool", "-V")];

const HTTP: &str = "10.90.0.1:80";
const SEED: &[(&str, &str)] = &[
    ("meta-data", "instance-id: stock\nlocal-hostname: stock\n"),
    ("network-config", "version: 2\nethernets:\n  eth0:\n    match: {name: \"e*\"}\n    dhcp4: true\n"),
    ("user-data", "#cloud-config\nphone_home:\n  url: http://10.90.0.1/phone-home\n  post: [instance_id]\n"),
];
/// A script of this kind sleeps a second; the peer shall not lose by that.
const POWER_POLL: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(10);
/// A call of ipmitool takes some 50 ms.
const IPMI: Duration = Duration::from_secs(60);
const START: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(10);
