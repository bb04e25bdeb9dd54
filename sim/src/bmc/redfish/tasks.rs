//! What takes longer than an answer: tasks (DSP0266 §12.2, DSP0268 Task), as Dell's jobs (DellJob) too. No clock: a task
//! goes on whenever somebody looks at it, so that every client sees each of its states.

use serde_json::{Value, json};

use super::personality::Personality;
use super::resources::{View, collection};

const TASKS: &str = "/redfish/v1/TaskService/Tasks";
const MONITORS: &str = "/redfish/v1/TaskService/TaskMonitors";

/// Tasks that are kept; the oldest is forgotten.
const MOST: usize = 64;

/// All tasks, oldest first.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    list: Vec<Task>,
    begun: u64,
}

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct Task {
    id: String,
    name: &'static str,
    state: State,
    pub(super) work: Work,
}

/// What becomes true when a task is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Work {
    /// Settings of the BIOS, when the machine starts.
    Bios,
    /// A part's firmware.
    Firmware { part: String, version: String },
    /// The machine boots from the virtual CD once.
    MediaBoot,
    /// What a profile says of the BIOS, when the machine starts.
    Import { profile: String },
    /// A profile is written, which is there instead of the task then.
    Export { json: bool, bios: bool },
    /// The boot order, when the machine starts.
    BootOrder,
    /// It fails.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Until the machine starts.
    Scheduled,
    Running(u8),
    Done,
    Failed,
}

impl Tasks {
    /// A new one: its id.
    pub(super) fn begin(&mut self, name: &'static str, work: Work) -> String {
        let waits = matches!(work, Work::Bios | Work::BootOrder);
        let state = if waits { State::Scheduled } else { State::Running(0) };
        let id = format!("JID_{:012}", 471_000_000_000_u64 + self.begun);
        if self.list.len() == MOST {
            self.list.remove(0);
        }
        self.begun += 1;
        self.list.push(Task { id: id.clone(), name, state, work });
        id
    }

    /// How many there have been.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    /// Somebody looks at a path. What has just become true, where that is the end of a task.
    pub(super) fn look(&mut self, path: &str) -> Option<Work> {
        let id = path.rsplit('/').next()?;
        let task = self.list.iter_mut().find(|task| task.id == id)?;
        match task.state {
            State::Running(percent) if percent < 100 => {
                task.state = State::Running(percent + 50);
                None
            }
            State::Running(_) if task.work == Work::Nothing => {
                task.state = State::Failed;
                None
            }
            State::Running(_) => {
                task.state = State::Done;
                Some(task.work.clone())
            }
            State::Scheduled | State::Done | State::Failed => None,
        }
    }

    /// A configuration job that is under way, by its path: a BMC does one at a time.
    pub(super) fn configuring(&self) -> Option<String> {
        let is_one =
            |work: &Work| matches!(work, Work::MediaBoot | Work::Import { .. } | Work::Export { .. });
        let runs = |task: &&Task| matches!(task.state, State::Running(_)) && is_one(&task.work);
        self.list.iter().find(runs).map(|task| format!("{TASKS}/{}", task.id))
    }

    /// The machine starts. Whether something waited for that, and succeeds.
    pub(super) fn start(&mut self, fails: bool) -> bool {
        let end = if fails { State::Failed } else { State::Done };
        let waiting = self.list.iter_mut().filter(|task| task.state == State::Scheduled);
        waiting.map(|task| task.state = end).count() > 0 && !fails
    }

    /// The work of a task that is done, by its path.
    pub(super) fn done(&self, path: &str) -> Option<&Work> {
        let id = path.strip_prefix(TASKS)?.strip_prefix('/')?;
        self.list.iter().find(|task| task.id == id && task.state == State::Done).map(|task| &task.work)
    }

    /// The newest that is not done, or was the last.
    pub(super) fn newest(&self) -> Option<&Task> {
        self.list.last()
    }
}

impl Task {
    /// In the words of HPE's update service, and how far it is.
    pub(super) fn update_state(&self) -> (&'static str, u8) {
        match self.state {
            State::Scheduled | State::Running(0) => ("Uploading", 0),
            State::Running(percent) => ("Writing", percent),
            State::Done => ("Complete", 100),
            State::Failed => ("Error", 0),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

/// Where a client is sent to look.
pub(super) fn location(personality: Personality, id: &str) -> String {
    match personality {
        Personality::Idrac => format!("{TASKS}/{id}"),
        Personality::Plain | Personality::Ilo => format!("{MONITORS}/{id}"),
    }
}

/// Whether an answer about this path is a 202: it is watched, and not at its end.
pub(super) fn is_under_way(view: &View<'_>, path: &str) -> bool {
    let idrac = view.config.personality == Personality::Idrac;
    let watched = path.starts_with(MONITORS) || idrac && path.starts_with(TASKS);
    let id = path.rsplit('/').next();
    let task = view.tasks.list.iter().find(|task| Some(task.id.as_str()) == id);
    watched && task.is_some_and(|task| matches!(task.state, State::Running(_) | State::Scheduled))
}

/// Something at or below the task service, or among the manager's jobs.
pub(super) fn get(view: &View<'_>, path: &str) -> Option<Value> {
    let find = |id: &str| view.tasks.list.iter().find(|task| task.id == id);
    let all = |place: &str| view.tasks.list.iter().map(|t| format!("{place}/{}", t.id)).collect::<Vec<_>>();
    let jobs = format!("{}/Jobs", view.config.personality.manager_path());
    if path == "/redfish/v1/TaskService" {
        return Some(json!({
            "@odata.id": path, "@odata.type": "#TaskService.v1_2_0.TaskService", "Id": "TaskService",
            "Name": "Task Service", "ServiceEnabled": true, "Tasks": { "@odata.id": TASKS },
        }));
    }
    if path == TASKS {
        return Some(collection(path, "TaskCollection", &all(TASKS)));
    }
    if view.config.personality == Personality::Idrac {
        if path == jobs {
            let members: Vec<_> = view.tasks.list.iter().map(|task| job(task, &jobs)).collect();
            return Some(json!({
                "@odata.id": path, "@odata.type": "#DellJobCollection.DellJobCollection", "Name": "JobQueue",
                "Members@odata.count": members.len(), "Members": members,
            }));
        }
        if let Some(id) = path.strip_prefix(&jobs) {
            return find(id.strip_prefix('/')?).map(|task| job(task, &jobs));
        }
    }
    let id = path.strip_prefix(TASKS).or_else(|| path.strip_prefix(MONITORS))?.strip_prefix('/')?;
    let task = find(id)?;
    let (state, status, percent, message) = match task.state {
        State::Scheduled => ("Pending", "OK", 0, "waits for a start of the machine"),
        State::Running(percent) => ("Running", "OK", percent, "is under way"),
        State::Done => ("Completed", "OK", 100, "completed successfully"),
        State::Failed => ("Exception", "Critical", 100, "the image is not for this machine"),
    };
    Some(json!({
        "@odata.id": format!("{TASKS}/{id}"), "@odata.type": "#Task.v1_5_1.Task", "Id": id, "Name": task.name,
        "TaskState": state, "TaskStatus": status, "PercentComplete": percent,
        "TaskMonitor": location(view.config.personality, id),
        "Messages": [{ "MessageId": "Base.1.8.Success", "Message": format!("{} {message}", task.name), "MessageArgs": [] }],
    }))
}

fn job(task: &Task, jobs: &str) -> Value {
    let (state, percent, message) = match task.state {
        State::Scheduled => ("Scheduled", 0, "Task successfully scheduled."),
        State::Running(percent) => ("Running", percent, "Job in progress."),
        State::Done => ("Completed", 100, "Job completed successfully."),
        State::Failed => ("Failed", 100, "Unable to complete the job: the image is not for this machine."),
    };
    let kind = match task.work {
        Work::Bios | Work::BootOrder => "BIOSConfiguration",
        Work::Firmware { .. } | Work::Nothing => "FirmwareUpdate",
        Work::MediaBoot | Work::Import { .. } => "ImportConfiguration",
        Work::Export { .. } => "ExportConfiguration",
    };
    json!({
        "@odata.id": format!("{jobs}/{}", task.id), "@odata.type": "#DellJob.v1_2_0.DellJob", "Id": task.id,
        "Name": task.name, "JobType": kind, "JobState": state, "PercentComplete": percent, "Message": message,
    })
}
