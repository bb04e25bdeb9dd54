use crate::agents::AgentSlot;
use crate::bmc::Opened;
use crate::cache::CachedImage;
use crate::rack::Rack;
use crate::secrets::{Secrets, TokenUse};
use farrier_journal::{JournalError, Record};
use farrier_proto::rack::{Step, Task, TaskSpec};
use farrier_runtime::vault::VaultError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;

/// A task that rackd has in memory. The journal holds the same, so that losing this loses nothing.
pub(crate) struct TaskHandle {
    pub(crate) id: String,
    pub(crate) node: String,
    pub(crate) fence: i64,
    pub(crate) spec: TaskSpec,
    pub(crate) agent: AgentSlot,
    pub(crate) bmc: OnceCell<Opened>,
    /// Held so that its bytes go on coming from step to step.
    pub(crate) image: OnceCell<Arc<CachedImage>>,
    /// Cancelled to stop it at the next await.
    pub(crate) abort: CancellationToken,
    abort_reason: Mutex<String>,
    /// True when its executor is gone.
    pub(crate) ended: watch::Sender<bool>,
    phoned: watch::Sender<bool>,
    /// Its boot script is published: each script given out is followed by one with a new token.
    pub(crate) serves_ramdisk: AtomicBool,
    /// See [`super::step::Step::only_waits`].
    only_waits: AtomicBool,
    /// Held while that is done.
    pub(crate) renewing: tokio::sync::Mutex<()>,
    state: tokio::sync::Mutex<State>,
    rack: std::sync::Weak<Rack>,
}

/// A step is under way; see [`TaskHandle::waits`].
pub(super) struct Waits<'a>(&'a AtomicBool);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

struct State {
    task: Task,
    secrets: Secrets,
}

/// Why the task's record could not be changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandleError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("rackd is shutting down")]
    Gone,
}

impl TaskHandle {
    /// Whether it decides what its node is served over the network; power and the like do not.
    pub(crate) fn decides_what_is_served(&self) -> bool {
        super::history::decides(&self.spec)
    }

    pub(crate) fn open(rack: &Arc<Rack>, record: Record) -> Result<Self, VaultError> {
        let secrets = Secrets::open(&rack.vault, &record.task.id, &record.sealed)?;
        let task = record.task;
        Ok(Self {
            id: task.id.clone(),
            node: task.node.clone(),
            fence: task.fence,
            spec: task.spec.clone().unwrap_or_default(),
            agent: AgentSlot::default(),
            bmc: OnceCell::new(),
            image: OnceCell::new(),
            abort: rack.shutdown.child_token(),
            abort_reason: Mutex::default(),
            ended: watch::channel(false).0,
            phoned: watch::channel(secrets.phoned).0,
            serves_ramdisk: AtomicBool::new(false),
            only_waits: AtomicBool::new(false),
            renewing: tokio::sync::Mutex::default(),
            state: tokio::sync::Mutex::new(State { task, secrets }),
            rack: Arc::downgrade(rack),
        })
    }

    /// No boot script of the ramdisk is published from now on, by a renewal that is under way neither.
    pub(crate) async fn ramdisk_ends(&self) {
        let _turn = self.renewing.lock().await;
        self.serves_ramdisk.store(false, Ordering::Release);
    }

    /// Whether the machine may be looked at by others now: the step under way does nothing to its power.
    pub(crate) fn only_waits(&self) -> bool {
        self.only_waits.load(Ordering::Acquire)
    }

    /// Until what it returns is dropped, however the step ends.
    pub(super) fn waits(&self, only_waits: bool) -> Waits<'_> {
        self.only_waits.store(only_waits, Ordering::Release);
        Waits(&self.only_waits)
    }

    fn rack(&self) -> Result<Arc<Rack>, HandleError> {
        self.rack.upgrade().ok_or(HandleError::Gone)
    }

    pub(crate) async fn task(&self) -> Task {
        self.state.lock().await.task.clone()
    }

    /// Changes the task and journals it.
    pub(crate) async fn edit<T>(&self, change: impl FnOnce(&mut Task) -> T + Send) -> Result<T, HandleError> {
        let rack = self.rack()?;
        let mut state = self.state.lock().await;
        let out = change(&mut state.task);
        rack.journal.save(&mut state.task, None).await?;
        Ok(out)
    }

    /// Changes one step and journals it.
    pub(crate) async fn edit_step(
        &self,
        index: usize,
        change: impl FnOnce(&mut Step) + Send,
    ) -> Result<(), HandleError> {
        self.edit(|task| {
            if let Some(step) = task.steps.get_mut(index) {
                change(step);
            }
        })
        .await
    }

    /// Reads and changes secrets, and journals them sealed.
    pub(crate) async fn edit_secrets<T>(
        &self,
        change: impl FnOnce(&mut Secrets) -> T + Send,
    ) -> Result<T, HandleError> {
        let rack = self.rack()?;
        let mut state = self.state.lock().await;
        let mut secrets = state.secrets.clone();
        let out = change(&mut secrets);
        let sealed = secrets.seal(&rack.vault, &self.id)?;
        rack.journal.save(&mut state.task, Some(&sealed)).await?;
        state.secrets = secrets;
        Ok(out)
    }

    pub(crate) async fn with_secrets<T>(&self, read: impl FnOnce(&Secrets) -> T + Send) -> T {
        read(&self.state.lock().await.secrets)
    }

    /// Uses a boot token, if it is one of this task's.
    pub(crate) async fn use_boot_token(&self, token: &str, key: &str) -> Result<TokenUse, HandleError> {
        // Most tokens asked about belong to other tasks: only a use is journaled.
        match self.with_secrets(|s| s.look_at_boot_token(token, key)).await {
            TokenUse::First => self.edit_secrets(|s| s.use_boot_token(token, key)).await,
            other => Ok(other),
        }
    }

    /// The deployed system called. `false`: the secret is wrong.
    pub(crate) async fn phone_home(&self, secret: &str) -> Result<bool, HandleError> {
        let good = self
            .with_secrets(|s| {
                !s.phone_secret.is_empty() && same(s.phone_secret.as_bytes(), secret.as_bytes())
            })
            .await;
        if good && !*self.phoned.borrow() {
            self.edit_secrets(|s| s.phoned = true).await?;
            self.phoned.send_replace(true);
        }
        Ok(good)
    }

    /// Follows whether the deployed system has called.
    pub(crate) fn phoned(&self) -> watch::Receiver<bool> {
        self.phoned.subscribe()
    }

    /// Stops the task at its next await; it ends `aborted`.
    pub(crate) fn stop(&self, reason: &str) {
        let mut kept = self.abort_reason.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_empty() {
            *kept = reason.to_owned();
        }
        drop(kept);
        self.abort.cancel();
    }

    /// Why it was stopped; empty when rackd itself ends, and the task must be resumed later.
    pub(crate) fn stop_reason(&self) -> String {
        self.abort_reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Compares in constant time for equal lengths.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
}
