//! A row that powers on: sixty-four clients of TFTP in the same instant, near and far, and sixteen of HTTP; and one client of TFTP
//! over a cable with some delay.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};

use crate::files::{self, ATFTP};
use crate::place::{Cable, Place, SERVER};
use crate::servers::{self, BIG, SMALL, Server, Tftp};

/// TFTP: all begin at once, from one address; each has its file whole, or is counted as failed.
pub(crate) fn run(place: &Place, servers: &Tftp<'_>) -> anyhow::Result<()> {
    files::make(place)?;
    println!(
        "\n| TFTP, {CLIENTS} clients, 1428, window 16 | server | whole | MiB/s | median s | 99 of 100 s | CPU ms/MiB |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|");
    for (load, file) in [("1 MiB each", SMALL), ("50 MiB each", BIG)] {
        for peer in servers.names() {
            let server = servers.start(place, peer)?;
            let got = at_once(place, &server, (CLIENTS, file), |out| client(place, file, "16", out))?;
            // Its children do the work, and nobody waits for them: their time is not seen.
            let cost = if peer == "tftpd-hpa" { "–".to_owned() } else { format!("{:.1}", got.cost) };
            println!("| {load} | {peer} | {} | {cost} |", got.row());
        }
    }
    Ok(())
}

/// The same over cables of a campus and of a country: who has no windows needs a round trip a block.
pub(crate) fn far(directory: &Path, servers: &Tftp<'_>, wan: &Path) -> anyhow::Result<()> {
    println!("\n| TFTP, {CLIENTS} clients over a delay | server | whole | MiB/s | median s | 99 of 100 s |");
    println!("|---|---|--:|--:|--:|--:|");
    for round_trip in FAR {
        let place = Place::far(directory, &Cable { program: wan, round_trip, loss: 0 })?;
        files::make(&place)?;
        for (load, file, window) in FAR_LOADS {
            for peer in servers.names() {
                // Half an hour, of which nothing new comes out.
                if *file == BIG && !has_windows(peer) {
                    println!("| {round_trip} ms, {load} | {peer} | – | – | – | – |");
                    continue;
                }
                let server = servers.start(&place, peer)?;
                let got = at_once(&place, &server, (CLIENTS, file), |out| client(&place, file, window, out))?;
                println!("| {round_trip} ms, {load} | {peer} | {} |", got.row());
            }
        }
    }
    Ok(())
}

/// HTTP: a rack that fetches its ramdisk.
pub(crate) fn http(place: &Place, rackd: &Path, runs: usize) -> anyhow::Result<()> {
    files::make(place)?;
    println!(
        "\n| HTTP, {READERS} clients, 50 MiB each, {runs} times | whole | MiB/s | median s | 99 of 100 s | CPU ms/MiB |"
    );
    println!("|---|--:|--:|--:|--:|--:|");
    for peer in ["farrier", "nginx"] {
        let server = servers::http(place, rackd, peer)?;
        let mut all = Vec::new();
        for _ in 0..runs.max(1) {
            all.push(at_once(place, &server, (READERS, BIG), |out| {
                let mut curl = place.client("/usr/bin/curl");
                curl.args(["-sS", "--fail", "-o"]).arg(out);
                curl.arg(format!("http://{SERVER}:8080/artifacts/{BIG}"));
                curl.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                curl
            })?);
        }
        // A tick is ten milliseconds: over all of them.
        let cost = all.iter().map(|got| got.cost).sum::<f64>() / all.len() as f64;
        all.sort_by(|one, other| one.speed.total_cmp(&other.speed));
        let middle = all.get(all.len() / 2).context("no runs")?;
        println!("| {peer} | {} | {cost:.2} |", middle.row());
    }
    Ok(())
}

/// What a crowd got.
struct Got {
    /// Seconds until each of those that have it whole had it, in order.
    times: Vec<f64>,
    speed: f64,
    /// Milliseconds of processor a MiB.
    cost: f64,
}

impl Got {
    fn row(&self) -> String {
        let at = |part| quantile(&self.times, part).map_or("–".to_owned(), |time| format!("{time:.2}"));
        format!("{} | {:.1} | {} | {}", self.times.len(), self.speed, at(50), at(99))
    }
}

/// So many of a hundred are no later than this. `sorted`: in order.
pub(crate) fn quantile(sorted: &[f64], part: usize) -> Option<f64> {
    sorted.get((sorted.len() * part / 100).min(sorted.len().saturating_sub(1))).copied()
}

fn at_once(
    place: &Place,
    server: &Server,
    (clients, file): (usize, &str),
    command: impl Fn(&Path) -> Command,
) -> anyhow::Result<Got> {
    let whole = std::fs::read(place.path("files").join(file))?;
    let out = tempfile::tempdir_in("/dev/shm")?;
    let (before, begun) = (server.cpu()?, Instant::now());
    let clients: Vec<(usize, Child)> = (0..clients)
        .map(|index| {
            let mut command = command(&out.path().join(index.to_string()));
            Ok((index, command.spawn().with_context(|| format!("{command:?}"))?))
        })
        .collect::<anyhow::Result<_>>()?;
    // A thread each, which sleeps until its client ends.
    let ended = clients.into_iter().map(|(index, mut child)| {
        std::thread::spawn(move || {
            let status = child.wait();
            (index, status.is_ok_and(|status| status.success()), begun.elapsed())
        })
    });
    let ended: Vec<_> = ended.collect::<Vec<_>>().into_iter().filter_map(|one| one.join().ok()).collect();
    let all = begun.elapsed();
    let spent = server.cpu()?.saturating_sub(before).as_secs_f64() * 1e3;
    let mut times = Vec::new();
    for (index, _, time) in ended.into_iter().filter(|(_, whole, _)| *whole) {
        let got = std::fs::read(out.path().join(index.to_string()))?;
        ensure!(got == whole, "client {index} got something else than {file}");
        times.push(time.as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let mib = times.len() as f64 * whole.len() as f64 / f64::from(1 << 20);
    Ok(Got { times, speed: mib / all.as_secs_f64(), cost: spent / mib.max(1.0) })
}

/// One client, over delays of a campus and of a country. Who has no windows needs a round trip a block.
pub(crate) fn delayed(directory: &Path, servers: &Tftp<'_>, wan: &Path) -> anyhow::Result<()> {
    println!("\n| TFTP over a delay, one client | server | s | MiB/s |\n|---|---|--:|--:|");
    for round_trip in FAR {
        let place = Place::far(directory, &Cable { program: wan, round_trip, loss: 0 })?;
        files::make(&place)?;
        for (load, file, window) in DELAYED {
            for peer in servers.names() {
                // A quarter of an hour, of which nothing new comes out.
                if *file == BIG && !has_windows(peer) && round_trip > 2 {
                    println!("| {load}, {round_trip} ms | {peer} | – | – |");
                    continue;
                }
                let _server = servers.start(&place, peer)?;
                let whole = std::fs::read(place.path("files").join(file))?;
                let out = tempfile::tempdir_in("/dev/shm")?;
                let out = out.path().join("got");
                let begun = Instant::now();
                let done = client(&place, file, window, &out).status()?;
                let took = begun.elapsed().as_secs_f64();
                if !done.success() {
                    println!("| {load}, {round_trip} ms | {peer} | failed: {done} | – |");
                    continue;
                }
                ensure!(std::fs::read(&out)? == whole, "{peer}, {load}: got something else than {file}");
                let mib = whole.len() as f64 / f64::from(1 << 20);
                println!("| {load}, {round_trip} ms | {peer} | {took:.2} | {:.1} |", mib / took);
            }
        }
    }
    Ok(())
}

/// RFC 7440.
fn has_windows(peer: &str) -> bool {
    matches!(peer, "farrier" | "atftpd")
}

fn client(place: &Place, file: &str, window: &str, out: &Path) -> Command {
    let mut command = place.client(ATFTP);
    command.args(["--option", "blksize 1428"]);
    if window != "1" {
        command.args(["--option", &format!("windowsize {window}")]);
    }
    command.args(["-g", "-r", file, "-l"]).arg(out).arg(SERVER);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

const CLIENTS: usize = 64;
/// Of HTTP.
const READERS: usize = 16;
/// Round trips in milliseconds.
const FAR: [u64; 2] = [2, 25];
const FAR_LOADS: &[(&str, &str, &str)] =
    &[("1 MiB, window 16", SMALL, "16"), ("1 MiB, lock step", SMALL, "1"), ("50 MiB, window 64", BIG, "64")];
const DELAYED: &[(&str, &str, &str)] =
    &[("1 MiB, lock step", SMALL, "1"), ("1 MiB, window 16", SMALL, "16"), ("50 MiB, window 64", BIG, "64")];
