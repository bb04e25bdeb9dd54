//! From the first instruction in user space to a session with rackd.
use super::console::{self, say};
use super::{LinuxMachine, Neighbours, mounts, network};
use crate::args::KernelArgs;
use crate::config::Config;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A clock that is further behind is set. Of one that is ahead it is not known who is wrong.
const BEHIND_SECONDS: i64 = 60;
/// rackd's time is of when it wrote the boot script, and firmware may take an hour from there to here: a clock that is ahead by
/// less than this is believed, since set back it would be wrong by just that. One that keeps local time is ahead by half of it.
const AHEAD_SECONDS: i64 = 86_400;
/// Between two tries of a start that failed: a person may plug a cable meanwhile.
const RETRY: Duration = Duration::from_secs(10);

/// Everything pid 1 does. Never returns: pid 1 that ends is a kernel panic.
pub fn start() -> ! {
    console::install();
    mounts::kernel_file_systems();
    say(concat!("farrier-agent ", env!("CARGO_PKG_VERSION")));
    mounts::load_modules(Path::new("/modules"));
    mounts::efi_variables();
    // Before any link is up: what a switch says first is heard.
    let neighbours = Neighbours::listen();
    let neighbours = neighbours.map_err(|error| say(&format!("no LLDP: {error}"))).ok();
    let machine = Arc::new(LinuxMachine::new(neighbours));
    loop {
        let attempt = catch_unwind(AssertUnwindSafe(|| attempt(&machine)));
        let error = attempt.unwrap_or_else(|panic| format!("a bug in the agent: {}", text(&*panic)));
        say(&format!("cannot go on: {error}; trying again in {} s", RETRY.as_secs()));
        std::thread::park_timeout(RETRY);
    }
}

/// One try from the kernel's arguments on. Comes back only with what went wrong.
fn attempt(machine: &Arc<LinuxMachine>) -> String {
    let cmdline = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let args = match KernelArgs::parse(&cmdline) {
        Ok(args) => args,
        Err(error) => return error.to_string(),
    };
    let config = match Config::from_args(&args) {
        Ok(config) => config,
        Err(error) => return error.to_string(),
    };
    if let Some(time) = args.time {
        set_clock(time);
    }
    match network::bring_up(args.boot_mac, args.address) {
        Ok(interface) => {
            let address = args.address.map(|a| format!("{}/{}", a.ip, a.prefix_len));
            let address = address.unwrap_or_else(|| "no address (farrier.ip is missing)".to_owned());
            say(&format!("node {}: {interface} is up, {address}; rackd is {}", args.node, args.url));
        }
        Err(error) => return format!("network: {error}"),
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return format!("starting threads: {error}"),
    };
    let ended = runtime.block_on(crate::run(machine.clone(), config, CancellationToken::new()));
    format!("expected the machine to be off, seen {ended:?}")
}

/// Sets the clock from rackd's when it lies.
fn set_clock(time: i64) {
    let now = clock_gettime(ClockId::Realtime).tv_sec;
    if !lies(now, time) {
        return;
    }
    let which = if now < time { "behind" } else { "ahead" };
    match clock_settime(ClockId::Realtime, Timespec { tv_sec: time, tv_nsec: 0 }) {
        Ok(()) => say(&format!("the clock was {} s {which} and is set", now.abs_diff(time))),
        Err(error) => {
            say(&format!("the clock is {} s {which} and cannot be set: {error}", now.abs_diff(time)));
        }
    }
}

/// Whether a clock that says `now` is wrong, where rackd said `told` some time ago: seconds since 1970.
fn lies(now: i64, told: i64) -> bool {
    let ahead = now.saturating_sub(told);
    !(-BEHIND_SECONDS..=AHEAD_SECONDS).contains(&ahead)
}

fn text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_went_on_while_its_machine_started_is_right() {
        let told = 1_800_000_000;
        for (ahead, expected) in [
            (0, false),
            (600, false),
            (3600, false),
            (14 * 3600, false),
            (-30, false),
            (-600, true),
            (-told, true),
            (7 * 86_400, true),
        ] {
            assert_eq!(lies(told + ahead, told), expected, "{ahead} s ahead");
        }
        assert!(lies(i64::MIN, told) && lies(i64::MAX, told));
    }
}
