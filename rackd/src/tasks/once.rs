//! What a BMC is asked for once: how far that came is journaled apart from what the step says to people, which each try and the
//! executor write over.

use super::context::Context;
use super::executor::journal_task;
use super::step::StepError;
use farrier_proto::rack::{AskedOnce, AskedState, Task};

impl Context<'_> {
    /// How far an earlier try came, of this process or of one before.
    pub(super) async fn asked_once(&self) -> AskedOnce {
        let task = self.task.task().await;
        task.steps.get(self.index).and_then(|step| step.asked_once.clone()).unwrap_or_default()
    }

    /// It is asked for next: from here on it may have been. An error: nobody may ask.
    pub(super) async fn will_ask_once(&self, words: &str) -> Result<(), StepError> {
        let written = self.task.edit(|task| self.mark(task, AskedState::Asking, words)).await;
        if let Err(error) = written {
            // Only in memory, if the disk takes nothing.
            let _unwritten = self.task.edit(|task| self.mark(task, AskedState::Unspecified, "")).await;
            return Err(error.into());
        }
        Ok(())
    }

    /// How far it is, for the next try and for people. Returns when it is on disk: what the BMC has said yes to is not forgotten
    /// for a disk that is full for a while.
    pub(super) async fn asks_once(&self, state: AskedState, words: &str) {
        self.asks_once_and(state, words, |_| ()).await;
    }

    /// The same together with what else has become true.
    pub(super) async fn asks_once_and(
        &self,
        state: AskedState,
        words: &str,
        change: impl FnOnce(&mut Task) + Send,
    ) {
        journal_task(self, |task| {
            self.mark(task, state, words);
            change(task);
        })
        .await;
    }

    fn mark(&self, task: &mut Task, state: AskedState, words: &str) {
        if let Some(step) = task.steps.get_mut(self.index) {
            words.clone_into(&mut step.detail);
            step.asked_once = Some(AskedOnce { state: state.into(), words: words.to_owned() });
        }
    }
}
