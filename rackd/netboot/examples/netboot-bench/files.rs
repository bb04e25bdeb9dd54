//! Files: one client at a time, whole, every byte compared.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::place::{Place, SERVER};
use crate::servers::{self, BIG, SMALL, Server, Tftp};

pub(crate) fn tftp(place: &Place, servers: &Tftp<'_>, runs: usize) -> anyhow::Result<()> {
    make(place)?;
    println!("\n| TFTP, one client | server | MiB/s | CPU ms/MiB |\n|---|---|--:|--:|");
    for (load, file, client, arguments) in TRANSFERS {
        for peer in servers.names() {
            let server = servers.start(place, peer)?;
            let got = measure(place, &server, runs, file, |out| {
                let mut command = place.client(client);
                command.args(*arguments);
                if *client == CURL {
                    command.arg("-o").arg(out).arg(format!("tftp://{SERVER}/{file}"));
                } else {
                    command.args(["-g", "-r", file, "-l"]).arg(out).arg(SERVER);
                }
                command
            })?;
            // Its children do the work, and nobody waits for them: their time is not seen.
            let cost = if peer == "tftpd-hpa" { "–".to_owned() } else { format!("{:.1}", got.cost) };
            println!("| {load} | {peer} | {:.1} | {cost} |", got.speed);
        }
    }
    Ok(())
}

pub(crate) fn http(place: &Place, rackd: &Path, runs: usize) -> anyhow::Result<()> {
    make(place)?;
    println!("\n| HTTP, one client | server | MiB/s | CPU ms/MiB |\n|---|---|--:|--:|");
    for peer in ["farrier", "nginx"] {
        let server = servers::http(place, rackd, peer)?;
        let got = measure(place, &server, runs, BIG, |out| {
            let mut command = place.client(CURL);
            command.args(["-sS", "--fail", "-o"]).arg(out);
            command.arg(format!("http://{SERVER}:8080/artifacts/{BIG}"));
            command
        })?;
        println!("| 50 MiB, curl | {peer} | {:.0} | {:.2} |", got.speed, got.cost);
    }
    Ok(())
}

struct Got {
    speed: f64,
    cost: f64,
}

/// The median of the runs by speed; CPU over all of them, since a tick is ten milliseconds.
fn measure(
    place: &Place,
    server: &Server,
    runs: usize,
    file: &str,
    command: impl Fn(&Path) -> Command,
) -> anyhow::Result<Got> {
    let whole = std::fs::read(place.path("files").join(file))?;
    // In memory: it is not the client's disk that is measured.
    let out = tempfile::tempdir_in("/dev/shm")?;
    let out = out.path().join("got");
    let mut times: Vec<Duration> = Vec::new();
    let before = server.cpu()?;
    for _ in 0..runs.max(1) {
        let mut command = command(&out);
        let begun = Instant::now();
        let done = command.output().with_context(|| format!("{command:?}"))?;
        times.push(begun.elapsed());
        let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
        ensure!(done.status.success(), "{command:?}: {} {complaint}", done.status);
        ensure!(std::fs::read(&out)? == whole, "{command:?} got something else than {file}");
        std::fs::remove_file(&out)?;
    }
    times.sort();
    let middle = times.get(times.len() / 2).context("no runs")?;
    let mib = whole.len() as f64 / f64::from(1 << 20);
    let spent = server.cpu()?.saturating_sub(before).as_secs_f64() * 1e3;
    Ok(Got { speed: mib / middle.as_secs_f64(), cost: spent / (mib * times.len() as f64) })
}

/// The files, the same every time.
pub(crate) fn make(place: &Place) -> anyhow::Result<()> {
    let files = place.path("files");
    std::fs::create_dir_all(&files)?;
    for (name, mib) in [(SMALL, 1u32), (BIG, 50)] {
        let words = (0..mib << 18).flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_le_bytes());
        std::fs::write(files.join(name), words.collect::<Vec<u8>>())?;
    }
    Ok(())
}

const CURL: &str = "/usr/bin/curl";
pub(crate) const ATFTP: &str = "/usr/bin/atftp";
/// What, which file, with which client and its options. Where a server refuses an option, it goes without.
const TRANSFERS: &[(&str, &str, &str, &[&str])] = &[
    ("1 MiB, blocks of 512", SMALL, CURL, &["-sS", "--tftp-blksize", "512"]),
    ("1 MiB, blocks of 1428", SMALL, CURL, &["-sS", "--tftp-blksize", "1428"]),
    ("50 MiB, blocks of 1428", BIG, CURL, &["-sS", "--tftp-blksize", "1428"]),
    ("1 MiB, 1428, window 16", SMALL, ATFTP, &["--option", "blksize 1428", "--option", "windowsize 16"]),
    ("50 MiB, 1428, window 16", BIG, ATFTP, &["--option", "blksize 1428", "--option", "windowsize 16"]),
];
