//! The servers, each with the same addresses and files to give.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::place::{Place, SERVER};

pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// Started, and listening on a port.
    fn start(mut command: Command, protocol: &str, port: u16) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = child.spawn().with_context(|| format!("{command:?}"))?;
        let mut server = Self { child };
        let begun = Instant::now();
        let sockets = format!("/proc/{}/net/{protocol}", server.child.id());
        let wanted = format!(":{port:04X} ");
        loop {
            if let Some(status) = server.child.try_wait()? {
                bail!("{command:?}: {status}");
            }
            // Second column; of TCP only what listens.
            let text = std::fs::read_to_string(&sockets).unwrap_or_default();
            let local = |line: &str| line.split_whitespace().nth(1).map(|local| format!("{local} "));
            if text.lines().filter_map(local).any(|local| local.ends_with(&wanted)) {
                return Ok(server);
            }
            if begun.elapsed() > Duration::from_secs(30) {
                bail!("{command:?} does not listen on {protocol} {port}");
            }
            std::thread::yield_now();
        }
    }

    /// CPU time of all its threads, and of its children that have ended.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = stat.rsplit_once(')').context("no process")?.1.split_whitespace();
        let ticks: u64 = fields.skip(11).take(4).map(|ticks| ticks.parse().unwrap_or(0)).sum();
        // USER_HZ is 100 on every Linux.
        Ok(Duration::from_millis(ticks * 10))
    }

    pub(crate) fn rss_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).context("no number")?.parse::<f64>()? / 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ours, all in one. Leases are written and synced before they are told.
pub(crate) fn rackd(place: &Place, program: &Path, wait: (&str, u16)) -> anyhow::Result<Server> {
    rackd_with(place, program, wait, "")
}

/// The same with these machines, whose kernel is `k`.
pub(crate) fn rackd_with(
    place: &Place,
    program: &Path,
    wait: (&str, u16),
    machines: &str,
) -> anyhow::Result<Server> {
    start_rackd(place, program, wait, machines, true)
}

/// Which gives addresses without looking for them first, as the peers do here.
pub(crate) fn rackd_unchecked(place: &Place, program: &Path) -> anyhow::Result<Server> {
    start_rackd(place, program, ("udp", 67), "", false)
}

fn start_rackd(
    place: &Place,
    program: &Path,
    wait: (&str, u16),
    machines: &str,
    check: bool,
) -> anyhow::Result<Server> {
    let data = fresh(place, "farrier")?;
    let files = place.path("files");
    let snapshot = data.join("rack.yaml");
    let artifact = files.join(BIG);
    let artifacts = if !machines.is_empty() {
        let big = if artifact.exists() { format!(", {BIG}: {}", artifact.display()) } else { String::new() };
        format!("{{ k: {}{big} }}\n{machines}", files.join(SMALL).display())
    } else if artifact.exists() {
        format!("{{ {BIG}: {} }}", artifact.display())
    } else {
        "{}".to_owned()
    };
    let text = format!(
        "generation: 1\nsegments:\n- name: lab\n  interface: s0\n  address: {SERVER}/16\n  \
         pool: {{ first: {FIRST}, last: {LAST}, boot: local_disk }}\n  conflict_check: {check}\nartifacts: {artifacts}\n...\n"
    );
    std::fs::write(&snapshot, text)?;
    let mut command = place.server(&program.to_string_lossy());
    command.arg("--standalone").arg(&snapshot).arg("--data").arg(&data).args(["--http", "0.0.0.0:8080"]);
    command.arg("--boot-files").arg(&files).env("FARRIER_LOG", "warn");
    Server::start(command, wait.0, wait.1)
}

/// Leases in a memory file, one thread: its quickest way here. It does not sync.
pub(crate) fn kea(place: &Place) -> anyhow::Result<Server> {
    let data = fresh(place, "kea")?;
    let at = data.display();
    let text = format!(
        r#"{{"Dhcp4":{{"interfaces-config":{{"interfaces":["s0"],"dhcp-socket-type":"udp"}},
        "multi-threading":{{"enable-multi-threading":false}},
        "lease-database":{{"type":"memfile","persist":true,"name":"{at}/leases.csv","lfc-interval":0}},
        "valid-lifetime":3600,"next-server":"{SERVER}","boot-file-name":"undionly.kpxe",
        "subnet4":[{{"subnet":"10.77.0.0/16","pools":[{{"pool":"{FIRST} - {LAST}"}}]}}],
        "loggers":[{{"name":"kea-dhcp4","severity":"WARN","output_options":[{{"output":"stderr"}}]}}]}}}}"#
    );
    std::fs::write(data.join("kea.conf"), text)?;
    let mut command = place.server("/usr/sbin/kea-dhcp4");
    command.arg("-c").arg(data.join("kea.conf"));
    command.env("KEA_PIDFILE_DIR", &data).env("KEA_LOCKFILE_DIR", "none");
    Server::start(command, "udp", 67)
}

/// Without its ping before an offer; it syncs every lease by itself.
pub(crate) fn isc(place: &Place) -> anyhow::Result<Server> {
    let data = fresh(place, "isc")?;
    let text = format!(
        "authoritative; ping-check false; default-lease-time 3600;\n\
         subnet 10.77.0.0 netmask 255.255.0.0 {{ range {FIRST} {LAST}; next-server {SERVER}; \
         filename \"undionly.kpxe\"; }}\n"
    );
    std::fs::write(data.join("dhcpd.conf"), text)?;
    std::fs::write(data.join("leases"), "")?;
    let mut command = place.server("/usr/sbin/dhcpd");
    command.args(["-4", "-f", "-q", "-cf"]).arg(data.join("dhcpd.conf"));
    command.arg("-lf").arg(data.join("leases")).arg("-pf").arg(data.join("pid"));
    command.args(["-user", "root", "-group", "root", "s0"]);
    Server::start(command, "udp", 67)
}

/// Without its ping before an offer; a lease file that is not synced. TFTP beside it.
pub(crate) fn dnsmasq(place: &Place, wait: u16) -> anyhow::Result<Server> {
    let data = fresh(place, "dnsmasq")?;
    let mut command = place.server("/usr/sbin/dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--no-ping", "--user=root"]);
    command.args(["--interface=s0", "--dhcp-lease-max=70000", "--log-facility=/dev/null", "--quiet-dhcp"]);
    command.args(["--quiet-tftp", "--enable-tftp", "--dhcp-authoritative"]);
    command.arg(format!("--dhcp-range={FIRST},{LAST},255.255.0.0,1h"));
    command.arg(format!("--dhcp-boot=undionly.kpxe,,{SERVER}"));
    command.arg(format!("--dhcp-leasefile={}", data.join("leases").display()));
    command.arg(format!("--pid-file={}", data.join("pid").display()));
    command.arg(format!("--tftp-root={}", place.path("files").display()));
    Server::start(command, "udp", wait)
}

fn tftpd(place: &Place) -> anyhow::Result<Server> {
    let mut command = place.server("/usr/sbin/in.tftpd");
    command.args(["--foreground", "--address", &format!("{SERVER}:69"), "--user", "root", "--secure"]);
    command.arg(place.path("files"));
    Server::start(command, "udp", 69)
}

fn atftpd(place: &Place, program: &Path) -> anyhow::Result<Server> {
    let mut command = place.server(&program.to_string_lossy());
    command.args(["--daemon", "--no-fork", "--bind-address", SERVER, "--port", "69", "--user", "root"]);
    command.args(["--group", "root", "--no-multicast", "--maxthread", "200", "--logfile", "/dev/null"]);
    command.arg(place.path("files"));
    Server::start(command, "udp", 69)
}

/// The TFTP servers, by their programs: two that Debian does not let be installed beside each other.
pub(crate) struct Tftp<'a> {
    pub(crate) rackd: &'a Path,
    pub(crate) atftpd: Option<&'a Path>,
}

impl Tftp<'_> {
    pub(crate) fn names(&self) -> Vec<&'static str> {
        let mut names = vec!["farrier", "tftpd-hpa", "dnsmasq"];
        names.extend(self.atftpd.map(|_| "atftpd"));
        names
    }

    pub(crate) fn start(&self, place: &Place, name: &str) -> anyhow::Result<Server> {
        match (name, self.atftpd) {
            ("farrier", _) => rackd(place, self.rackd, ("udp", 69)),
            ("tftpd-hpa", _) => tftpd(place),
            ("atftpd", Some(program)) => atftpd(place, program),
            _ => dnsmasq(place, 69),
        }
    }
}

/// A server of HTTP that has served the file once: what it does at its start is not the transfer's.
pub(crate) fn http(place: &Place, rackd: &Path, peer: &str) -> anyhow::Result<Server> {
    let server = match peer {
        "farrier" => self::rackd(place, rackd, ("tcp", 8080))?,
        _ => nginx(place)?,
    };
    let mut curl = place.client("/usr/bin/curl");
    curl.args(["-sS", "--fail", "-o", "/dev/null"]).arg(format!("http://{SERVER}:8080/artifacts/{BIG}"));
    let done = curl.status().context("curl")?;
    ensure!(done.success(), "{peer} does not serve {BIG}: {done}");
    Ok(server)
}

/// One process with sendfile.
fn nginx(place: &Place) -> anyhow::Result<Server> {
    let data = fresh(place, "nginx")?;
    let (at, root) = (data.display(), place.path("files"));
    let mut text = format!(
        "daemon off; master_process off; user root; pid {at}/pid; error_log {at}/log;\n\
         events {{ worker_connections 256; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; server {{ listen 8080; location /artifacts/ {{ alias {}/; }} }}\n",
        root.display()
    );
    for scratch in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        text += &format!("{scratch}_temp_path {at}/{scratch};\n");
    }
    std::fs::write(data.join("conf"), text + "}\n")?;
    let mut command = place.server("/usr/sbin/nginx");
    command.arg("-c").arg(data.join("conf"));
    Server::start(command, "tcp", 8080)
}

/// An empty directory: every try begins without leases.
fn fresh(place: &Place, name: &str) -> anyhow::Result<std::path::PathBuf> {
    let data = place.path(name);
    if data.exists() {
        std::fs::remove_dir_all(&data)?;
    }
    std::fs::create_dir_all(&data)?;
    Ok(data)
}

/// Served by TFTP under the names that firmware asks for.
pub(crate) const SMALL: &str = "undionly.kpxe";
pub(crate) const BIG: &str = "snponly.efi";
const FIRST: &str = "10.77.1.0";
const LAST: &str = "10.77.250.255";
