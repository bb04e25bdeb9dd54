//! What rackd can ask for, one file a command.
//!
//! Each command is check → do → verify by reading back, and may run again: [`execute`] knows nothing of
//! sessions, ids or retries by rackd; `crate::executor` does.
mod boot_entry;
mod config_drive;
mod erase;
mod error;
mod fetch;
mod loader;
mod progress;
mod samples;
mod write_image;

pub use config_drive::PARTITION_NAME as CONFIG_DRIVE_PARTITION;
pub use error::CommandError;
pub(crate) use progress::Progress;

use crate::limits::Limits;
use crate::machine::{BlockDevice, Machine};
use crate::root_device;
use farrier_proto::agent::session_request::Done;
use farrier_proto::agent::session_response::{Command, Inspect};
use farrier_proto::types::{Disk, Hardware, Nic, RootDeviceHints};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What commands share during a boot.
pub(crate) struct Context {
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) limits: Limits,
    /// Chunks a failed WriteImage had finished: the next one with the same image and disk goes on there.
    pub(crate) half_written: Mutex<Option<write_image::HalfWritten>>,
}

impl Context {
    pub(crate) fn new(machine: Arc<dyn Machine>, limits: Limits) -> Self {
        Self { machine, limits, half_written: Mutex::new(None) }
    }
}

/// Runs one command to its end. `url` follows rackd when it comes back at another address while an
/// image is being written. Dropping the future stops the command between two disk operations.
pub(crate) async fn execute(
    context: &Arc<Context>,
    command: Command,
    url: watch::Receiver<String>,
    progress: Progress,
) -> Result<Done, CommandError> {
    let changes_disks =
        matches!(command, Command::WriteConfigDrive(_) | Command::SetBootEntry(_) | Command::Erase(_));
    if changes_disks {
        forget_half_written(context);
    }
    match command {
        Command::Inspect(command) => inspect(context, command).await,
        Command::WriteImage(command) => write_image::run(context, command, url, progress).await,
        Command::WriteConfigDrive(command) => config_drive::run(context, command).await,
        Command::SetBootEntry(command) => boot_entry::run(context, command).await,
        Command::Erase(command) => erase::run(context, command, progress).await,
        // The session does it once this answer is out.
        Command::PowerOff(_) => Ok(done("switching off")),
        Command::Restart(_) => Ok(done("starting again")),
    }
}

/// Waits a while for disks that are still being probed, for links that are still being negotiated, and for what is at
/// their other ends.
async fn inspect(context: &Arc<Context>, command: Inspect) -> Result<Done, CommandError> {
    let (limits, begin) = (&context.limits, Instant::now());
    let patience = Duration::from_secs(u64::try_from(command.neighbour_seconds).unwrap_or(0));
    let patience = patience.min(limits.neighbour_wait_most);
    let listened = || context.machine.listening_since().is_none_or(|since| since.elapsed() >= patience);
    let mut before: Option<Vec<Disk>> = None;
    let hardware = loop {
        let hardware = hardware(context).await?;
        // Controllers bring their disks one after another: the list is whole when it stays the same for a while.
        let settled = before.replace(hardware.disks.clone()).is_some_and(|seen| seen == hardware.disks);
        let disks = (settled && !hardware.disks.is_empty()) || begin.elapsed() >= limits.disk_wait;
        let links = hardware.nics.iter().all(|nic| nic.link_up) || begin.elapsed() >= limits.carrier_wait;
        let heard = |nic: &Nic| !nic.link_up || nic.neighbour.is_some();
        let neighbours = hardware.nics.iter().all(heard) || listened();
        if disks && links && neighbours {
            break hardware;
        }
        tokio::time::sleep(limits.disk_poll).await;
    };
    let detail = format!("{} disks, {} network interfaces", hardware.disks.len(), hardware.nics.len());
    Ok(Done { hardware: Some(hardware), ..done(detail) })
}

fn done(detail: impl Into<String>) -> Done {
    Done { detail: detail.into(), ..Done::default() }
}

fn forget_half_written(context: &Context) {
    *context.half_written.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
}

/// Runs disk work on a blocking thread; a panic in there is a bug of ours, told and survived.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CommandError> + Send + 'static,
) -> Result<T, CommandError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(CommandError::Bug(error.to_string())),
    }
}

async fn hardware(context: &Arc<Context>) -> Result<Hardware, CommandError> {
    let machine = context.machine.clone();
    blocking(move || machine.hardware().map_err(CommandError::disk_io("machine", "reading the hardware")))
        .await
}

/// A disk and the handle to it.
struct OpenDisk {
    info: Disk,
    device: Arc<dyn BlockDevice>,
}

/// Picks the root disk and opens it. Controllers may still be probing when the first command comes:
/// waits a while for a disk that matches.
async fn open_root(context: &Arc<Context>, hints: Option<RootDeviceHints>) -> Result<OpenDisk, CommandError> {
    let hints = hints.unwrap_or_default();
    let deadline = Instant::now() + context.limits.disk_wait;
    let info = loop {
        let hardware = hardware(context).await?;
        match root_device::pick(&hardware.disks, &hints) {
            Ok(disk) => break disk.clone(),
            Err(rejections) if Instant::now() >= deadline => {
                return Err(CommandError::NoRootDevice(rejections));
            }
            Err(_) => tokio::time::sleep(context.limits.disk_poll).await,
        }
    };
    open(context, info).await
}

async fn open(context: &Arc<Context>, info: Disk) -> Result<OpenDisk, CommandError> {
    let machine = context.machine.clone();
    blocking(move || {
        let device = machine.open_disk(&info.name).map_err(CommandError::disk_io(&info.name, "opening"))?;
        Ok(OpenDisk { info, device })
    })
    .await
}

#[cfg(test)]
mod tests;
