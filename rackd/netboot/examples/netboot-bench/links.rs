//! The same files over long and bad links: how long until a machine has iPXE, and its ramdisk; and a whole boot, address by
//! address and file by file, as firmware and iPXE go through it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::files;
use crate::place::{CLIENT, Cable, Place, SERVER};
use crate::servers::{self, BIG, SMALL};

pub(crate) fn run(directory: &Path, rackd: &Path, wan: &Path, only: Option<u64>) -> anyhow::Result<()> {
    println!(
        "\n| link | {} | whole boot |\n|---|{}",
        TRANSFERS.map(|t| t.what).join(" | "),
        "--:|".repeat(TRANSFERS.len() + 1)
    );
    let mut failed = 0;
    for round_trip in ROUND_TRIPS.iter().copied().filter(|ms| only.is_none_or(|only| only == *ms)) {
        for loss in [0, 10] {
            let place = Place::far(directory, &Cable { program: wan, round_trip, loss })?;
            files::make(&place)?;
            let program = place.path("files").join(SMALL);
            std::fs::copy(&program, program.with_file_name("snponly.efi"))?;
            let _server = servers::rackd_with(&place, rackd, ("udp", 69), &machine())?;
            let fetches = TRANSFERS.iter().map(|transfer| fetch(&place, transfer));
            let cells: Vec<String> = fetches
                .chain([boot(&place)])
                .map(|took| match took {
                    Ok(took) => format!("{:.1} s", took.as_secs_f64()),
                    Err(error) => {
                        failed += 1;
                        format!("failed: {error:#}")
                    }
                })
                .collect();
            println!("| {round_trip} ms, {} % lost | {} |", loss / 10, cells.join(" | "));
        }
    }
    ensure!(failed == 0, "{failed} transfers failed: expected each to come whole over every link");
    Ok(())
}

/// The client's end as a known machine.
fn machine() -> String {
    format!(
        "machines:\n- {{ name: m1, mac: \"{MAC}\", segment: lab, address: {CLIENT}, \
         boot: {{ linux: {{ kernel: k, initrd: {BIG} }} }} }}\n"
    )
}

/// DHCP, its program by TFTP, DHCP as iPXE, the script, kernel and ramdisk; every byte compared.
fn boot(place: &Place) -> anyhow::Result<Duration> {
    let out = tempfile::tempdir_in("/dev/shm")?;
    let script = out.path().join("full_boot.sh");
    std::fs::write(&script, include_str!("../../tests/netboot/full_boot.sh"))?;
    let set = place.client("ip").args(["link", "set", "c0", "address", MAC]).status()?;
    ensure!(set.success(), "ip link set c0 address: {set}");
    let mut command = place.client("timeout");
    command.arg(LONGEST.as_secs().to_string()).arg("sh").arg(&script).arg("c0").arg(out.path());
    let begun = Instant::now();
    let done = command.output().with_context(|| format!("{command:?}"))?;
    let took = begun.elapsed();
    let told = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).replace('\n', ", "));
    ensure!(done.status.success(), "{} {}", done.status, told.concat());
    eprintln!("whole boot: {}", told.concat());
    for (got, file) in [("program", SMALL), ("kernel", SMALL), ("initrd", BIG)] {
        let same = std::fs::read(out.path().join(got))? == std::fs::read(place.path("files").join(file))?;
        ensure!(same, "{got} is something else than {file}");
    }
    Ok(took)
}

/// Of the client's end.
const MAC: &str = "52:54:00:77:00:01";

struct Transfer {
    what: &'static str,
    file: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
}

/// Whole, every byte compared.
fn fetch(place: &Place, transfer: &Transfer) -> anyhow::Result<Duration> {
    let whole = std::fs::read(place.path("files").join(transfer.file))?;
    let out = tempfile::tempdir_in("/dev/shm")?;
    let out = out.path().join("got");
    let mut command: Command = place.client("timeout");
    command.arg(LONGEST.as_secs().to_string()).arg(transfer.program).args(transfer.arguments);
    let file = transfer.file;
    if transfer.program.ends_with("atftp") {
        command.args(["-g", "-r", file, "-l"]).arg(&out).arg(SERVER);
    } else if transfer.arguments.contains(&"--tftp-blksize") {
        command.arg("-o").arg(&out).arg(format!("tftp://{SERVER}/{file}"));
    } else {
        command.arg("-o").arg(&out).arg(format!("http://{SERVER}:8080/{}/{file}", place_of(file)));
    }
    let begun = Instant::now();
    let done = command.output().with_context(|| format!("{command:?}"))?;
    let took = begun.elapsed();
    let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(done.status.success(), "{} {}", done.status, complaint.trim().replace('\n', " "));
    ensure!(std::fs::read(&out)? == whole, "got something else than {file}");
    Ok(took)
}

fn place_of(file: &str) -> &'static str {
    if file == BIG { "artifacts" } else { "firmware" }
}

const ROUND_TRIPS: &[u64] = &[0, 50, 150, 300];
/// Of one transfer.
const LONGEST: Duration = Duration::from_secs(1800);
const TRANSFERS: [Transfer; 4] = [
    Transfer {
        what: "iPXE, TFTP, 1428",
        file: SMALL,
        program: "/usr/bin/curl",
        arguments: &["-sS", "--tftp-blksize", "1428"],
    },
    Transfer {
        what: "iPXE, TFTP, 1428, window 16",
        file: SMALL,
        program: "/usr/bin/atftp",
        arguments: &["--option", "blksize 1428", "--option", "windowsize 16"],
    },
    Transfer { what: "iPXE, HTTP", file: SMALL, program: "/usr/bin/curl", arguments: &["-sS", "--fail"] },
    Transfer {
        what: "ramdisk of 50 MiB, HTTP",
        file: BIG,
        program: "/usr/bin/curl",
        arguments: &["-sS", "--fail"],
    },
];
