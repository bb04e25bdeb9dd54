//! farrier-agent runs on a server while rackd works on it: it says what the machine is made of, writes
//! its disk, and goes.
//!
//! It is `/init` of the deploy ramdisk ([`linux`]) and, in the simulator, a thousand pretend machines
//! in one process: [`run`] with another [`machine::Machine`].
//!
//! It must never know who owns the machine, what a deployment is, or any secret that outlives the boot;
//! it runs nothing it downloads, starts no shell and no other program.
//!
//! Start with `session.rs` (the conversation with rackd), then `commands/mod.rs` (what rackd can ask
//! for). `machine.rs` is the seam to the hardware, `linux/` the real side of it.
pub mod args;
mod commands;
mod config;
mod executor;
pub mod hardware;
pub mod limits;
pub mod linux;
pub mod machine;
pub mod manifest;
pub mod partitions;
pub mod root_device;
mod session;
#[cfg(test)]
mod testing;

pub use commands::{CONFIG_DRIVE_PARTITION, CommandError};
pub use config::Config;
pub use machine::Machine;

use commands::Context;
use executor::Executor;
use farrier_identity::agent::Key;
use limits::Backoff;
use std::io;
use std::sync::Arc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// `shutdown` was cancelled; what was being written stays half written.
    Shutdown,
    /// rackd asked for it, or knows nothing of this boot of a node: [`Machine::power_off`] was called.
    PoweredOff,
    /// rackd asked for it, or knows nothing of this boot of a machine that nobody described, for longer than
    /// [`limits::Limits::unknown_patience`]: [`Machine::restart`] was called.
    Restarted,
}

/// Serves `machine` until it is switched off, started again, or `shutdown` is cancelled. Nothing rackd, the network or
/// a disk does ends it otherwise.
pub async fn run(machine: Arc<dyn Machine>, config: Config, shutdown: CancellationToken) -> Ended {
    match shutdown.run_until_cancelled(serve(machine, config)).await {
        Some(Last::PowerOff) => Ended::PoweredOff,
        Some(Last::Restart) => Ended::Restarted,
        None => Ended::Shutdown,
    }
}

/// What the agent does last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    PowerOff,
    Restart,
}

async fn serve(machine: Arc<dyn Machine>, config: Config) -> Last {
    let mut backoff = Backoff::new(config.limits.reconnect_min, config.limits.reconnect_max);
    let key = loop {
        match Key::generate() {
            Ok(key) => break key,
            Err(error) => tracing::error!(%error, "cannot make a key"),
        }
        sleep(backoff.pause()).await;
    };
    let context = Arc::new(Context::new(machine.clone(), config.limits.clone()));
    let (executor, _task) = Executor::start(context.clone());
    let grace = config.limits.power_off_grace;
    let mut ledger = executor.ledger();
    let link = session::Link { config, context, executor, key };
    let last = tokio::select! {
        last = link.run() => last,
        // rackd may have read the answer and gone before we saw the stream end.
        last = async {
            let known = ledger.wait_for(|l| l.last.is_some()).await.ok().and_then(|l| l.last.as_ref().map(|(_, last)| *last));
            let Some(last) = known else { std::future::pending().await };
            sleep(grace).await;
            last
        } => last,
    };
    loop {
        tracing::info!(?last, "the agent ends");
        let machine = machine.clone();
        let done = tokio::task::spawn_blocking(move || match last {
            Last::PowerOff => machine.power_off(),
            Last::Restart => machine.restart(),
        });
        match done.await.map_err(io::Error::other).and_then(|done| done) {
            Ok(()) => return last,
            Err(error) => tracing::error!(?last, %error, "the machine does not obey, trying again"),
        }
        sleep(backoff.pause()).await;
    }
}
