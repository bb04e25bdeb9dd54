//! Runs commands one at a time, in order, each id once a boot, and remembers what came of them.
//!
//! Sessions come and go; this stays. It knows nothing of streams: a session hands over commands and
//! watches the [`Ledger`].
use crate::Last;
use crate::commands::{CommandError, Context, Progress, execute};
use farrier_proto::agent::session_request::{self, Failure, result::Outcome};
use farrier_proto::agent::session_response::Command;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

/// Commands that may wait. A task has about six.
const QUEUE: usize = 64;

/// What is known of one command.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Entry {
    Waiting,
    Running(session_request::Progress),
    Finished(Box<session_request::Result>),
}

/// Every command of this boot, by id.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: BTreeMap<String, Entry>,
    /// Id of a PowerOff or a Restart that was carried out, as far as a program can before it ends.
    pub(crate) last: Option<(String, Last)>,
}

impl Ledger {
    pub(crate) fn entry(&self, id: &str) -> Option<&Entry> {
        self.entries.get(id)
    }
}

/// The way in; cheap to clone.
#[derive(Clone)]
pub(crate) struct Executor {
    queue: mpsc::Sender<(String, Command)>,
    ledger: Arc<watch::Sender<Ledger>>,
    /// Where the running image comes from, by command id.
    url: Arc<watch::Sender<(String, String)>>,
}

impl Executor {
    /// Starts the task; it ends when the returned handle is dropped.
    pub(crate) fn start(context: Arc<Context>) -> (Self, AbortOnDropHandle<()>) {
        let (queue, inbox) = mpsc::channel(QUEUE);
        let executor = Self {
            queue,
            ledger: Arc::new(watch::Sender::new(Ledger::default())),
            url: Arc::new(watch::Sender::new(Default::default())),
        };
        let task = tokio::spawn(work(context, executor.ledger.clone(), executor.url.clone(), inbox));
        (executor, AbortOnDropHandle::new(task))
    }

    pub(crate) fn ledger(&self) -> watch::Receiver<Ledger> {
        self.ledger.subscribe()
    }

    /// Takes a command. An id that is known is not run again; a WriteImage that comes again while it
    /// runs may say where its chunks are now.
    pub(crate) async fn submit(&self, id: String, command: Command) {
        if let Command::WriteImage(write) = &command {
            self.url.send_if_modified(|(running, url)| {
                let moved = *running == id && *url != write.url;
                if moved {
                    url.clone_from(&write.url);
                }
                moved
            });
        }
        let fresh = self.ledger.send_if_modified(|ledger| {
            let fresh = !ledger.entries.contains_key(&id);
            if fresh {
                ledger.entries.insert(id.clone(), Entry::Waiting);
            }
            fresh
        });
        if fresh && self.queue.send((id, command)).await.is_err() {
            tracing::error!("command refused: the executor has ended");
        }
    }
}

async fn work(
    context: Arc<Context>,
    ledger: Arc<watch::Sender<Ledger>>,
    url: Arc<watch::Sender<(String, String)>>,
    mut inbox: mpsc::Receiver<(String, Command)>,
) {
    while let Some((id, command)) = inbox.recv().await {
        let what = name(&command);
        let last = last(&command);
        tracing::info!(command = what, "started");
        let started = tokio::time::Instant::now();
        let outcome = match run(&context, &ledger, &url, &id, command).await {
            Ok(done) => {
                tracing::info!(command = what, elapsed_ms = millis(started), detail = %done.detail, "done");
                Outcome::Done(done)
            }
            Err(error) => {
                tracing::error!(command = what, elapsed_ms = millis(started), %error, "failed");
                Outcome::Failure(Failure { reason: error.reason().into(), message: error.to_string() })
            }
        };
        let result = session_request::Result { command_id: id.clone(), outcome: Some(outcome) };
        ledger.send_modify(|ledger| {
            if let Some(last) = last {
                ledger.last = Some((id.clone(), last));
            }
            ledger.entries.insert(id, Entry::Finished(Box::new(result)));
        });
    }
}

/// In a task of its own: a panic in a command is an answer, not the end of the agent.
async fn run(
    context: &Arc<Context>,
    ledger: &Arc<watch::Sender<Ledger>>,
    url: &Arc<watch::Sender<(String, String)>>,
    id: &str,
    command: Command,
) -> Result<session_request::Done, CommandError> {
    let image = match &command {
        Command::WriteImage(write) => write.url.clone(),
        _ => String::new(),
    };
    url.send_replace((id.to_owned(), image.clone()));
    let (image_url, image_url_receiver) = watch::channel(image);
    let follow = AbortOnDropHandle::new(tokio::spawn(follow(url.subscribe(), id.to_owned(), image_url)));
    let progress = progress(context, ledger, id);
    let context = context.clone();
    let task = tokio::spawn(async move { execute(&context, command, image_url_receiver, progress).await });
    let result = AbortOnDropHandle::new(task).await;
    drop(follow);
    result.unwrap_or_else(|error| Err(CommandError::Bug(error.to_string())))
}

/// Passes new addresses of the running command's image on.
async fn follow(mut from: watch::Receiver<(String, String)>, id: String, to: watch::Sender<String>) {
    loop {
        {
            let current = from.borrow_and_update();
            if current.0 == id {
                to.send_if_modified(|url| {
                    let moved = *url != current.1;
                    url.clone_from(&current.1);
                    moved
                });
            }
        }
        if from.changed().await.is_err() {
            return;
        }
    }
}

fn progress(context: &Context, ledger: &Arc<watch::Sender<Ledger>>, id: &str) -> Progress {
    let (ledger, id) = (ledger.clone(), id.to_owned());
    let tell = move |done_bytes, total_bytes, detail: &str| {
        let report = session_request::Progress {
            command_id: id.clone(),
            done_bytes,
            total_bytes,
            detail: detail.to_owned(),
        };
        ledger.send_modify(|ledger| {
            // A straggling report must not hide the result.
            if !matches!(ledger.entries.get(&id), Some(Entry::Finished(_))) {
                ledger.entries.insert(id.clone(), Entry::Running(report));
            }
        });
    };
    let progress = Progress::new(context.limits.progress_interval, tell);
    progress.report(0, 0, "started");
    progress
}

fn millis(since: tokio::time::Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn name(command: &Command) -> &'static str {
    match command {
        Command::Inspect(_) => "Inspect",
        Command::WriteImage(_) => "WriteImage",
        Command::WriteConfigDrive(_) => "WriteConfigDrive",
        Command::SetBootEntry(_) => "SetBootEntry",
        Command::Erase(_) => "Erase",
        Command::PowerOff(_) => "PowerOff",
        Command::Restart(_) => "Restart",
    }
}

/// What the agent does with its machine after it, where it is the last one.
fn last(command: &Command) -> Option<Last> {
    match command {
        Command::PowerOff(_) => Some(Last::PowerOff),
        Command::Restart(_) => Some(Last::Restart),
        _ => None,
    }
}
