//! What a process has used.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Processor time of this thread, which is all of ours that works.
pub(crate) fn own_cpu() -> Result<Duration> {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").context("a kernel without schedstat")?;
    let nanoseconds = text.split(' ').next().context("/proc/thread-self/schedstat is empty")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// Processor time of children that have ended, in ticks of ten milliseconds.
pub(crate) fn children_cpu() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // The name before the last bracket may hold anything.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks =
        |at: usize| -> Result<u64> { Ok(fields.get(at).context("/proc/self/stat is short")?.parse()?) };
    Ok(Duration::from_millis((ticks(13)? + ticks(14)?) * 10))
}

/// Resident memory of this process, in bytes.
pub(crate) fn resident() -> Result<usize> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let kib = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(kib.trim().trim_end_matches(" kB").parse::<usize>()? << 10)
}

/// The one-minute load average: others who share the machine are in every time that is not processor time.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
