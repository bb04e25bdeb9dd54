//! `cargo xtask test`: every check, in the order in which a mistake is found cheapest.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::shell::{self, cargo};
use crate::{tidy, tools};

/// Which parts to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these parts, for example `--only fmt,clippy`
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Part>,
}

/// A part of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Formatting
    Fmt,
    /// Layers, paths in documents, long files, generated documents
    Tidy,
    /// Bans, licences and sources of dependencies
    Deny,
    /// Lints, warnings as errors
    Clippy,
    /// Documentation without broken links
    Doc,
    /// All tests but the QEMU deploys
    Unit,
    /// Full deploys in QEMU
    E2e,
    /// A full deploy of an arm64 machine in QEMU, which builds the agent with another compiler first: by its name alone
    Arm64,
}

impl Part {
    fn run(self) -> Result<()> {
        match self {
            Part::Fmt => shell::run(cargo().args(["fmt", "--all", "--check"])),
            Part::Tidy => tidy::run(),
            Part::Deny => deny(),
            Part::Clippy => shell::run(cargo().args([
                "clippy",
                "--workspace",
                "--all-targets",
                // The fuzzers' programs, which nothing else builds.
                "--features",
                "farrier-fuzz/fuzzer",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ])),
            Part::Doc => shell::run(
                cargo()
                    .args(["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"])
                    .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"),
            ),
            Part::Unit => unit(),
            Part::E2e => end_to_end(&format!("({DEPLOYS}) & not ({ARM64})")),
            Part::Arm64 => end_to_end(ARM64),
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it starts programs of the lab.
    fn runs_tests(self) -> bool {
        matches!(self, Part::Unit | Part::E2e | Part::Arm64)
    }
}

/// Runs the parts in order and stops at the first that fails: what it said is the last thing to read.
pub(crate) fn run(args: &Args) -> Result<()> {
    let parts: Vec<Part> = match args.only.as_slice() {
        // The last part ends with the test runner's summary, the last line of a whole run.
        [] => Part::value_variants().iter().copied().filter(|part| *part != Part::Arm64).collect(),
        only => Part::value_variants().iter().copied().filter(|part| only.contains(part)).collect(),
    };
    if parts.iter().any(|part| part.runs_tests()) {
        tools::install_missing(PACKAGES)?;
    }
    let mut took: Vec<(String, Duration)> = Vec::new();
    for part in parts {
        eprintln!("── {}", part.name());
        let started = Instant::now();
        let done = part.run();
        took.push((part.name(), started.elapsed()));
        if let Err(error) = done {
            tell(&took);
            bail!("{} failed: {error:#}", part.name());
        }
    }
    tell(&took);
    Ok(())
}

fn tell(took: &[(String, Duration)]) {
    let parts: Vec<String> = took.iter().map(|(name, time)| format!("{name} {}", time.as_secs())).collect();
    let all: u64 = took.iter().map(|(_, time)| time.as_secs()).sum();
    eprintln!("seconds: {}, all {all}", parts.join(", "));
}

fn deny() -> Result<()> {
    let mut command = tools::subcommand("deny")?;
    shell::run(command.args(["--log-level", "error", "check", "bans", "licenses", "sources"]))
}

fn unit() -> Result<()> {
    programs()?;
    // The one with examples that run: the others say `doctest = false` and cost nothing.
    shell::run(cargo().args(["test", "--workspace", "--doc", "--quiet"]))?;
    nextest(&format!("not ({DEPLOYS})"))
}

fn end_to_end(filter: &str) -> Result<()> {
    programs()?;
    nextest(filter)
}

/// The end-to-end tests start our programs as processes.
fn programs() -> Result<()> {
    shell::run(cargo().args(["build", "--workspace", "--bins", "--quiet"]))
}

/// With the time limits and the order of `.config/nextest.toml`.
fn nextest(filter: &str) -> Result<()> {
    shell::run(tools::subcommand("nextest")?.args([
        "run",
        "--workspace",
        "--tests",
        "--profile",
        "ci",
        "-E",
        filter,
    ]))
}

/// The tests that take the machine for themselves, in nextest's words.
const DEPLOYS: &str = "package(farrier-tests) & test(/^(qemu|compose|demo|diskless)::/)";

/// Of them, the one with a compiler of its own: eleven minutes where that has built nothing yet.
const ARM64: &str = "package(farrier-tests) & test(/^qemu::arm64::/)";

/// What the tests run besides our own programs, by Debian package and a file that proves it. The lab's own
/// list is `sim/src/tool/packages.rs`; the programs are other people's clients and servers, whom ours must
/// understand.
const PACKAGES: &[(&str, &str)] = &[
    ("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
    ("qemu-system-arm", "/usr/bin/qemu-system-aarch64"),
    ("qemu-efi-aarch64", "/usr/share/AAVMF/AAVMF_CODE.fd"),
    ("ipxe-qemu", "/usr/lib/ipxe/qemu/efi-virtio.rom"),
    ("ipxe", "/usr/lib/ipxe/snponly.efi"),
    ("seabios", "/usr/share/seabios/bios-256k.bin"),
    ("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.fd"),
    ("shim-signed", "/usr/lib/shim/shimx64.efi.signed"),
    ("grub-efi-amd64-signed", "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"),
    ("iproute2", "/sbin/ip"),
    ("ethtool", "/sbin/ethtool"),
    ("mmdebstrap", "/usr/bin/mmdebstrap"),
    ("kmod", "/sbin/depmod"),
    ("fdisk", "/sbin/sfdisk"),
    ("gdisk", "/sbin/sgdisk"),
    ("dosfstools", "/sbin/mkfs.vfat"),
    ("mtools", "/usr/bin/mcopy"),
    ("e2fsprogs", "/sbin/mke2fs"),
    ("grub-common", "/usr/bin/grub-mkimage"),
    ("grub-pc-bin", "/usr/lib/grub/i386-pc/boot.img"),
    ("grub-efi-amd64-bin", "/usr/lib/grub/x86_64-efi/moddep.lst"),
    ("shim-helpers-amd64-signed", "/usr/lib/shim/mmx64.efi.signed"),
    ("busybox-static", "/bin/busybox"),
    ("dnsmasq-base", "/usr/sbin/dnsmasq"),
    ("openssl", "/usr/bin/openssl"),
    ("openssh-client", "/usr/bin/ssh-keygen"),
    ("openssh-server", "/usr/sbin/sshd"),
    ("cpio", "/usr/bin/cpio"),
    ("genisoimage", "/usr/bin/isoinfo"),
    ("xorriso", "/usr/bin/xorriso"),
    ("procps", "/usr/bin/ps"),
    ("curl", "/usr/bin/curl"),
    ("tcpdump", "/usr/bin/tcpdump"),
    ("tftp-hpa", "/usr/bin/tftp"),
    ("atftp", "/usr/bin/atftp"),
    ("isc-dhcp-client", "/sbin/dhclient"),
    ("udhcpc", "/sbin/udhcpc"),
    ("dhcpcd-base", "/usr/sbin/dhcpcd"),
    ("python3-scapy", "/usr/lib/python3/dist-packages/scapy/__init__.py"),
    ("isc-dhcp-relay", "/usr/sbin/dhcrelay"),
    ("kea-admin", "/usr/sbin/perfdhcp"),
    ("yersinia", "/usr/bin/yersinia"),
    ("thc-ipv6", "/usr/bin/atk6-flood_dhcpc6"),
    ("systemd", "/lib/systemd/systemd-networkd"),
    ("strace", "/usr/bin/strace"),
    ("ipmitool", "/usr/bin/ipmitool"),
    ("freeipmi-tools", "/usr/sbin/ipmipower"),
    ("openipmi", "/usr/bin/ipmi_sim"),
    ("lldpd", "/usr/sbin/lldpd"),
    ("python3-venv", "/usr/share/doc/python3-venv/copyright"),
    ("python3-lib2to3", "/usr/share/doc/python3-lib2to3/copyright"),
    ("qemu-utils", "/usr/bin/qemu-img"),
    ("qemu-block-extra", "/usr/lib/x86_64-linux-gnu/qemu/block-iscsi.so"),
    ("docker.io", "/usr/sbin/dockerd"),
    ("docker-compose", "/usr/bin/docker-compose"),
    ("iptables", "/usr/sbin/iptables"),
    ("tgt", "/usr/sbin/tgtd"),
    ("libiscsi-bin", "/usr/bin/iscsi-test-cu"),
    ("postgresql-15", "/usr/lib/postgresql/15/bin/initdb"),
];
