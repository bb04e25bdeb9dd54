//! Dell's job queue (DellJob, DellJobCollection), for settings that wait for a job.

use serde_json::json;

use super::document::{Document, Path};
use super::driver::optional;
use super::link::{Ask, Link};
use super::task;
use crate::actor::Call;
use crate::{BmcError, BmcTaskState};

/// How the ids of jobs begin; their tasks have the same.
const JOB_ID: &str = "JID_";
/// What a job for BIOS settings is called.
const BIOS_JOB: &str = "BIOSConfiguration";

impl Link {
    /// Settings wait for a job, and a job for the next start: the job that is there, or a new one. A job that ended, however it
    /// ended, is none.
    pub(super) async fn ensure_job(
        &mut self,
        call: &mut Call,
        settings: &Path,
    ) -> Result<Option<Path>, BmcError> {
        let Some(jobs) = self.jobs(call).await? else { return Ok(None) };
        if let Some(job) = self.waiting_job(call, &jobs).await? {
            return Ok(Some(job));
        }
        let ask = Ask::post(&jobs, json!({ "TargetSettingsURI": settings.as_str() })).once("queueing a job");
        let answer = self.send(call, &ask).await?;
        if answer.status.is_success() { Ok(self.task_of(&answer)) } else { Err(self.refused(&ask, &answer)) }
    }

    /// The queue.
    async fn jobs(&mut self, call: &mut Call) -> Result<Option<Path>, BmcError> {
        let (_, system) = self.system(call).await?;
        let Some((path, manager)) = self.manager(call, &system).await? else { return Ok(None) };
        Ok(Some(manager.link("Links/Oem/Dell/Jobs").or_else(|| path.member("Jobs")).unwrap_or(path)))
    }

    /// Where the queue keeps what a task did that is no longer there: an iDRAC forgets a task seconds after its end, and its job
    /// stays. `None`: it is no job's task, or was asked for there already.
    pub(super) async fn job_of(&mut self, call: &mut Call, task: &Path) -> Result<Option<Path>, BmcError> {
        let id = task.as_str().rsplit('/').next().filter(|id| id.starts_with(JOB_ID));
        let Some(id) = id else { return Ok(None) };
        if !self.vendor(call).await?.queues_jobs {
            return Ok(None);
        }
        let jobs = self.jobs(call).await?;
        Ok(jobs.and_then(|jobs| jobs.member(id)).filter(|job| job != task))
    }

    /// A job for BIOS settings that is not at its end. A queue that cannot be read has none that we know of.
    async fn waiting_job(&mut self, call: &mut Call, jobs: &Path) -> Result<Option<Path>, BmcError> {
        let members = self.collection(call, jobs).await?.members;
        // The newest are what the machine is about, and queues keep hundreds of old ones.
        for (path, member) in members.into_iter().rev().take(self.tuning.max_members) {
            let whole = match member.at("JobState") {
                Some(_) => Some(member),
                None => optional(self.get(call, &path).await, &mut Vec::new(), "a job")?,
            };
            if whole.is_some_and(|job| is_waiting(&job)) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
}

fn is_waiting(job: &Document) -> bool {
    let ended = matches!(task::task(job, false).state, BmcTaskState::Done | BmcTaskState::Failed);
    job.text("JobType").as_deref() == Some(BIOS_JOB) && !ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_ended_is_none_to_wait_for() {
        let job = |kind: &str, state: &str| {
            let text = format!(r#"{{"JobType": "{kind}", "JobState": "{state}"}}"#);
            is_waiting(&Document::parse(text.as_bytes(), None).unwrap())
        };
        for state in ["Scheduled", "New", "Running", "ReadyForExecution", "RebootPending"] {
            assert!(job(BIOS_JOB, state), "{state}");
        }
        for state in ["Failed", "Completed", "CompletedWithErrors", "RebootFailed", "RebootCompleted"] {
            assert!(!job(BIOS_JOB, state), "{state}");
        }
        assert!(!job("FirmwareUpdate", "Scheduled"));
    }
}
