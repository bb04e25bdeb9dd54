use crate::agents::AgentSlot;
use crate::bmc::Opened;
use crate::cache::CachedImage;
use crate::rack::Rack;
use crate::secrets::{Secrets, TokenUse};
use farrier_journal::{JournalError, Record};
use farrier_proto::rack::{Step, Task, TaskResult, TaskSpec};
use farrier_proto::types::PowerState;
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
    wait: Mutex<Wait>,
    /// Held while that is done.
    pub(crate) renewing: tokio::sync::Mutex<()>,
    state: tokio::sync::Mutex<State>,
    rack: std::sync::Weak<Rack>,
}

/// What the step under way lets others see of the machine.
#[derive(Debug, Clone, Copy, Default)]
struct Wait {
    /// It does nothing to the machine's power now; see [`super::step::Step::only_waits`].
    step: Option<At>,
    /// Another one with each change: what is the same at two times has been so in between.
    turn: u64,
}

#[derive(Debug, Clone, Copy)]
struct At {
    step: &'static str,
    leaves_power: bool,
}

/// Until it is dropped the step is as was said; then it is as before.
pub(super) struct Waits<'a> {
    wait: &'a Mutex<Wait>,
    before: Option<At>,
}

impl<'a> Waits<'a> {
    fn begin(wait: &'a Mutex<Wait>, now: Option<At>) -> Self {
        Self { wait, before: set(wait, now) }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        set(self.wait, self.before);
    }
}

fn set(wait: &Mutex<Wait>, now: Option<At>) -> Option<At> {
    let mut wait = wait.lock().unwrap_or_else(PoisonError::into_inner);
    wait.turn += 1;
    std::mem::replace(&mut wait.step, now)
}

/// A task that waits, and how it left its machine's power: other power is not its doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) fence: i64,
    pub(crate) step: &'static str,
    /// As it was read back; unspecified: it did nothing to it yet.
    pub(crate) left: PowerState,
    turn: u64,
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
            wait: Mutex::default(),
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
        self.wait.lock().unwrap_or_else(PoisonError::into_inner).step.is_some()
    }

    /// Where it waits, if it only does, and what it waits for leaves the power as it is. The same twice: all the time in between.
    pub(crate) async fn waiting(&self) -> Option<Waiting> {
        let Wait { step, turn } = *self.wait.lock().unwrap_or_else(PoisonError::into_inner);
        let At { step, .. } = step.filter(|at| at.leaves_power)?;
        let left = self.state.lock().await.task.result.as_ref().map(TaskResult::power_state);
        Some(Waiting { fence: self.fence, step, left: left.unwrap_or_default(), turn })
    }

    /// A step begins. Until what it returns is dropped, however the step ends.
    pub(super) fn waits(&self, step: &dyn super::step::Step) -> Waits<'_> {
        let at = At { step: step.name(), leaves_power: step.leaves_power() };
        Waits::begin(&self.wait, step.only_waits().then_some(at))
    }

    /// A step that waits does something to the machine, until what it returns is dropped.
    pub(super) fn acts(&self) -> Waits<'_> {
        Waits::begin(&self.wait, None)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_waiting_step_did_in_between_is_seen_by_who_looked_before_and_after() {
        let wait: Mutex<Wait> = Mutex::default();
        let now = || *wait.lock().unwrap();
        assert!(now().step.is_none());
        let step = Waits::begin(&wait, Some(At { step: "wait_agent", leaves_power: true }));
        let before = now();
        assert_eq!((before.step.map(|at| at.step), before.turn), (Some("wait_agent"), now().turn));
        let ours = Waits::begin(&wait, None);
        assert!(now().step.is_none());
        drop(ours);
        assert_eq!(now().step.map(|at| at.step), Some("wait_agent"));
        assert_ne!(now().turn, before.turn);
        drop(step);
        assert!(now().step.is_none());
    }
}
