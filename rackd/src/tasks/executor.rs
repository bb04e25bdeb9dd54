//! Runs a task's steps in order, journaling before and after each.

use super::context::Context;
use super::handle::{HandleError, TaskHandle};
use super::settle_fence::settle_fence;
use super::step::{Step, StepError};
use super::{history, plan};
use crate::bmc::Opened;
use crate::rack::Rack;
use farrier_bmc::{Deadline, PowerState};
use farrier_journal::Record;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{StepState, Task, TaskState};
use farrier_runtime::crash;
use farrier_runtime::time::now;
use futures::FutureExt as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::DropGuard;

/// First pause before a step is tried again; doubled up to [`LAST_PAUSE`].
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);
pub(super) const LAST_PAUSE: Duration = Duration::from_secs(15);
/// How long a failed task may take to leave its machine in a safe state: most BMCs that restart are back by then.
const CLEAN_UP: Duration = Duration::from_secs(120);
/// For taking the boot CD of a failed task out.
const EJECT: Duration = Duration::from_secs(30);

const SUPERSEDED: &str = "a newer operation owns the node";

/// How a task ended, if it did.
pub(super) enum End {
    Done,
    Failed(String),
    Aborted(String),
    /// rackd ends: the task goes on at the next start.
    Interrupted,
}

/// Starts a task's executor. `resumed`: it has run before.
pub(super) fn start(rack: &Arc<Rack>, record: Record, resumed: bool) {
    let handle = match TaskHandle::open(rack, record.clone()) {
        Ok(handle) => Arc::new(handle),
        Err(error) => {
            let text = format!(
                "the task's secrets cannot be opened: expected the key that sealed them in secrets.key, saw another or a damaged one ({error}); ask again"
            );
            tracing::error!(operation.id = %record.task.id, %error, "a journaled task cannot be opened");
            rack.tracker.spawn(fail_unopened(rack.clone(), record, text));
            return;
        }
    };
    // Whoever holds an older token has lost the node: it stops before the new owner begins.
    let of_node = rack.tasks.of_node(&handle.node);
    let (older, newer): (Vec<_>, Vec<_>) =
        of_node.into_iter().filter(|h| h.id != handle.id).partition(|h| h.fence < handle.fence);
    if !newer.is_empty() {
        handle.stop(SUPERSEDED);
    }
    for task in &older {
        task.stop(SUPERSEDED);
    }
    rack.tasks.insert(handle.clone());
    let rack = rack.clone();
    rack.tracker.clone().spawn(async move {
        let running = Running { rack: &rack, handle: &handle };
        for task in older {
            let _ = task.ended.subscribe().wait_for(|ended| *ended).await;
        }
        let _console = keep_console(&rack, &handle);
        // A defect of ours ends this task with a word about it, not in silence.
        let end = AssertUnwindSafe(run(&rack, &handle, resumed)).catch_unwind().await;
        let end = end.unwrap_or_else(|_| {
            End::Failed(
                "a defect of rackd: its log has the panic; the task may be asked for again".to_owned(),
            )
        });
        close(&rack, &handle, end).await;
        drop(running);
        // Nobody works on it now: from here on it is a known machine like the others.
        rack.known.look_again();
        let has_failed = handle.task().await.state() == TaskState::Failed;
        if has_failed || matches!(handle.spec.work, Some(Work::Verify(_))) {
            let look = rack.beside.look(&rack, EndedTask { rack: &rack, handle: &handle });
            rack.shutdown.run_until_cancelled(look).await;
        }
        if let Err(error) = history::prune(&rack, &handle.node).await {
            tracing::warn!(node.id = %handle.node, %error, "old tasks are not forgotten");
        }
    });
}

/// One whose BMC may be the reason, or has just been proven.
pub(crate) struct EndedTask<'a> {
    rack: &'a Arc<Rack>,
    handle: &'a Arc<TaskHandle>,
}

impl EndedTask<'_> {
    /// `nodes/{node}`
    pub(crate) fn node(&self) -> &str {
        &self.handle.node
    }

    /// The task's handle of it, or why there is none, and whether that may be over by itself. `None`: the machine has none.
    pub(crate) async fn bmc(&self) -> Option<Result<Opened, (String, bool)>> {
        let cx = Context { rack: self.rack, task: self.handle, index: 0, name: "look" };
        if cx.machine().ok()?.bmc_driver.is_empty() {
            return None;
        }
        let is_transient = |error: &StepError| matches!(error, StepError::Again(_));
        Some(cx.opened_bmc().await.map_err(|error| (error.message().to_owned(), is_transient(&error))))
    }
}

/// The console of a machine that is booted, for whoever asks later why it did not come up.
fn keep_console(rack: &Arc<Rack>, handle: &Arc<TaskHandle>) -> Option<DropGuard> {
    let boots = matches!(&handle.spec.work, Some(Work::Inspect(_) | Work::Clean(_) | Work::Deploy(_)));
    let id = handle.node.strip_prefix("nodes/").unwrap_or(&handle.node);
    let (of, task) = (Arc::clone(rack), Arc::clone(handle));
    let access = async move {
        let cx = Context { rack: &of, task: &task, index: 0, name: "console" };
        cx.access().await.ok()
    };
    boots.then(|| rack.consoles.keep_during_task(rack, id, access)).flatten()
}

/// Who waits for the task's end hears of it however it ended.
struct Running<'a> {
    rack: &'a Arc<Rack>,
    handle: &'a Arc<TaskHandle>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.rack.tasks.remove(&self.handle.id);
        self.handle.ended.send_replace(true);
    }
}

async fn fail_unopened(rack: Arc<Rack>, mut record: Record, error: String) {
    record.task.set_state(TaskState::Failed);
    record.task.error = error;
    record.task.end_time = Some(now());
    if let Err(error) = rack.journal.save(&mut record.task, None).await {
        tracing::error!(operation.id = %record.task.id, %error, "the end of a task is not journaled");
    }
}

async fn run(rack: &Arc<Rack>, handle: &Arc<TaskHandle>, resumed: bool) -> End {
    let steps = plan(&handle.spec);
    let journaled = handle.task().await.steps;
    for (index, step) in steps.iter().enumerate() {
        let cx = Context { rack, task: handle, index, name: step.name() };
        if journaled.get(index).is_some_and(|s| s.state() == StepState::Done) {
            if resumed {
                let restored = tokio::select! {
                    biased;
                    () = handle.abort.cancelled() => continue,
                    restored = restore(&cx, *step) => restored,
                };
                if let Err(error) = restored {
                    let (name, why) = (step.name(), error.message());
                    let text = format!("{name}: cannot be made again after a restart: {why}");
                    return End::Failed(with_trouble(text, make_safe(&cx).await));
                }
            }
            continue;
        }
        let outcome = tokio::select! {
            biased;
            () = handle.abort.cancelled() => {
                let reason = handle.stop_reason();
                return if reason.is_empty() { End::Interrupted } else { End::Aborted(reason) };
            }
            outcome = run_step(&cx, *step) => outcome,
        };
        match outcome {
            Ok(()) => {}
            Err(StepError::Again(_)) if rack.shutdown.is_cancelled() => return End::Interrupted,
            Err(error) => {
                let text = format!("{}: {}", step.name(), error.message());
                let failed = handle
                    .edit_step(index, |s| {
                        s.set_state(StepState::Failed);
                        s.end_time = Some(now());
                        s.error = error.message().to_owned();
                    })
                    .await;
                if let Err(error) = failed {
                    tracing::error!(%error, "a failed step is not journaled");
                }
                let trouble = match step.power_off_after_failure() {
                    true => make_safe(&cx).await,
                    false => None,
                };
                return End::Failed(with_trouble(text, trouble));
            }
        }
    }
    End::Done
}

/// Makes again what a done step had in memory, with as many tries as the step itself may take.
async fn restore(cx: &Context<'_>, step: &dyn Step) -> Result<(), StepError> {
    let deadline = Instant::now() + step.deadline(&cx.rack.timeouts);
    let mut pause = FIRST_PAUSE;
    loop {
        match step.restore(cx).await {
            Err(StepError::Again(why)) if Instant::now() + pause < deadline => {
                tracing::info!(operation.id = %cx.task.id, step = step.name(), error = %why, "step made again, tried again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
            ended => return ended,
        }
    }
}

/// One step with its tries, journaled before and after.
async fn run_step(cx: &Context<'_>, step: &dyn Step) -> Result<(), StepError> {
    journal(cx, |s| {
        s.set_state(StepState::Running);
        s.attempt += 1;
        if s.start_time.is_none() {
            s.start_time = Some(now());
        }
    })
    .await;
    crash::point(step.name(), "before");
    let _waits = cx.task.waits(step);
    let begin = Instant::now();
    let deadline = begin + step.deadline(&cx.rack.timeouts);
    let mut pause = FIRST_PAUSE;
    let mut last = String::from("nothing went wrong, but it never ended");
    let mut was_refused = false;
    loop {
        let tried = tokio::time::timeout_at(deadline.into(), step.run(cx)).await;
        match tried.map(|ran| ran.map_err(|error| error.about_node(&cx.task.node))) {
            Ok(Ok(())) => break,
            Ok(Err(StepError::Again(why))) if Instant::now() + pause < deadline => {
                tracing::info!(operation.id = %cx.task.id, step = step.name(), error = %why, "step tried again");
                journal(cx, |s| s.detail = format!("{why}; next try in {}s", pause.as_secs())).await;
                last = why;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
            Ok(Err(StepError::Again(why))) => {
                return Err(StepError::Fatal(format!(
                    "given up after {}s: {why}",
                    begin.elapsed().as_secs()
                )));
            }
            // The handle that was refused is older than the account's other password: another is opened, once.
            Ok(Err(StepError::Refused(why))) if !was_refused && cx.has_two_passwords().await => {
                was_refused = true;
                tracing::info!(operation.id = %cx.task.id, step = step.name(), error = %why, "step tried again with the other password");
                last = why;
            }
            Ok(Err(error @ (StepError::Fatal(_) | StepError::Refused(_)))) => return Err(error),
            Err(_) => {
                let seconds = step.deadline(&cx.rack.timeouts).as_secs();
                let detail =
                    cx.task.task().await.steps.get(cx.index).map(|s| s.detail.clone()).unwrap_or_default();
                let seen = if detail.is_empty() { last } else { detail };
                return Err(StepError::Fatal(format!("not done within {seconds}s; last: {seen}")));
            }
        }
    }
    crash::point(step.name(), "after");
    journal(cx, |s| {
        s.set_state(StepState::Done);
        s.end_time = Some(now());
    })
    .await;
    crash::point(step.name(), "done");
    Ok(())
}

/// Journals a change of the step. A disk that is full now may be emptied: it tries until that is written, and an
/// hour of work is not thrown away for it. Ends without when the task is stopped, by being dropped.
pub(super) async fn journal(cx: &Context<'_>, change: impl FnOnce(&mut farrier_proto::rack::Step) + Send) {
    journal_task(cx, |task| {
        if let Some(step) = task.steps.get_mut(cx.index) {
            change(step);
        }
    })
    .await;
}

/// The same of the whole task: what belongs together is written together.
pub(super) async fn journal_task(cx: &Context<'_>, change: impl FnOnce(&mut Task) + Send) {
    let mut saved = cx.task.edit(change).await;
    let mut pause = FIRST_PAUSE;
    while let Err(error) = saved {
        tracing::error!(operation.id = %cx.task.id, step = cx.name, %error, "a step is not journaled, trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
        // What was changed is in memory already.
        saved = cx.task.edit(|_| ()).await;
    }
}

/// What a person reads of a task's end, with what was left undone.
fn with_trouble(text: String, trouble: Option<String>) -> String {
    match trouble {
        Some(trouble) => format!("{text}; the machine could not be switched off: {trouble}"),
        None => text,
    }
}

/// Leaves a machine whose task failed where it can do no harm: no boot script, no power. Why it may be on still.
async fn make_safe(cx: &Context<'_>) -> Option<String> {
    // A snapshot leaves its machine alone; what a fence has not taken from its machine stays there.
    if matches!(
        &cx.task.spec.work,
        Some(
            Work::Verify(_)
                | Work::Power(_)
                | Work::Snapshot(_)
                | Work::Fence(_)
                | Work::RotateBmcCredentials(_)
                | Work::UpdateFirmware(_)
        ) | None
    ) {
        return None;
    }
    let machine = cx.machine().ok()?;
    // Before anything is taken away.
    cx.task.ramdisk_ends().await;
    cx.rack.unpublish(machine);
    cx.withdraw_cd().await;
    cx.rack.volumes.withdraw(&machine.name).await;
    let trouble = tokio::select! {
        off = switch_off(cx, Deadline::after(CLEAN_UP.min(cx.rack.timeouts.bmc))) => off.err(),
        // Its BMCs are let go of then, too.
        () = cx.rack.shutdown.cancelled() => Some("rackd was ended".to_owned()),
    };
    if let Some(error) = &trouble {
        tracing::warn!(node.id = %cx.task.node, error, "the machine of a failed task could not be switched off");
    }
    // Of all that a BMC does it is the slowest.
    let deadline = Deadline::after(EJECT.min(cx.rack.timeouts.bmc));
    if !cx.rack.shutdown.is_cancelled()
        && cx.boots_from_media().unwrap_or_default()
        && let Ok(bmc) = cx.bmc().await
        && let Err(error) = bmc.eject_media(deadline).await
    {
        tracing::warn!(node.id = %cx.task.node, %error, "the boot CD of a failed task stays in the drive");
    }
    trouble
}

/// By the deadline, with as many tries as there is time for.
async fn switch_off(cx: &Context<'_>, deadline: Deadline) -> Result<(), String> {
    let bmc = loop {
        match tokio::time::timeout(deadline.remaining(), cx.bmc()).await {
            Ok(Err(StepError::Again(_))) if deadline.remaining() > FIRST_PAUSE => {
                tokio::time::sleep(FIRST_PAUSE).await;
            }
            Ok(opened) => break opened.map_err(|error| error.message().to_owned())?,
            Err(_) => return Err("its BMC was not opened in time".to_owned()),
        }
    };
    let mut commanded = false;
    let off = bmc.bring(PowerState::Off, deadline, || commanded = true).await;
    // What Farrier left is what the task's result says: otherwise it would seem to be somebody else's doing, also where the machine
    // goes off later.
    let left = if matches!(off, Ok(false)) { PowerState::On } else { PowerState::Off };
    if commanded && let Err(error) = super::power::observed(cx, left).await {
        return Err(error.message().to_owned());
    }
    match off {
        Ok(true) => Ok(()),
        Ok(false) => Err("it still reads on".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

async fn close(rack: &Arc<Rack>, handle: &Arc<TaskHandle>, end: End) {
    let end = match (end, &handle.spec.work) {
        (End::Interrupted, _) => return,
        (end, Some(Work::Fence(fence))) => settle_fence(rack, handle, fence, end).await,
        (end, Some(Work::Snapshot(_))) => {
            if let Err(error) = rack.snapshots.remove(&handle.id).await {
                tracing::warn!(operation.id = %handle.id, %error, "a snapshot is left until the next start");
            }
            end
        }
        (end, _) => end,
    };
    let (state, error) = match end {
        End::Interrupted => return,
        End::Done => (TaskState::Done, String::new()),
        End::Failed(error) => (TaskState::Failed, error),
        End::Aborted(reason) => {
            let cx = Context { rack, task: handle, index: 0, name: "abort" };
            (TaskState::Aborted, with_trouble(reason, make_safe(&cx).await))
        }
    };
    tracing::info!(operation.id = %handle.id, node.id = %handle.node, state = ?state, %error, "task ended");
    // Not journaled means not ended: the centre would wait for ever. Try until the disk takes it or rackd ends.
    let mut pause = FIRST_PAUSE;
    loop {
        let saved: Result<(), HandleError> = handle
            .edit(|task| {
                task.set_state(state);
                task.error.clone_from(&error);
                task.end_time = Some(now());
            })
            .await;
        match saved {
            Ok(()) => return,
            Err(error) => tracing::error!(%error, "the end of a task is not journaled, trying again"),
        }
        tokio::select! {
            () = rack.shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LAST_PAUSE),
        }
    }
}
