//! The end of a fence: the disk is the other machine's, or everything is again as it was.

use super::context::Context;
use super::executor::{End, journal};
use super::handle::TaskHandle;
use super::move_volume::MOVE_VOLUME;
use super::power::observed;
use super::restore::restore_finished;
use super::{history, plan};
use crate::rack::Rack;
use crate::volumes::{Owner, VolumeError};
use farrier_bmc::{Deadline, PowerState};
use farrier_model::hint::about_node;
use farrier_proto::rack::{Fence, StepState, Task};
use farrier_proto::types;
use std::sync::Arc;
use std::time::Duration;

/// What a fence came to is what the disk says: given away is done, however the task ended. Otherwise its machine is
/// as it was: in its network, with its disk, and switched on if it was on. While the rack's disk hangs neither is known, and
/// the fence goes on: [`End::Interrupted`] when rackd ends first.
pub(super) async fn settle_fence(rack: &Arc<Rack>, handle: &Arc<TaskHandle>, fence: &Fence, end: End) -> End {
    let asked = rack.shutdown.run_until_cancelled(owner(rack, handle, &fence.instance)).await;
    let Some(owner) = asked else { return End::Interrupted };
    let given = match owner {
        Ok(owner) => owner.node == fence.onto && owner.task.is_empty(),
        Err(error) => {
            tracing::warn!(operation.id = %handle.id, %error, "whose the disk is cannot be read");
            false
        }
    };
    if given {
        if let Some(index) = plan(&handle.spec).iter().position(|step| step.name() == MOVE_VOLUME) {
            let cx = Context { rack, task: handle, index, name: MOVE_VOLUME };
            tokio::select! {
                // As after a kill: the next start finds the disk given away, and says so.
                () = rack.shutdown.cancelled() => {}
                () = journal(&cx, |step| step.set_state(StepState::Done)) => {}
            }
        }
        return End::Done;
    }
    let cx = Context { rack, task: handle, index: 0, name: "restore" };
    let task = handle.task().await;
    if !was_touched(&task, fence.force, power_now(&cx, &task).await) {
        return end;
    }
    let restored = match rack.journal.of_node(&handle.node).await {
        Ok(records) => match history::served(&records) {
            Some(record) => restore_finished(rack, record.clone()).await,
            // Its instance never came up here: nothing was served.
            None => return end,
        },
        Err(error) => {
            tracing::warn!(node.id = %handle.node, %error, "its disk is not offered again");
            false
        }
    };
    let was_on = task.result.as_ref().is_some_and(|r| r.power_before() == types::PowerState::On);
    let left = match (restored, was_on) {
        // Without its disk or its network it would only hang in its firmware.
        (false, _) => {
            "its disk or its ports are not as they were yet, and it stays as it is: look at the rack's log"
        }
        (true, false) => return end,
        (true, true) => match switch_on(&cx).await {
            true => return end,
            false => "it was on before and could not be switched on again: `farrier node power on NODE`",
        },
    };
    let left = about_node(left, &handle.node);
    match end {
        End::Failed(why) => End::Failed(format!("{why}; {left}")),
        End::Aborted(why) => End::Aborted(format!("{why}; {left}")),
        end => end,
    }
}

/// Whose the disk is, as soon as the rack's disk answers: what hangs may still be the giving of it. Each question waits for as
/// long as that disk is waited for.
async fn owner(rack: &Rack, handle: &TaskHandle, instance: &str) -> Result<Owner, VolumeError> {
    loop {
        match rack.volumes.owner(instance).await {
            Err(error @ VolumeError::Hangs { .. }) => {
                tracing::warn!(operation.id = %handle.id, %error, "whose the disk is cannot be read yet, asked again");
            }
            answered => return answered,
        }
    }
}

/// Whether the fence did anything to its machine. One that was not switched off runs on undisturbed: its disk is not
/// even offered anew.
fn was_touched(task: &Task, force: bool, power: Option<PowerState>) -> bool {
    let began = |step: &farrier_proto::rack::Step| step.state() != StepState::Pending;
    if task.steps.iter().skip(1).any(began) {
        return true;
    }
    if !task.steps.first().is_some_and(began) {
        return false;
    }
    let before = task.result.as_ref().map_or(types::PowerState::Unspecified, |r| r.power_before());
    match (before, power) {
        // Nobody could ask its BMC: only by force is anything done then.
        (types::PowerState::Unspecified, _) => force,
        (types::PowerState::On, Some(PowerState::On)) => false,
        // Not known: it may be off, and then it needs everything again.
        (types::PowerState::On, _) => true,
        // It was off, and lost at most its network.
        (types::PowerState::Off, _) => true,
    }
}

/// `None`: the BMC does not say, or was never heard.
async fn power_now(cx: &Context<'_>, task: &Task) -> Option<PowerState> {
    if task.result.as_ref().is_none_or(|r| r.power_before() == types::PowerState::Unspecified) {
        return None;
    }
    cx.bmc().await.ok()?.power_status(cx.call()).await.ok()
}

async fn switch_on(cx: &Context<'_>) -> bool {
    let on = match cx.bmc().await {
        Ok(bmc) => {
            bmc.ensure_power(PowerState::On, Deadline::after(PATIENCE.min(cx.rack.timeouts.bmc))).await
        }
        Err(error) => {
            tracing::warn!(node.id = %cx.task.node, error = error.message(), "its BMC is not there");
            return false;
        }
    };
    match on {
        Ok(true) => {
            if let Err(error) = observed(cx, PowerState::On).await {
                tracing::warn!(node.id = %cx.task.node, error = error.message(), "its power is not journaled");
            }
            true
        }
        Ok(false) => false,
        Err(error) => {
            tracing::warn!(node.id = %cx.task.node, %error, "it cannot be switched on again");
            false
        }
    }
}

/// Of a BMC, at the end of a task that somebody waits for.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::secrets::Secrets;
    use farrier_journal::Record;
    use farrier_proto::rack::task_spec::Work;
    use farrier_proto::rack::{Machine, Step, TaskResult, TaskSpec, TaskState};
    use std::process::Command;

    /// A fence that failed in its last step because the rack's disk hung there, and what is written of the volume afterwards.
    async fn fenced(rack: &Arc<Rack>) -> (Arc<TaskHandle>, Fence) {
        let fence = Fence { instance: "web".into(), onto: "nodes/n2".into(), ..Fence::default() };
        let machine = Machine { name: "nodes/n1".into(), ..Machine::default() };
        let spec = TaskSpec { machine: Some(machine), work: Some(Work::Fence(fence.clone())) };
        let steps = crate::step_names(&spec);
        let step = |name: &&str| Step { name: (*name).to_owned(), ..Step::default() };
        let (id, node) = ("f".to_owned(), "nodes/n1".to_owned());
        let sealed = Secrets::default().seal(&rack.vault, &id).unwrap();
        let steps = steps.iter().map(step).collect();
        let mut task = Task { id, node, fence: 1, spec: Some(spec), steps, ..Task::default() };
        task.set_state(TaskState::Running);
        let record = Record { task, sealed };
        rack.journal.accept(record.clone()).await.unwrap();
        (Arc::new(TaskHandle::open(rack, record).unwrap()), fence)
    }

    #[tokio::test]
    async fn a_fence_is_not_over_while_the_disk_hangs_that_may_have_been_given_away() {
        let dir = tempfile::tempdir().unwrap();
        let rack = fixture::rack(dir.path(), &[9]).await;
        let (handle, fence) = fenced(&rack).await;
        let volumes = dir.path().join("volumes");
        std::fs::create_dir(&volumes).unwrap();
        let record = volumes.join("web.json");
        // Whoever opens it waits until somebody writes.
        assert!(Command::new("mkfifo").arg(&record).status().unwrap().success());
        tokio::time::pause();
        let failed = || End::Failed("move_volume: the disk hangs".to_owned());
        {
            let mut settling = std::pin::pin!(settle_fence(&rack, &handle, &fence, failed()));
            for _ in 0..4 {
                assert!(futures::poll!(&mut settling).is_pending(), "nobody knows whose the disk is");
                tokio::time::advance(Duration::from_secs(40)).await;
            }
            rack.shutdown.cancel();
            assert!(matches!(settling.await, End::Interrupted), "the next start asks again");
        }
        // It is back, and what was begun when it hung was written.
        let pipe = std::fs::OpenOptions::new().write(true).open(&record).unwrap();
        let whole = volumes.join("whole");
        let text = r#"{"instance":"web","node":"nodes/n2","task":"","manifest_sha256":"abc"}"#;
        std::fs::write(&whole, text).unwrap();
        std::fs::rename(&whole, &record).unwrap();
        drop(pipe);
        tokio::time::resume();
        let owner = owner(&rack, &handle, &fence.instance).await.unwrap();
        assert_eq!((owner.node.as_str(), owner.task.as_str()), ("nodes/n2", ""));
    }

    #[tokio::test]
    async fn a_fence_whose_disk_is_given_away_is_done_however_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let rack = fixture::rack(dir.path(), &[9]).await;
        let (handle, fence) = fenced(&rack).await;
        let volumes = dir.path().join("volumes");
        std::fs::create_dir(&volumes).unwrap();
        let text = r#"{"instance":"web","node":"nodes/n2","task":"","manifest_sha256":"abc"}"#;
        std::fs::write(volumes.join("web.json"), text).unwrap();
        let end = settle_fence(&rack, &handle, &fence, End::Failed("the disk hangs".to_owned())).await;
        assert!(matches!(end, End::Done));
        let steps = handle.task().await.steps;
        assert_eq!(steps.last().map(Step::state), Some(StepState::Done));
    }

    #[test]
    fn only_a_machine_that_something_was_done_to_is_served_anew() {
        use types::PowerState as Before;
        let touched = |first: StepState, second: StepState, before: Before, force, now| {
            let steps = [first, second].map(|state| Step { state: state.into(), ..Step::default() });
            let result = Some(TaskResult { power_before: before.into(), ..TaskResult::default() });
            was_touched(&Task { steps: steps.into(), result, ..Task::default() }, force, now)
        };
        let (pending, done, failed) = (StepState::Pending, StepState::Done, StepState::Failed);
        let (on, off) = (Some(PowerState::On), Some(PowerState::Off));
        assert!(!touched(pending, pending, Before::Unspecified, false, None));
        // Its BMC was silent from the beginning.
        assert!(!touched(failed, pending, Before::Unspecified, false, None));
        assert!(touched(failed, pending, Before::Unspecified, true, None));
        // Seen on and never switched off; switched off; nobody knows.
        assert!(!touched(failed, pending, Before::On, false, on));
        assert!(touched(failed, pending, Before::On, false, off));
        assert!(touched(failed, pending, Before::On, false, None));
        assert!(touched(done, pending, Before::Off, false, off));
        assert!(touched(done, failed, Before::On, false, on));
    }
}
