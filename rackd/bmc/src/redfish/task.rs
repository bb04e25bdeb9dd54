//! What a BMC does that takes longer than an answer: tasks (DSP0266 §12.2, DSP0268 Task), Dell's jobs (DellJob), and the
//! state of HPE's update service. Pure but for the reading.

use std::time::Duration;

use http::{StatusCode, header};

use super::document::{Document, Path};
use super::driver::RedfishBmc;
use super::http::Answer;
use super::link::{Ask, Link};
use crate::actor::Call;
use crate::{BmcError, BmcTask, BmcTaskState, Deadline};

/// Words of three vocabularies, and what they come to. What is none of them is still running.
const STATES: &[(&str, BmcTaskState)] = &[
    // DSP0268 Task: TaskState.
    ("New", BmcTaskState::Waiting),
    ("Starting", BmcTaskState::Running),
    ("Pending", BmcTaskState::Waiting),
    ("Suspended", BmcTaskState::Waiting),
    ("Completed", BmcTaskState::Done),
    ("Exception", BmcTaskState::Failed),
    ("Killed", BmcTaskState::Failed),
    ("Cancelled", BmcTaskState::Failed),
    ("Interrupted", BmcTaskState::Failed),
    // DellJob: JobState.
    ("Scheduled", BmcTaskState::Waiting),
    ("Scheduling", BmcTaskState::Waiting),
    ("ReadyForExecution", BmcTaskState::Waiting),
    ("WaitingForLockout", BmcTaskState::Waiting),
    ("Waiting", BmcTaskState::Waiting),
    ("Paused", BmcTaskState::Waiting),
    ("RebootPending", BmcTaskState::Waiting),
    ("PendingActivation", BmcTaskState::Waiting),
    ("Failed", BmcTaskState::Failed),
    ("RebootFailed", BmcTaskState::Failed),
    ("RebootCompleted", BmcTaskState::Done),
    ("CompletedWithErrors", BmcTaskState::Failed),
    // HpeiLOUpdateServiceExt: State.
    ("Idle", BmcTaskState::Done),
    ("Complete", BmcTaskState::Done),
    ("Error", BmcTaskState::Failed),
];
/// Where a document says its state, its progress and its words. Dell's tasks have a job's words too.
const STATE: &[&str] = &["JobState", "Oem/Dell/JobState", "TaskState", OF_SERVICE];
/// The last of them is the update service's own.
const OF_SERVICE: &str = "Oem/Hpe/State";
const PERCENT: &[&str] = &["PercentComplete", "Oem/Dell/PercentComplete", "Oem/Hpe/FlashProgressPercent"];

impl RedfishBmc {
    /// Waits for a task between the calls of others, until it has done what it was to do. A BMC at work may not answer for a while.
    pub(super) async fn finish(&self, path: Path, deadline: Deadline) -> Result<(), BmcError> {
        let mut pause = FIRST_PAUSE;
        loop {
            let asked = path.clone();
            let not_yet = match self.call(deadline, |link, call| Box::pin(link.task(call, asked))).await {
                Ok(task) => match task.state {
                    BmcTaskState::Done => return Ok(()),
                    BmcTaskState::Failed => return Err(self.unfinished(&path, &task)),
                    _ => {
                        let (addr, task_path) = (self.addr, path.as_str().to_owned());
                        BmcError::AtWork { addr, task: task_path, seen: said(&task) }
                    }
                },
                Err(error) if error.is_transient() => error,
                Err(error) => return Err(error),
            };
            if pause >= deadline.remaining() {
                return Err(not_yet);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    pub(super) fn unfinished(&self, path: &Path, task: &BmcTask) -> BmcError {
        BmcError::TaskUnfinished { addr: self.addr, task: path.as_str().to_owned(), seen: said(task) }
    }
}

fn said(task: &BmcTask) -> String {
    format!("{:?}: {}", task.state, task.message)
}

/// Messages of a task that failed.
const MOST_WORDS: usize = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(5);

impl Link {
    pub(super) async fn task(&mut self, call: &mut Call, path: Path) -> Result<BmcTask, BmcError> {
        let mut ask = Ask::get(&path);
        let mut answer = self.send(call, &ask).await?;
        if answer.status == StatusCode::NOT_FOUND
            && let Some(job) = self.job_of(call, &path).await?
        {
            ask = Ask::get(&job);
            answer = self.send(call, &ask).await?;
        }
        if answer.status == StatusCode::NO_CONTENT {
            return Ok(BmcTask::in_state(BmcTaskState::Done));
        }
        let accepted = answer.status == StatusCode::ACCEPTED;
        if accepted && answer.body.is_empty() {
            return Ok(BmcTask::in_state(BmcTaskState::Running));
        }
        Ok(task(&self.document(&ask, &answer)?, accepted))
    }

    /// The task that an answer names (DSP0266 §12.2): a path on the same BMC, or nothing.
    pub(super) fn task_of(&self, answer: &Answer) -> Option<Path> {
        self.address.same_origin(answer.header(&header::LOCATION)?)
    }
}

/// What a document says; `accepted`: it came with 202, and so is not at its end.
pub(super) fn task(document: &Document, accepted: bool) -> BmcTask {
    let first = |places: &[&str]| places.iter().find_map(|place| document.text(place));
    let word = first(STATE);
    let state = match word.as_deref() {
        Some(word) => {
            STATES.iter().find(|(known, _)| *known == word).map_or(BmcTaskState::Running, |(_, s)| *s)
        }
        None if accepted => BmcTaskState::Running,
        // A monitor that has become what was made.
        None => BmcTaskState::Done,
    };
    // It has come to its end, and not well (DSP0268 Task: TaskStatus).
    let is_bad = state == BmcTaskState::Done && document.text("TaskStatus").as_deref() == Some("Critical");
    let state = if is_bad { BmcTaskState::Failed } else { state };
    let percent = PERCENT.iter().find_map(|place| document.number(place));
    let messages = document.parts("Messages", 64);
    let mut messages = messages.iter().rev().filter_map(|message| message.text("Message"));
    let said = match state {
        // Which of them says why nobody knows.
        BmcTaskState::Failed => {
            let mut last: Vec<_> = messages.take(MOST_WORDS).collect();
            last.reverse();
            Some(last.join("; ")).filter(|words| !words.is_empty())
        }
        _ => messages.next(),
    };
    let own = document.text("Message").or_else(|| document.text("Oem/Dell/Message"));
    BmcTask {
        state,
        message: own.or(said).or(word).unwrap_or_default(),
        percent: percent.map(|percent| u8::try_from(percent.min(100)).unwrap_or(100)),
        of_service: document.text(OF_SERVICE).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redfish::scripted;

    fn read(text: &str, accepted: bool) -> (BmcTaskState, Option<u8>, String) {
        let task = task(&Document::parse(text.as_bytes(), None).unwrap(), accepted);
        (task.state, task.percent, task.message)
    }

    /// An iDRAC's tasks are gone some seconds after their end (its jobs are kept), and no other's id is a job's.
    #[tokio::test]
    async fn a_task_that_is_forgotten_is_asked_for_as_its_job() {
        for (vendor, found) in [("Dell", true), ("Contoso", false)] {
            let hub = scripted::hub(move |request| {
                let root = format!(
                    r#"{{"RedfishVersion": "1.15.0", "Vendor": "{vendor}", "Systems": {{"@odata.id": "/S"}}}}"#
                );
                let body = match request {
                    "GET /redfish/v1/" => root.as_str(),
                    "GET /S" => r#"{"Members": [{"@odata.id": "/S/1"}]}"#,
                    "GET /S/1" => r#"{"PowerState": "On", "Links": {"ManagedBy": [{"@odata.id": "/M"}]}}"#,
                    "GET /M" => r#"{"Links": {"Oem": {"Dell": {"Jobs": {"@odata.id": "/M/Jobs"}}}}}"#,
                    "GET /M/Jobs/JID_1" => r#"{"JobState": "Completed", "Message": "done well"}"#,
                    _ => return Some((404, "{}".to_owned())),
                };
                Some((200, body.to_owned()))
            });
            let soon = || Deadline::after(Duration::from_secs(60));
            let bmc = hub.bmc(scripted::address()).recognised(soon()).await.unwrap();
            let task =
                async |id: &str| bmc.task(&format!("/redfish/v1/TaskService/Tasks/{id}"), soon()).await;
            let job = task("JID_1").await;
            assert_eq!(
                job.is_ok_and(|job| (job.state, job.message.as_str()) == (BmcTaskState::Done, "done well")),
                found
            );
            for other in ["JID_2", "7"] {
                assert!(matches!(task(other).await, Err(BmcError::Http { status: 404, .. })), "{other}");
            }
            hub.shutdown().await;
        }
    }

    #[test]
    fn tasks_jobs_and_update_services_say_how_far_they_are() {
        let standard = r#"{"TaskState": "Running", "PercentComplete": 40, "Messages": [{"Message": "a"}, {"Message": "b"}]}"#;
        assert_eq!(read(standard, true), (BmcTaskState::Running, Some(40), "b".into()));
        let dell =
            r#"{"JobState": "Scheduled", "PercentComplete": 0, "Message": "Task successfully scheduled."}"#;
        assert_eq!(
            read(dell, false),
            (BmcTaskState::Waiting, Some(0), "Task successfully scheduled.".into())
        );
        assert_eq!(read(r#"{"JobState": "RebootCompleted"}"#, false).0, BmcTaskState::Done);
        assert_eq!(read(r#"{"Oem": {"Hpe": {"State": "Idle"}}}"#, false).0, BmcTaskState::Done);
        let failed = r#"{"TaskState": "Completed", "Oem": {"Dell": {"JobState": "CompletedWithErrors"}}}"#;
        assert_eq!(read(failed, false).0, BmcTaskState::Failed, "the job knows more than its task");
        let hpe = r#"{"Oem": {"Hpe": {"State": "Writing", "FlashProgressPercent": 900}}}"#;
        assert_eq!(read(hpe, false), (BmcTaskState::Running, Some(100), "Writing".into()));
        assert_eq!(read("{}", true).0, BmcTaskState::Running);
        let ended = |status: &str| {
            let messages = r#"[{"Message": "1 of 2 parts"}, {"Message": "the image is not signed"}]"#;
            read(
                &format!(r#"{{"TaskState": "Completed", "TaskStatus": {status}, "Messages": {messages}}}"#),
                false,
            )
        };
        for good in [r#""OK""#, r#""Warning""#, "null", "7"] {
            assert_eq!(ended(good).0, BmcTaskState::Done, "{good}");
        }
        let critical = ended(r#""Critical""#);
        assert_eq!(critical.0, BmcTaskState::Failed);
        assert_eq!(critical.2, "1 of 2 parts; the image is not signed");
        assert_eq!(
            read(r#"{"TaskState": "Running", "TaskStatus": "Critical"}"#, true).0,
            BmcTaskState::Running,
            "it goes on"
        );
        assert_eq!(read(r#"{"Id": "made"}"#, false).0, BmcTaskState::Done);
        assert_eq!(
            read(r#"{"TaskState": 7, "PercentComplete": -1}"#, false),
            (BmcTaskState::Done, None, String::new())
        );
    }
}
