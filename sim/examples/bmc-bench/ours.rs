//! Our driver, on one thread.

use std::time::Duration;

use anyhow::Result;
use farrier_bmc::ipmi::{BmcAddress, IpmiHub};
use farrier_bmc::{Bmc, Deadline, PowerState, Secret};
use futures::StreamExt as _;
use tokio::time::Instant;

use crate::fleet::{self, Kind, Mix, PASSWORD, USER, address};
use crate::usage::{load, median, own_cpu, resident};

/// As rackd's watch looks (`rackd/src/watch`).
const AT_ONCE: usize = 2048;
const PATIENCE: Duration = Duration::from_secs(35);

pub(crate) fn run(count: usize, peers: usize, runs: usize, mix: Mix) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        println!("load before: {}", load());
        println!("\n| ours, one thread | BMCs | runs | wall s | CPU s | us CPU/read | reads/CPU s |\n|---|--:|--:|--:|--:|--:|--:|");
        let healthy: Vec<usize> = (0..count).filter(|index| mix.of(*index) == Kind::Healthy).collect();
        let few: Vec<usize> = healthy.iter().copied().take(peers).collect();
        let memory = all_healthy("few", &few, runs).await?;
        drop(memory);
        let memory = all_healthy("all that are well", &healthy, runs).await?;
        println!("\n{memory}\n");
        sweeps("none is bad", &healthy, mix).await?;
        let bad = match mix {
            Mix::Tenth => "one in ten is bad",
            Mix::Half => "half are bad",
        };
        sweeps(bad, &(0..count).collect::<Vec<_>>(), mix).await?;
        println!("\nload after: {}", load());
        Ok(())
    })
}

fn handles(hub: &IpmiHub, which: &[usize]) -> Vec<(usize, Bmc)> {
    let bmc =
        |index: &usize| (*index, hub.bmc(BmcAddress::new(address(*index), USER, Secret::new(PASSWORD))));
    which.iter().map(bmc).collect()
}

/// Sweeps over BMCs that are well: the first opens sessions, the others use them. Returns what a BMC costs in memory.
async fn all_healthy(name: &str, which: &[usize], runs: usize) -> Result<String> {
    let (mut first, mut later) = (Vec::new(), Vec::new());
    let mut memory = String::new();
    for run in 0..runs {
        let begin = resident()?;
        let hub = IpmiHub::bind().await?;
        let bmcs = handles(&hub, which);
        // The actors run once and wait.
        tokio::task::yield_now().await;
        let idle = resident()?;
        first.push(timed(&bmcs).await?);
        let open = resident()?;
        later.push(timed(&bmcs).await?);
        // Memory of the first run: later ones use again what the allocator kept.
        if run == 0 {
            let each = |bytes: usize| bytes.saturating_sub(begin) as f64 / which.len() as f64 / 1024.0;
            memory = format!(
                "Memory per BMC that nobody asks: {:.1} KiB without a session, {:.1} KiB with one (resident, of {} BMCs).",
                each(idle),
                each(open),
                which.len()
            );
        }
        drop(bmcs);
        hub.shutdown().await;
    }
    for (what, figures) in [("session opened", first), ("session there", later)] {
        let wall = median(figures.iter().map(|(wall, _)| *wall).collect());
        let cpu = median(figures.iter().map(|(_, cpu)| *cpu).collect());
        let count = which.len() as f64;
        println!(
            "| {name}, {what} | {} | {runs} | {wall:.2} | {cpu:.2} | {:.0} | {:.0} |",
            which.len(),
            cpu / count * 1e6,
            count / cpu
        );
    }
    Ok(memory)
}

/// One sweep that must succeed: wall and processor seconds.
async fn timed(bmcs: &[(usize, Bmc)]) -> Result<(f64, f64)> {
    let (begin, used) = (Instant::now(), own_cpu()?);
    let looks = sweep(bmcs).await;
    fleet::check(looks.iter().map(|look| (look.index, Kind::Healthy, look.seen)))?;
    Ok((begin.elapsed().as_secs_f64(), (own_cpu()? - used).as_secs_f64()))
}

struct Look {
    index: usize,
    /// From the beginning of the sweep.
    at: Duration,
    /// From the beginning of the look.
    took: Duration,
    /// `None`: no answer.
    seen: Option<PowerState>,
}

async fn sweep(bmcs: &[(usize, Bmc)]) -> Vec<Look> {
    let begin = Instant::now();
    let looks = bmcs.iter().map(|(index, bmc)| async move {
        let from = Instant::now();
        let seen = bmc.power_status(Deadline::after(PATIENCE)).await.ok();
        Look { index: *index, at: begin.elapsed(), took: from.elapsed(), seen }
    });
    futures::stream::iter(looks).buffer_unordered(AT_ONCE).collect().await
}

/// Two sweeps over these, told by kind: beside each other, what those that are well notice of the bad ones.
async fn sweeps(caption: &str, which: &[usize], mix: Mix) -> Result<()> {
    let hub = IpmiHub::bind().await?;
    let bmcs = handles(&hub, which);
    println!(
        "\n| {caption} | BMCs | read | p50 ms | p99 ms | longest s | all at s |\n|---|--:|--:|--:|--:|--:|--:|"
    );
    for round in ["first sweep", "second sweep"] {
        let used = own_cpu()?;
        let looks = sweep(&bmcs).await;
        let used = (own_cpu()? - used).as_secs_f64();
        for kind in [Kind::Healthy].into_iter().chain(Kind::BAD) {
            let of: Vec<&Look> = looks.iter().filter(|look| mix.of(look.index) == kind).collect();
            if of.is_empty() {
                continue;
            }
            let mut took: Vec<f64> = of.iter().map(|look| look.took.as_secs_f64()).collect();
            took.sort_by(f64::total_cmp);
            let part =
                |share: f64| took.get((took.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
            let read = of.iter().filter(|look| look.seen.is_some()).count();
            let all = of.iter().map(|look| look.at.as_secs_f64()).fold(0.0, f64::max);
            println!(
                "| {round}, {kind:?} | {} | {read} | {:.0} | {:.0} | {:.1} | {all:.1} |",
                of.len(),
                part(0.5) * 1e3,
                part(0.99) * 1e3,
                took.last().copied().unwrap_or(f64::NAN)
            );
        }
        println!("| {round}, CPU s in all: {used:.2} | | | | | | |");
        fleet::check(looks.iter().map(|look| (look.index, mix.of(look.index), look.seen)))?;
    }
    drop(bmcs);
    hub.shutdown().await;
    Ok(())
}
