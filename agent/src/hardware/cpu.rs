//! Processors, from `/proc/cpuinfo` and the topology in sysfs.
use super::{names, number, printable, text};
use farrier_proto::types::Cpu;
use std::collections::BTreeSet;
use std::path::Path;

/// Counts what is on line now.
pub(super) fn cpu(root: &Path, architecture: &str) -> Cpu {
    let cpuinfo = text(&root.join("proc/cpuinfo"));
    let threads = values(&cpuinfo, "processor").count();
    let (sockets, cores) = topology(root);
    Cpu {
        architecture: architecture.to_owned(),
        model: model(&cpuinfo),
        // A kernel without topology (some hypervisors) still has one socket and one core a thread.
        socket_count: count(if sockets == 0 { threads.min(1) } else { sockets }),
        core_count: count(if cores == 0 { threads } else { cores }),
        thread_count: count(threads),
    }
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn values<'a>(cpuinfo: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(move |(k, _)| k.trim() == key)
        .map(|(_, v)| v.trim())
}

/// x86 prints a name; Arm prints the numbers of MIDR_EL1, which `lscpu` would look up.
fn model(cpuinfo: &str) -> String {
    if let Some(name) = values(cpuinfo, "model name").next() {
        return printable(name.as_bytes());
    }
    match (values(cpuinfo, "CPU implementer").next(), values(cpuinfo, "CPU part").next()) {
        (Some(implementer), Some(part)) => {
            printable(format!("implementer {implementer} part {part}").as_bytes())
        }
        _ => String::new(),
    }
}

/// Distinct packages, and distinct cores in them.
fn topology(root: &Path) -> (usize, usize) {
    let cpus = root.join("sys/devices/system/cpu");
    let (mut sockets, mut cores) = (BTreeSet::new(), BTreeSet::new());
    for name in names(&cpus) {
        let is_cpu = name.strip_prefix("cpu").is_some_and(|n| n.parse::<u32>().is_ok());
        let topology = cpus.join(&name).join("topology");
        if !is_cpu {
            continue;
        }
        let Some(package) = number(&topology.join("physical_package_id")) else { continue };
        sockets.insert(package);
        // Core ids repeat in each die of a package.
        let die = number(&topology.join("die_id")).unwrap_or(0);
        cores.insert((package, die, number(&topology.join("core_id")).unwrap_or(0)));
    }
    (sockets.len(), cores.len())
}
