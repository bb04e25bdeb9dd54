//! What happens when a node is deployed, inspected, cleaned: each kind of task is a list of steps, each
//! step a file here. A step is *check → do → read back*, may run again at any time, and is journaled before
//! and after.

mod accept;
mod context;
mod executor;
mod handle;
mod history;
mod once;
mod restore;
mod step;

mod adopt_volume;
mod agent_off;
mod boot_disk;
mod boot_network;
mod drop_volumes;
mod erase_disks;
mod fence_node;
mod fetch_image;
mod forget_secrets;
mod insert_cd;
mod make_volume;
mod move_volume;
mod offer_volume;
mod open_image;
mod patience;
mod plug;
mod power;
mod power_reset;
mod publish_boot;
mod replace_default_password;
mod report_hardware;
mod rotate_bmc_credentials;
mod rotate_to_account;
mod seed;
mod set_boot_entry;
mod settle_fence;
mod soft_off;
mod take_snapshot;
mod update_firmware;
mod upload_image;
mod verify_bmc;
mod wait_agent;
mod wait_system;
mod withdraw_disks;
mod write_config_drive;
mod write_image;

pub(crate) use executor::EndedTask;
pub(crate) use handle::{TaskHandle, Waiting};
pub use step::Timeouts;

use crate::rack::Rack;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{PowerAction, TaskSpec};
use farrier_proto::types::{BootInterface, DeployMethod};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use step::Step;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// The steps of a task, in order.
fn plan(spec: &TaskSpec) -> Vec<&'static dyn Step> {
    const OFF: &[&dyn Step] = &[&power::Off];
    /// Switch the machine on into the ramdisk and wait for its agent: the start of everything that looks
    /// at or writes disks. It is off before.
    const RAMDISK: &[&dyn Step] = &[
        &plug::Provisioning,
        &publish_boot::Ramdisk,
        &boot_network::BootNetwork,
        &power::On,
        &wait_agent::WaitAgent,
    ];
    const RAMDISK_OF_CD: &[&dyn Step] = &[
        &plug::Provisioning,
        &publish_boot::Ramdisk,
        &insert_cd::InsertCd,
        &power::On,
        &wait_agent::WaitAgent,
    ];
    let media = spec.machine.as_ref().is_some_and(|m| m.boot_interface() == BootInterface::VirtualMedia);
    let ramdisk = if media { RAMDISK_OF_CD } else { RAMDISK };
    let agent_off: &[&dyn Step] =
        if media { &[&agent_off::AgentOff, &insert_cd::EjectCd] } else { &[&agent_off::AgentOff] };
    /// Nothing of ours is served any more.
    const END: &[&dyn Step] = &[&publish_boot::Nothing];
    let parts: Vec<&[&dyn Step]> = match &spec.work {
        Some(Work::Verify(verify)) if verify.replace_default_password => {
            vec![&[&verify_bmc::VerifyBmc, &replace_default_password::ReplaceDefaultPassword]]
        }
        Some(Work::Verify(_)) => vec![&[&verify_bmc::VerifyBmc]],
        Some(Work::Inspect(_)) => vec![OFF, ramdisk, &[&report_hardware::ReportHardware], agent_off, END],
        // Also where the inspection saw no disk: it may have looked too early.
        Some(Work::Clean(_)) => vec![
            &[&forget_secrets::ForgetSecrets, &withdraw_disks::WithdrawDisks],
            OFF,
            &[&drop_volumes::DropVolumes],
            ramdisk,
            &[&erase_disks::EraseDisks],
            agent_off,
            END,
        ],
        Some(Work::Deploy(deploy)) if deploy.method() == DeployMethod::Diskless => vec![
            &[&open_image::OpenImage],
            OFF,
            &[&plug::Tenant],
            if deploy.recovery.is_some() {
                &[&adopt_volume::AdoptVolume]
            } else {
                &[&make_volume::MakeVolume]
            },
            &[
                &offer_volume::OfferVolume,
                &publish_boot::San,
                &boot_network::BootNetworkAlways,
                &power::StartSystem,
                &wait_system::WaitSystem,
            ],
        ],
        Some(Work::Deploy(_)) => vec![
            &[&fetch_image::FetchImage],
            OFF,
            ramdisk,
            &[&write_image::WriteImage, &write_config_drive::WriteConfigDrive, &set_boot_entry::SetBootEntry],
            agent_off,
            &[
                &plug::Tenant,
                &publish_boot::LocalDisk,
                &boot_disk::BootDisk,
                &power::StartSystem,
                &wait_system::WaitSystem,
            ],
        ],
        Some(Work::Power(p)) => match p.action() {
            PowerAction::On => vec![&[&power::On]],
            PowerAction::Off => vec![&[&power::Off]],
            PowerAction::SoftOff => vec![&[&soft_off::SoftOff]],
            // Off and on again, each read back: the BMC's own cycle cannot be repeated safely after a lost answer.
            PowerAction::Cycle => vec![&[&power::Off, &power::On]],
            PowerAction::Reset => vec![&[&power_reset::PowerReset]],
            PowerAction::Unspecified => vec![],
        },
        Some(Work::Snapshot(_)) => vec![&[&take_snapshot::TakeSnapshot, &upload_image::UploadImage]],
        Some(Work::RotateBmcCredentials(_)) => vec![&[&rotate_bmc_credentials::RotateBmcCredentials]],
        Some(Work::UpdateFirmware(_)) => vec![&[&update_firmware::UpdateFirmware]],
        Some(Work::Fence(_)) => {
            vec![&[&fence_node::FenceNode, &forget_secrets::ForgetSecrets, &move_volume::MoveVolume]]
        }
        None => vec![],
    };
    parts.concat()
}

/// Names of the steps of a task, in order: for documentation and tests over every step.
pub fn step_names(spec: &TaskSpec) -> Vec<&'static str> {
    plan(spec).into_iter().map(Step::name).collect()
}

/// The tasks that this rackd runs or whose machines it still serves.
#[derive(Default)]
pub(crate) struct Tasks {
    by_id: Mutex<HashMap<String, Arc<TaskHandle>>>,
    /// Held from looking whether a task may run to running it.
    turns: tokio::sync::Mutex<()>,
    restored: restore::UnderWay,
}

impl Tasks {
    pub(crate) fn get(&self, id: &str) -> Option<Arc<TaskHandle>> {
        self.lock().get(id).cloned()
    }

    /// While it is held no task begins.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turns.lock().await
    }

    /// Running tasks of a node.
    pub(crate) fn of_node(&self, node: &str) -> Vec<Arc<TaskHandle>> {
        self.lock().values().filter(|h| h.node == node).cloned().collect()
    }

    pub(crate) fn all(&self) -> Vec<Arc<TaskHandle>> {
        self.lock().values().cloned().collect()
    }

    fn insert(&self, handle: Arc<TaskHandle>) {
        self.lock().insert(handle.id.clone(), handle);
    }

    fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<TaskHandle>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves again what ended deployments left served, and resumes what was under way when rackd last ended. All machines are known
/// when this returns, by what the journal says; what they need of a disk, a switch or the centre is waited for no longer than
/// `patience`, and goes on being made ready.
pub(crate) async fn resume(
    rack: &Arc<Rack>,
    patience: Duration,
) -> Result<(), farrier_journal::JournalError> {
    let mut served = Vec::new();
    for node in rack.journal.nodes().await? {
        let records = rack.journal.of_node(&node).await?;
        served.extend(history::served(&records).cloned());
    }
    let unfinished = rack.journal.unfinished().await?;
    // Before any disk is asked: one that is not there makes no machine a stranger, its own or another.
    for record in served.iter().chain(&unfinished) {
        restore::hold(rack, record.clone()).await;
    }
    let first_tries = Arc::new(Semaphore::new(FIRST_TRIES));
    let mut made_ready: JoinSet<()> = JoinSet::new();
    for record in served {
        let (of, first_tries) = (rack.clone(), first_tries.clone());
        made_ready.spawn(rack.tracker.track_future(async move {
            let restored = async {
                let _one_of = first_tries.acquire_owned().await;
                restore::restore_unless_taken(&of, record).await
            };
            of.shutdown.run_until_cancelled(restored).await;
        }));
    }
    let running: HashSet<String> = unfinished.iter().map(|record| record.task.id.clone()).collect();
    let of = rack.clone();
    made_ready.spawn(rack.tracker.track_future(async move {
        let rack = of.clone();
        let is_needed = move |task: &str| running.contains(task) || rack.tasks.get(task).is_some();
        if let Some(Err(error)) = of.shutdown.run_until_cancelled(of.snapshots.sweep(is_needed)).await {
            tracing::warn!(%error, "snapshots that nobody needs are left");
        }
    }));
    for record in &unfinished {
        tracing::info!(operation.id = %record.task.id, node.id = %record.task.node, "task resumed");
        executor::start(rack, record.clone(), true);
    }
    let all = async { while made_ready.join_next().await.is_some() {} };
    if tokio::time::timeout(patience, all).await.is_err() {
        tracing::warn!(
            seconds = patience.as_secs(),
            "machines are answered before all that they need is there: a disk hangs, or the centre does not give an image"
        );
    }
    // None of them is ended by that.
    made_ready.detach_all();
    Ok(())
}

/// Of deployed machines, at a time: each may call a switch, and open a file.
const FIRST_TRIES: usize = 16;

pub(crate) use accept::{NotAccepted, accept};
pub(crate) use history::{Left, left};

/// Publishes a task's boot script with a new token.
pub(crate) async fn renew_boot_token(rack: &Arc<Rack>, task: &Arc<TaskHandle>) {
    let cx = context::Context { rack, task, index: 0, name: "publish_ramdisk" };
    // What is served may have changed since this was asked for, and must not change before it is done.
    let _turn = task.renewing.lock().await;
    if !task.serves_ramdisk.load(Ordering::Acquire) {
        return;
    }
    if let Err(error) = publish_boot::serve_ramdisk(&cx).await {
        tracing::warn!(node.id = %task.node, error = error.message(), "no new boot token");
    }
}

/// A token was used: the next boot needs another. A boot CD is read by pieces, so that nobody sees when a boot has all of it; and
/// that somebody fetched a script may not have been noticed.
pub(crate) async fn token_used(rack: &Arc<Rack>, task: &Arc<TaskHandle>) {
    let used = task.with_secrets(crate::secrets::Secrets::is_newest_boot_token_used).await;
    if used && task.serves_ramdisk.load(Ordering::Acquire) {
        renew_boot_token(rack, task).await;
    }
}

#[cfg(test)]
mod tests;
