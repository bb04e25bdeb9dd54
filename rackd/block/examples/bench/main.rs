//! `cargo xtask bench block`: our target beside tgt, in one run, with the same load generator; and beside nginx, for
//! what a file server can do.
//!
//! `bench --rackd PROGRAM [--seconds N] [--runs N] [--size MIB] [--only WORD] [--directory DIR] [--awake yes]`

mod awake;
mod foreign;
mod http;
mod load;
mod overlay;
mod peers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use load::{Case, Kind, Order};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::read()?;
    let directory = tempfile::tempdir_in(&options.directory)?;
    let _awake = options.awake.then(awake::Awake::start).transpose()?;
    let disk = directory.path().join("disk.img");
    // Written, not sparse: holes are cheaper to read than data.
    let pattern: Vec<u8> =
        (0..1u32 << 18).flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    let mut file = std::fs::File::create(&disk)?;
    for _ in 0..options.size_mib {
        std::io::Write::write_all(&mut file, &pattern)?;
    }
    let ours = peers::rackd(&options.rackd, &disk)?;
    let tgt = peers::tgt(directory.path(), &disk)?;
    let servers = [&ours, &tgt];
    println!("| load | sessions | server | IOPS | MiB/s | p50 us | p99 us | CPU us/op | RSS MiB |");
    println!("|---|--:|---|--:|--:|--:|--:|--:|--:|");
    for case in CASES.iter().filter(|case| case.name.contains(&options.only)) {
        let mut costs = Vec::new();
        for server in servers {
            // The median of the runs by IOPS.
            let mut results = Vec::new();
            for _ in 0..options.runs {
                let before = server.cpu()?;
                let result =
                    load::run(server, case, options.size_mib << 20, Duration::from_secs(options.seconds))?;
                let spent = server.cpu()? - before;
                results.push((result, spent));
            }
            results.sort_by(|a, b| a.0.iops().total_cmp(&b.0.iops()));
            let (result, spent) = results.swap_remove(results.len() / 2);
            let cost = spent.as_secs_f64() * 1e6 / result.operations.max(1) as f64;
            println!(
                "| {} | {} | {} | {:.0} | {:.0} | {} | {} | {:.1} | {:.1} |",
                case.name,
                case.sessions,
                server.name,
                result.iops(),
                result.iops() * case.bytes as f64 / f64::from(1 << 20),
                result.percentile(50).as_micros(),
                result.percentile(99).as_micros(),
                cost,
                server.rss_mib()?,
            );
            costs.push(cost);
        }
        if let [ours, tgt] = costs[..] {
            println!("| | | IOPS per core, ours to tgt's | {:.1} | | | | | |", tgt / ours);
        }
    }
    if "qemu-img bench".contains(&options.only) {
        foreign::run(&servers, options.runs)?;
    }
    if "sequential read beside nginx".contains(&options.only) {
        beside_nginx(&options, directory.path(), &disk, &ours)?;
    }
    if "overlay".contains(&options.only) {
        overlay::run(directory.path())?;
    }
    Ok(())
}

/// Reading the file from its beginning to its end: over HTTP with sendfile, and over iSCSI. The order turns.
fn beside_nginx(
    options: &Options,
    directory: &Path,
    disk: &Path,
    ours: &peers::Server,
) -> Result<(), Box<dyn std::error::Error>> {
    let nginx = peers::nginx(directory, disk)?;
    let time = Duration::from_secs(options.seconds);
    let (mut http, mut iscsi) = (Vec::new(), Vec::new());
    for run in 0..options.runs * 2 {
        if run % 2 == usize::from(run / 2 % 2 == 1) {
            let before = nginx.cpu()?;
            let (bytes, elapsed) = http::read(nginx.address, "/disk.img", time)?;
            http.push(Stream::new(bytes, elapsed, nginx.cpu()? - before));
        } else {
            let before = ours.cpu()?;
            let case = case("1M", Kind::Read, Order::Sequential, 1 << 20, 4, 1);
            let result = load::run(ours, &case, options.size_mib << 20, time)?;
            iscsi.push(Stream::new(result.operations << 20, result.elapsed(), ours.cpu()? - before));
        }
    }
    println!("\n| sequential read, one connection | MiB/s | CPU us/MiB |\n|---|--:|--:|");
    let [http, iscsi] =
        [("nginx, HTTP, sendfile", http), ("farrier, iSCSI, 1M QD4", iscsi)].map(|(name, all)| {
            let middle = Stream::median(all);
            println!("| {name} | {:.0} | {:.0} |", middle.speed, middle.cost);
            middle
        });
    println!("| ours to nginx's | {:.2} | {:.2} |", iscsi.speed / http.speed, iscsi.cost / http.cost);
    Ok(())
}

/// One run of a sequential read.
#[derive(Clone, Copy)]
struct Stream {
    speed: f64,
    cost: f64,
}

impl Stream {
    fn new(bytes: u64, elapsed: Duration, cpu: Duration) -> Stream {
        let mib = bytes as f64 / f64::from(1 << 20);
        Stream { speed: mib / elapsed.as_secs_f64(), cost: cpu.as_secs_f64() * 1e6 / mib.max(1.0) }
    }

    /// By speed.
    fn median(mut all: Vec<Stream>) -> Stream {
        all.sort_by(|a, b| a.speed.total_cmp(&b.speed));
        all.get(all.len() / 2).copied().unwrap_or(Stream { speed: f64::NAN, cost: f64::NAN })
    }
}

struct Options {
    rackd: PathBuf,
    seconds: u64,
    runs: usize,
    size_mib: u64,
    only: String,
    directory: PathBuf,
    awake: bool,
}

impl Options {
    fn read() -> Result<Options, Box<dyn std::error::Error>> {
        let mut options = Options {
            rackd: PathBuf::new(),
            seconds: 3,
            runs: 3,
            size_mib: 1024,
            only: String::new(),
            directory: PathBuf::from("/dev/shm"),
            awake: false,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(option) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{option} needs a value"))?;
            match option.as_str() {
                "--rackd" => options.rackd = value.into(),
                "--seconds" => options.seconds = value.parse()?,
                "--runs" => options.runs = value.parse()?,
                "--size" => options.size_mib = value.parse()?,
                "--only" => options.only = value,
                "--directory" => options.directory = value.into(),
                "--awake" => options.awake = value == "yes",
                _ => return Err(format!("{option}: not an option").into()),
            }
        }
        if options.rackd.as_os_str().is_empty() || options.runs == 0 {
            return Err("expected --rackd PROGRAM, and at least one run".into());
        }
        Ok(options)
    }
}

const fn case(
    name: &'static str,
    kind: Kind,
    order: Order,
    bytes: usize,
    depth: usize,
    sessions: usize,
) -> Case {
    Case { name, kind, order, bytes, depth, sessions }
}

const CASES: &[Case] = &[
    case("4k random read QD1", Kind::Read, Order::Random, 4096, 1, 1),
    case("4k random read QD32", Kind::Read, Order::Random, 4096, 32, 1),
    case("4k random write QD1", Kind::Write, Order::Random, 4096, 1, 1),
    case("4k random write QD32", Kind::Write, Order::Random, 4096, 32, 1),
    case("128k sequential read QD8", Kind::Read, Order::Sequential, 128 << 10, 8, 1),
    case("1M sequential read QD4", Kind::Read, Order::Sequential, 1 << 20, 4, 1),
    case("128k sequential write QD8", Kind::Write, Order::Sequential, 128 << 10, 8, 1),
    case("1M sequential write QD4", Kind::Write, Order::Sequential, 1 << 20, 4, 1),
    case("4k random read QD1 each", Kind::Read, Order::Random, 4096, 1, 64),
    case("4k random read QD4 each", Kind::Read, Order::Random, 4096, 4, 64),
    case("4k random write QD1 each", Kind::Write, Order::Random, 4096, 1, 64),
    case("4k random read QD32 each", Kind::Read, Order::Random, 4096, 32, 64),
    case("4k random write QD32 each", Kind::Write, Order::Random, 4096, 32, 64),
    case("128k sequential read QD1 each", Kind::Read, Order::Sequential, 128 << 10, 1, 64),
    case("1M sequential read QD1 each", Kind::Read, Order::Sequential, 1 << 20, 1, 64),
    case("128k sequential write QD1 each", Kind::Write, Order::Sequential, 128 << 10, 1, 64),
    case("1M sequential write QD1 each", Kind::Write, Order::Sequential, 1 << 20, 1, 64),
];
