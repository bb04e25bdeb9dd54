//! The same servers under an initiator and a load that others wrote: `qemu-img bench`.

use std::process::Command;
use std::time::Duration;

use crate::peers::{Server, TARGET};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

struct Case {
    name: &'static str,
    writes: bool,
    bytes: usize,
    depth: usize,
    count: usize,
}

/// Prints a table: each server in turn, the median of the runs by time.
pub(crate) fn run(servers: &[&Server], runs: usize) -> Outcome<()> {
    println!("\n| qemu-img bench, in order | server | IOPS | MiB/s | CPU us/op |\n|---|---|--:|--:|--:|");
    for case in CASES {
        let mut costs = Vec::new();
        for server in servers {
            let mut all = Vec::new();
            for _ in 0..runs {
                let before = server.cpu()?;
                let took = bench(server, case)?;
                all.push((took, server.cpu()? - before));
            }
            all.sort();
            let (took, spent) = all.swap_remove(all.len() / 2);
            let count = case.count as f64;
            let (rate, cost) = (count / took.as_secs_f64(), spent.as_secs_f64() * 1e6 / count);
            let speed = rate * case.bytes as f64 / f64::from(1 << 20);
            println!("| {} | {} | {rate:.0} | {speed:.0} | {cost:.1} |", case.name, server.name);
            costs.push(cost);
        }
        if let [ours, tgt] = costs[..] {
            println!("| | IOPS per core, ours to tgt's | {:.1} | | |", tgt / ours);
        }
    }
    Ok(())
}

fn bench(server: &Server, case: &Case) -> Outcome<Duration> {
    let mut command = Command::new("qemu-img");
    command.args(["bench", "-f", "raw", "-t", "none"]);
    if case.writes {
        command.args(["-w", "--pattern", "7"]);
    }
    command.args(["-s", &case.bytes.to_string(), "-d", &case.depth.to_string()]);
    command.args(["-c", &case.count.to_string()]);
    command.arg(format!("iscsi://{}/{TARGET}/{}", server.address, server.lun));
    let done = command.output()?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let seconds = text.lines().find_map(|line| line.strip_prefix("Run completed in ")?.split(' ').next());
    let seconds =
        seconds.ok_or_else(|| format!("qemu-img bench: {}", String::from_utf8_lossy(&done.stderr)))?;
    Ok(Duration::from_secs_f64(seconds.parse()?))
}

const CASES: &[Case] = &[
    Case { name: "4k read, 1 at a time", writes: false, bytes: 4096, depth: 1, count: 20_000 },
    Case { name: "4k read, 32 at once", writes: false, bytes: 4096, depth: 32, count: 100_000 },
    Case { name: "4k write, 1 at a time", writes: true, bytes: 4096, depth: 1, count: 20_000 },
    Case { name: "4k write, 32 at once", writes: true, bytes: 4096, depth: 32, count: 100_000 },
    Case { name: "1M read, 4 at once", writes: false, bytes: 1 << 20, depth: 4, count: 3_000 },
];
