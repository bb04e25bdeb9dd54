//! What a node's past tasks still mean: which of them is served after a restart, and which may be forgotten.

use super::move_volume::MOVE_VOLUME;
use super::plan;
use crate::rack::Rack;
use farrier_journal::{JournalError, Record};
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{StepState, Task, TaskSpec, TaskState};
use farrier_proto::types::DeployMethod;
use std::sync::Arc;

/// Ended tasks of a node that are kept for people to look at.
const KEPT: usize = 20;

/// The task whose machine is still served although it ended: the deployment that nothing has taken back.
/// `newest_first`: all of a node's tasks.
pub(super) fn served(newest_first: &[Record]) -> Option<&Record> {
    let last = newest_first.iter().find(|record| changes_what_is_served(&record.task))?;
    left_running(&last.task).then_some(last)
}

/// What a node's tasks left of its disk, as far as the journal knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// No task that decides it: there was none, or the journal was lost.
    Unknown,
    /// A system on an iSCSI disk of this rack.
    Diskless,
    /// Anything else.
    Other,
}

/// What the tasks of a node left.
pub(crate) async fn left(rack: &Rack, node: &str) -> Result<Left, JournalError> {
    Ok(left_by(&rack.journal.of_node(node).await?))
}

fn left_by(newest_first: &[Record]) -> Left {
    let deciding = newest_first.iter().any(|record| changes_what_is_served(&record.task));
    let work = served(newest_first).and_then(|record| record.task.spec.as_ref()?.work.as_ref());
    match work {
        Some(Work::Deploy(deploy)) if deploy.method() == DeployMethod::Diskless => Left::Diskless,
        Some(_) => Left::Other,
        None if deciding => Left::Other,
        None => Left::Unknown,
    }
}

/// Ended tasks beyond the newest, without the one that is served.
pub(super) fn forgettable(newest_first: &[Record]) -> Vec<String> {
    let served = served(newest_first).map(|record| &record.task.id);
    newest_first
        .iter()
        .skip(KEPT)
        .map(|record| &record.task)
        .filter(|task| task.state() != TaskState::Running && Some(&task.id) != served)
        .map(|task| task.id.clone())
        .collect()
}

/// Forgets what no longer matters of a node, after one of its tasks has ended.
pub(super) async fn prune(rack: &Arc<Rack>, node: &str) -> Result<(), JournalError> {
    let mut old = forgettable(&rack.journal.of_node(node).await?);
    match rack.volumes.tasks().await {
        Ok(needed) => old.retain(|id| !needed.contains(id)),
        Err(error) => {
            tracing::warn!(node.id = %node, %error, "old tasks are kept: whose disks need them is not known");
            return Ok(());
        }
    }
    if old.is_empty() { Ok(()) } else { rack.journal.forget(&old).await }
}

/// Whether a task like this decides what its node is served: power, verification, BMC passwords, firmware and snapshots leave DHCP,
/// boot scripts and disks as they are.
pub(super) fn decides(spec: &TaskSpec) -> bool {
    !matches!(
        spec.work,
        None | Some(
            Work::Power(_)
                | Work::Verify(_)
                | Work::Snapshot(_)
                | Work::RotateBmcCredentials(_)
                | Work::UpdateFirmware(_)
        )
    )
}

fn changes_what_is_served(task: &Task) -> bool {
    let Some(spec) = &task.spec else { return false };
    match spec.work {
        // Until the disk is given away, its machine keeps it.
        Some(Work::Fence(_)) => {
            task.steps.iter().any(|step| step.name == MOVE_VOLUME && step.state() == StepState::Done)
        }
        _ => decides(spec),
    }
}

/// A deployment whose machine was left on its own system: it ended well, or at a step after which the machine is
/// left running.
fn left_running(task: &Task) -> bool {
    let Some(spec) = &task.spec else { return false };
    if !matches!(spec.work, Some(Work::Deploy(_))) {
        return false;
    }
    let state_of = |name: &str| task.steps.iter().find(|step| step.name == name).map(|step| step.state());
    match task.state() {
        TaskState::Done => true,
        TaskState::Failed => {
            let left = plan(spec)
                .into_iter()
                .filter(|step| state_of(step.name()) == Some(StepState::Failed))
                .all(|step| !step.power_off_after_failure());
            let serves = plan(spec).into_iter().filter(|step| step.lasts());
            left && serves.into_iter().all(|step| state_of(step.name()) == Some(StepState::Done))
        }
        TaskState::Running | TaskState::Aborted | TaskState::Unspecified => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::rack::{Clean, Deploy, Fence, Power, Snapshot};

    fn ended(id: &str, work: Work, state: TaskState, failed: Option<&str>) -> Record {
        let spec = TaskSpec { machine: None, work: Some(work) };
        let mut steps = Vec::new();
        for step in plan(&spec) {
            let mut row = farrier_proto::rack::Step { name: step.name().to_owned(), ..Default::default() };
            let stop = failed == Some(step.name());
            row.set_state(if stop { StepState::Failed } else { StepState::Done });
            steps.push(row);
            if stop {
                break;
            }
        }
        let mut task = Task { id: id.into(), spec: Some(spec), steps, ..Task::default() };
        task.set_state(state);
        Record { task, sealed: Vec::new() }
    }

    fn deploy() -> Work {
        Work::Deploy(Deploy::default())
    }
    fn power(n: usize) -> Record {
        ended(&format!("p{n}"), Work::Power(Power { action: 1 }), TaskState::Done, None)
    }
    fn served_id(records: &[Record]) -> Option<&str> {
        served(records).map(|record| record.task.id.as_str())
    }

    #[test]
    fn a_deployment_is_served_until_something_takes_it_back() {
        let done = ended("d", deploy(), TaskState::Done, None);
        assert_eq!(served_id(&[power(1), done.clone()]), Some("d"));
        let clean = ended("c", Work::Clean(Clean::default()), TaskState::Failed, Some("wait_agent"));
        assert_eq!(served_id(&[power(1), clean, done]), None);
        assert_eq!(served_id(&[power(1)]), None);
    }

    #[test]
    fn a_system_that_did_not_call_was_left_running_and_keeps_its_address() {
        let silent = ended("d", deploy(), TaskState::Failed, Some("wait_system"));
        assert_eq!(served_id(&[silent]), Some("d"));
        let unwritten = ended("d", deploy(), TaskState::Failed, Some("write_image"));
        assert_eq!(served_id(&[unwritten]), None);
        assert_eq!(served_id(&[ended("d", deploy(), TaskState::Aborted, Some("wait_system"))]), None);
    }

    #[test]
    fn a_snapshot_leaves_its_machine_served_and_a_fence_only_until_the_disk_is_given_away() {
        let done = ended("d", deploy(), TaskState::Done, None);
        let snapshot = Work::Snapshot(Snapshot::default());
        let failed = ended("s", snapshot.clone(), TaskState::Failed, Some("upload_image"));
        assert_eq!(served_id(&[failed, done.clone()]), Some("d"));
        assert_eq!(served_id(&[ended("s", snapshot, TaskState::Done, None), done.clone()]), Some("d"));
        let fence = || Work::Fence(Fence::default());
        for step in ["fence_node", "forget_secrets", "move_volume"] {
            let fenced = ended("f", fence(), TaskState::Failed, Some(step));
            assert_eq!(served_id(&[fenced, done.clone()]), Some("d"), "{step}");
        }
        assert_eq!(served_id(&[ended("f", fence(), TaskState::Done, None), done]), None);
    }

    #[test]
    fn what_was_left_of_a_disk_is_known_of_the_last_task_that_decided_it() {
        let diskless = Deploy { method: DeployMethod::Diskless.into(), ..Deploy::default() };
        let diskless = ended("d", Work::Deploy(diskless), TaskState::Done, None);
        let clean = ended("c", Work::Clean(Clean::default()), TaskState::Done, None);
        let on_disk = ended("o", deploy(), TaskState::Done, None);
        assert_eq!(left_by(&[]), Left::Unknown);
        assert_eq!(left_by(&[power(1)]), Left::Unknown);
        assert_eq!(left_by(&[power(1), diskless.clone(), on_disk.clone()]), Left::Diskless);
        assert_eq!(left_by(&[clean, diskless.clone()]), Left::Other);
        assert_eq!(left_by(&[on_disk, diskless]), Left::Other);
    }

    #[test]
    fn old_tasks_are_forgotten_but_not_the_one_that_is_served() {
        let mut records: Vec<Record> = (0..KEPT + 5).map(power).collect();
        records.push(ended("d", deploy(), TaskState::Done, None));
        records.push(ended("older", deploy(), TaskState::Done, None));
        let old = forgettable(&records);
        assert_eq!(old.len(), 6);
        assert!(!old.contains(&"d".to_owned()) && old.contains(&"older".to_owned()), "{old:?}");
        assert!(forgettable(&records[..KEPT]).is_empty());
    }
}
