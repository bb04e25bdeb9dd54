//! `rackd --standalone` in a network namespace of its own: udhcpc gets what the snapshot says, also after the server
//! was killed, and the last good snapshot is served when the file is broken. Run as root.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::https_boot::certificate;

/// Two namespaces and a cable.
pub(crate) struct Cable {
    pub(crate) server: String,
    pub(crate) client: String,
    dir: tempfile::TempDir,
}

impl Cable {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = |end| format!("fra-{}-{}-{end}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let cable = Self { server: name("s"), client: name("c"), dir: tempfile::tempdir().unwrap() };
        let (server, client) = (&cable.server, &cable.client);
        cable.ip(&[
            format!("netns add {server}"),
            format!("netns add {client}"),
            format!("link add s0 netns {server} type veth peer name c0 netns {client} address {MAC}"),
            format!("-n {server} addr add 10.78.0.1/24 dev s0"),
            format!("-n {server} link set s0 up"),
            format!("-n {server} link set lo up"),
            format!("-n {client} link set c0 up"),
        ]);
        let script = cable.path("script");
        std::fs::write(&script, format!("#!/bin/sh\nenv >> {}\n", cable.path("told").display())).unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        cable
    }

    pub(crate) fn ip(&self, lines: &[String]) {
        for line in lines {
            let done = Command::new("ip").args(line.split(' ')).status().unwrap();
            assert!(done.success(), "ip {line}");
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Whole, by the mark at its end.
    pub(crate) fn snapshot(&self, text: &str) {
        let end = if text.trim_end().ends_with("...") { "" } else { "...\n" };
        std::fs::write(self.path("rack.yaml"), format!("{text}{end}")).unwrap();
    }

    fn rackd(&self) -> Rackd {
        self.rackd_with(&[])
    }

    pub(crate) fn rackd_with(&self, more: &[&str]) -> Rackd {
        let (snapshot, data) = (self.path("rack.yaml"), self.path("data"));
        let args = ["--standalone", snapshot.to_str().unwrap(), "--data", data.to_str().unwrap()];
        self.rackd_as(&[&args[..], &["--metrics", METRICS, "--http", "0.0.0.0:8080"], more].concat())
    }

    pub(crate) fn rackd_as(&self, args: &[&str]) -> Rackd {
        let mut command = inside(&self.server, Path::new(env!("CARGO_BIN_EXE_rackd")));
        let log = std::fs::File::create(self.path("log")).unwrap();
        command.args(args).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Rackd { child, lines }
    }

    /// Waits until rackd has logged this.
    fn logged(&self, word: &str) {
        let begun = std::time::Instant::now();
        loop {
            let log = std::fs::read_to_string(self.path("log")).unwrap();
            if log.contains(word) {
                return;
            }
            assert!(begun.elapsed().as_secs() < 30, "{word}: {log}");
            std::thread::yield_now();
        }
    }

    fn counted(&self) -> String {
        let mut curl = inside(&self.server, Path::new("curl"));
        let curl = curl.args(["-sSf", &format!("http://{METRICS}/metrics")]).output().unwrap();
        String::from_utf8(curl.stdout).unwrap()
    }

    /// The addresses udhcpc was told of; empty when nobody answered.
    fn udhcpc(&self) -> Vec<String> {
        self.udhcpc_as(&[])
    }

    pub(crate) fn udhcpc_as(&self, who: &[&str]) -> Vec<String> {
        let _ = std::fs::remove_file(self.path("told"));
        let mut command = inside(&self.client, Path::new("timeout"));
        command.args(["30", "udhcpc", "-f", "-q", "-n", "-t", "5", "-T", "1", "-i", "c0", "-s"]);
        let done = command.arg(self.path("script")).args(who).stdin(Stdio::null()).output().unwrap();
        let told = std::fs::read_to_string(self.path("told")).unwrap_or_default();
        let ips: Vec<_> =
            told.lines().filter_map(|line| line.strip_prefix("ip=").map(str::to_owned)).collect();
        assert_eq!(done.status.success(), !ips.is_empty(), "{done:?}");
        ips
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for namespace in [&self.server, &self.client] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

/// In a namespace of its own.
const METRICS: &str = "127.0.0.1:9740";

pub(crate) struct Rackd {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Rackd {
    /// What it says it serves.
    pub(crate) fn says(&mut self) -> String {
        self.lines.next().expect("rackd ended").unwrap()
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Rackd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_lease_of_a_killed_rackd_holds_and_a_broken_snapshot_changes_nothing() {
    let cable = Cable::new();
    cable.snapshot(POOL);
    let mut rackd = cable.rackd();
    assert_eq!(rackd.says(), "serving generation 1: 1 segments, 0 machines");
    let first = cable.udhcpc();
    assert!(first[0].starts_with("10.78.0.1"), "{first:?}");
    let counted = cable.counted();
    let value =
        |sample: &str| counted.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok());
    for event in ["discover", "offer", "request", "ack"] {
        let seen: Option<u32> =
            value(&format!("farrier_netboot_events_total{{phase=\"dhcp\",event=\"{event}\"}}"));
        assert!(seen.is_some_and(|n| n >= 1), "{event}: {counted}");
    }
    assert_eq!(value("farrier_netboot_leases"), Some(1), "{counted}");
    rackd.send(Signal::KILL);
    drop(rackd);
    // The file is broken while nobody looks; the new process has what the old one kept.
    cable.snapshot("generation: 2\nsegments: [");
    let mut rackd = cable.rackd();
    assert_eq!(rackd.says(), "serving generation 1: 1 segments, 0 machines");
    assert_eq!(cable.udhcpc(), first);
    // A good one is taken at SIGHUP: the machine has a reservation now.
    cable.snapshot(&format!(
        "{}machines:\n- {{ name: web-1, mac: \"{MAC}\", segment: lab, address: 10.78.0.50 }}\n",
        POOL.replace("generation: 1", "generation: 2")
    ));
    rackd.send(Signal::HUP);
    assert_eq!(rackd.says(), "serving generation 2: 1 segments, 1 machines");
    assert_eq!(cable.udhcpc(), ["10.78.0.50"]);
    rackd.send(Signal::TERM);
    assert!(rackd.child.wait().unwrap().success());
    assert_eq!(cable.udhcpc(), [] as [&str; 0]);
}

/// What an editor or a copy has written so far is a YAML too, with machines missing: it has no `...` at its end.
#[test]
fn half_of_a_snapshot_is_refused_at_sighup_and_its_machines_boot_as_before() {
    let cable = Cable::new();
    let closed = POOL.replace("  pool: { first: 10.78.0.100, last: 10.78.0.199 }\n", "");
    let machine = |n: u8, mac: &str, last: u8| {
        format!("- {{ name: web-{n}, mac: \"{mac}\", segment: lab, address: 10.78.0.{last} }}\n")
    };
    let begins = |generation: &str| {
        let head = closed.replace("generation: 1", generation);
        format!("{head}machines:\n{}", machine(2, "52:54:00:78:00:02", 52))
    };
    cable.snapshot(&format!("{}{}", begins("generation: 1"), machine(1, MAC, 50)));
    let mut rackd = cable.rackd();
    assert_eq!(rackd.says(), "serving generation 1: 1 segments, 2 machines");
    std::fs::write(cable.path("rack.yaml"), begins("generation: 2")).unwrap();
    rackd.send(Signal::HUP);
    cable.logged("snapshot not taken, serving as before");
    cable.logged("is not whole: expected JSON, or YAML whose last line is `...`");
    assert_eq!(cable.udhcpc(), ["10.78.0.50"]);
    // The rest of it has come.
    cable.snapshot(&format!("{}{}", begins("generation: 2"), machine(1, MAC, 51)));
    rackd.send(Signal::HUP);
    assert_eq!(rackd.says(), "serving generation 2: 1 segments, 2 machines");
    assert_eq!(cable.udhcpc(), ["10.78.0.51"]);
}

/// One file says all three: who goes on to its disk, who loads a ramdisk, and whose disk is an iSCSI target's.
#[test]
fn a_disk_a_ramdisk_and_an_iscsi_machine_of_one_snapshot_get_each_their_script() {
    let cable = Cable::new();
    let (kernel, chap) = (cable.path("vmlinuz"), cable.path("chap"));
    std::fs::write(&kernel, "a kernel").unwrap();
    std::fs::write(&chap, "horse-4711-shoe\n").unwrap();
    cable.snapshot(&format!(
        "{POOL}machines:\n- {{ name: m1, mac: \"52:54:00:78:00:01\", segment: lab, address: 10.78.0.51, boot: local_disk }}\n\
         - name: m2\n  mac: 52:54:00:78:00:02\n  segment: lab\n  address: 10.78.0.52\n  \
         boot: {{ linux: {{ kernel: k, initrd: k, args: rescue }} }}\n\
         - name: m3\n  mac: 52:54:00:78:00:03\n  segment: lab\n  address: 10.78.0.53\n  boot: {{ iscsi: {{ portal: \
         \"10.78.0.1:3260\", target: iqn.2026-11.example:m3, lun: 2, initiator: iqn.2026-11.example:node-3, user: m3, \
         secret_file: {} }} }}\nartifacts: {{ k: {} }}\n",
        chap.display(),
        kernel.display()
    ));
    let mut rackd = cable.rackd();
    assert_eq!(rackd.says(), "serving generation 1: 1 segments, 3 machines");
    let ipxe = ["-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000", "-x", "0x4d:69505845"];
    for (n, lines) in [
        (1, &["sanboot --no-describe --drive 0x80 || exit 1"][..]),
        (2, &["kernel --name kernel http://10.78.0.1:8080/artifacts/k initrd=initrd rescue || goto failed"]),
        (
            3,
            &[
                "set initiator-iqn iqn.2026-11.example:node-3",
                "set username m3",
                "set password horse-4711-shoe",
                "sanboot iscsi:10.78.0.1::3260:2:iqn.2026-11.example:m3 ||",
            ],
        ),
    ] {
        let client = &cable.client;
        cable.ip(&[format!("-n {client} link set c0 address 52:54:00:78:00:0{n}")]);
        assert_eq!(cable.udhcpc_as(&ipxe), [format!("10.78.0.5{n}")]);
        let told = std::fs::read_to_string(cable.path("told")).unwrap();
        let url =
            told.lines().find_map(|line| line.split_once("http://")).map(|(_, url)| format!("http://{url}"));
        let url = url.unwrap_or_else(|| panic!("{told}"));
        cable.ip(&[format!("-n {client} addr add 10.78.0.5{n}/24 dev c0")]);
        let mut curl = inside(client, Path::new("curl"));
        let read = curl.args(["-sS", "--fail", "--max-time", "20", &url]).output().unwrap();
        let script = String::from_utf8_lossy(&read.stdout);
        for line in lines {
            assert!(script.lines().any(|has| has == *line), "{line}: {script} {read:?}");
        }
        cable.ip(&[format!("-n {client} addr flush dev c0")]);
    }
}

/// A power cut, and the disk with the kernels is not mounted yet.
#[test]
fn artifacts_that_are_away_stop_nobody_else_and_come_back_with_their_disk() {
    let cable = Cable::new();
    let (kernel, away) = (cable.path("vmlinuz"), cable.path("away"));
    std::fs::write(&kernel, "a kernel").unwrap();
    let machines = format!(
        "machines:\n- {{ name: web-1, mac: \"{MAC}\", segment: lab, address: 10.78.0.50, boot: local_disk }}\n\
         - name: web-2\n  mac: 52:54:00:78:00:02\n  segment: lab\n  address: 10.78.0.51\n  \
         boot: {{ linux: {{ kernel: k, initrd: k }} }}\nartifacts: {{ k: {} }}\n\
         https: {{ listen: \"10.78.0.1:8443\", certificate: {dir}/cert.pem, key: {dir}/key.pem }}\n",
        kernel.display(),
        dir = cable.path("").display()
    );
    certificate(&cable.path(""), "10.78.0.1");
    cable.snapshot(&format!("{POOL}{machines}"));
    let mut rackd = cable.rackd();
    assert_eq!(rackd.says(), "serving generation 1: 1 segments, 2 machines");
    drop(rackd);
    std::fs::rename(&kernel, &away).unwrap();
    let mut rackd = cable.rackd();
    assert_eq!(rackd.says(), "serving generation 1: 1 segments, 2 machines");
    assert_eq!(cable.udhcpc(), ["10.78.0.50"]);
    // udhcpc's script sets no address.
    let mut address = Command::new("ip");
    address.args(["-n", &cable.client, "addr", "add", "10.78.0.50/24", "dev", "c0"]);
    let curl = || {
        let mut command = inside(&cable.client, Path::new("curl"));
        command.args(["-s", "--max-time", "10", "-w", " %{http_code}", "http://10.78.0.1:8080/artifacts/k"]);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(address.status().unwrap().success());
    assert_eq!(curl(), " 500");
    // A client that knows no authority of ours.
    let mut stranger = inside(&cable.client, Path::new("curl"));
    stranger.args(["-s", "--max-time", "20", "https://10.78.0.1:8443/artifacts/k"]);
    assert_eq!(stranger.status().unwrap().code(), Some(60));
    // Both are in the machine's trace, and counted. The handshake's end reaches the server when the client is gone.
    let begun = std::time::Instant::now();
    let trace = loop {
        let trace = cable.ask(&format!("/trace/{MAC}"));
        if trace.iter().any(|event| event["type"] == "tls_failed") {
            break trace;
        }
        assert!(begun.elapsed().as_secs() < 30, "{trace:#?}");
    };
    let failed = trace.iter().find(|event| event["type"] == "http_failed").unwrap();
    assert_eq!(failed["kind"], "HTTP k: 500");
    assert!(failed["detail"].as_str().unwrap().contains(kernel.to_str().unwrap()), "{failed}");
    let counted = cable.counted();
    for phase in ["http", "tls"] {
        let sample = format!("farrier_netboot_events_total{{phase=\"{phase}\",event=\"failed\"}} 1");
        assert!(counted.lines().any(|line| line == sample), "{sample}: {counted}");
    }
    std::fs::rename(&away, &kernel).unwrap();
    assert_eq!(curl(), "a kernel 200");
}

/// The instant at which an answer that went out too early would be a lie: the record is written, and not yet synced.
#[test]
fn who_kills_rackd_at_the_sync_of_a_lease_has_told_nobody_of_it() {
    let cable = Cable::new();
    cable.snapshot(POOL);
    let mut rackd = cable.rackd();
    assert_eq!(rackd.says(), "serving generation 1: 1 segments, 0 machines");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "trace=fdatasync", "-e", "inject=fdatasync:signal=KILL", "-p"]);
    let strace = strace.arg(rackd.child.id().to_string()).stdin(Stdio::null()).stderr(Stdio::null());
    let mut strace = strace.spawn().expect("strace is missing: install the Debian package strace");
    let (pid, begun) = (rackd.child.id(), std::time::Instant::now());
    // It holds every thread: none that it missed writes the lease.
    let held = |status: String| status.lines().any(|l| l.starts_with("TracerPid:") && !l.ends_with("\t0"));
    let all_held = || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        tasks.flatten().all(|task| std::fs::read_to_string(task.path().join("status")).is_ok_and(held))
    };
    while !all_held() {
        assert!(begun.elapsed().as_secs() < 60, "strace does not take hold of rackd");
        std::thread::yield_now();
    }
    assert_eq!(cable.udhcpc(), [] as [&str; 0], "told of what no disk has");
    let _ = strace.wait();
    let died = std::os::unix::process::ExitStatusExt::signal(&rackd.child.wait().unwrap());
    assert_eq!(died, Some(9), "it was at the sync");
    drop(rackd);
    let mut rackd = cable.rackd();
    assert_eq!(rackd.says(), "serving generation 1: 1 segments, 0 machines");
    assert!(cable.udhcpc()[0].starts_with("10.78.0.1"));
}

/// The cable leads to a router with ISC's dhcrelay; the machine is behind it.
#[test]
fn udhcpc_behind_dhcrelay_has_an_address_of_the_subnet_that_the_snapshot_gives_the_relay() {
    let cable = Cable::new();
    let far = Cable::new();
    for line in [
        format!("-n {} addr flush dev s0", far.server),
        format!("-n {} link set s0 netns {} name down0", far.server, cable.client),
        format!("-n {} addr add 10.79.0.1/24 dev down0", cable.client),
        format!("-n {} link set down0 up", cable.client),
        format!("-n {} addr add 10.78.0.2/24 dev c0", cable.client),
        format!("-n {} route add 10.79.0.0/24 via 10.78.0.2", cable.server),
    ] {
        let done = Command::new("ip").args(line.split(' ')).status().unwrap();
        assert!(done.success(), "ip {line}");
    }
    let mut relay = inside(&cable.client, Path::new("dhcrelay"));
    relay.args(["-4", "-d", "-a", "-D", "-iu", "c0", "-id", "down0", "-pf"]).arg(cable.path("pid"));
    let relay = relay.arg("10.78.0.1").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut relay = relay.spawn().expect("dhcrelay is missing: install the Debian package isc-dhcp-relay");
    cable.snapshot(&format!(
        "{POOL}- name: far\n  address: 10.78.0.1/24\n  behind_relay: 10.79.0.0/24\n  gateway: 10.79.0.1\n  \
         pool: {{ first: 10.79.0.100, last: 10.79.0.199 }}\n"
    ));
    let mut rackd = cable.rackd();
    assert_eq!(rackd.says(), "serving generation 1: 2 segments, 0 machines");
    let given = far.udhcpc();
    let told = std::fs::read_to_string(far.path("told")).unwrap();
    relay.kill().unwrap();
    relay.wait().unwrap();
    assert!(given[0].starts_with("10.79.0.1"), "{given:?}");
    assert!(told.lines().any(|line| line == "router=10.79.0.1"), "{told}");
}

#[test]
fn nothing_to_serve_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_rackd")).args(args).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let data = dir.path().display().to_string();
    let said = run(&["--standalone", "/nowhere", "--data", &data, "--http", "127.0.0.1:0"]);
    assert!(said.contains("cannot read /nowhere") && said.contains("no earlier one is kept"), "{said}");
    assert!(run(&["--data", &data]).contains("--standalone"));
}

pub(crate) fn inside(namespace: &str, program: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg("--").arg(program);
    command
}

pub(crate) const MAC: &str = "52:54:00:78:00:01";
pub(crate) const POOL: &str = "generation: 1\nsegments:\n- name: lab\n  interface: s0\n  address: 10.78.0.1/24\n  \
                    pool: { first: 10.78.0.100, last: 10.78.0.199 }\n";
