//! What a BMC is asked for once: how far that came is journaled apart from what the step says to people, which each try and the
//! executor write over.

use super::context::Context;
use super::executor::journal_task;
use super::step::StepError;
use farrier_proto::rack::{AskedOnce, AskedState, Step, Task};

impl Context<'_> {
    /// How far an earlier try came, of this process or of one before.
    pub(super) async fn asked_once(&self) -> AskedOnce {
        let task = self.task.task().await;
        task.steps.get(self.index).map(asked).unwrap_or_default()
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

fn asked(step: &Step) -> AskedOnce {
    step.asked_once.clone().unwrap_or_else(|| of_before(&step.detail))
}

/// The same by what the rackd of before an upgrade said of a step to people, since it kept that nowhere else.
fn of_before(said: &str) -> AskedOnce {
    // What went wrong since then came behind it.
    let words = said.split("; last: ").next().unwrap_or_default();
    let known = BEFORE.iter().find_map(|(begin, state)| Some((*state, words.strip_prefix(begin)?)));
    match known {
        Some((AskedState::InVain, why)) => {
            AskedOnce { state: AskedState::InVain.into(), words: why.to_owned() }
        }
        Some((state, _)) => AskedOnce { state: state.into(), words: words.to_owned() },
        None => AskedOnce::default(),
    }
}

/// How its words began, and what they meant.
const BEFORE: [(&str, AskedState); 7] = [
    ("sending the reset", AskedState::Asking),
    ("reset by ", AskedState::Asked),
    ("asking the system to ", AskedState::Asking),
    ("asked the system ", AskedState::Asked),
    ("forcing it off: ", AskedState::InVain),
    ("asking for the update", AskedState::Asking),
    ("begun", AskedState::Asked),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_rackd_of_before_has_asked_for_is_known_by_what_it_said() {
        let asked =
            |state: AskedState, words: &str| AskedOnce { state: state.into(), words: words.to_owned() };
        for (said, wanted) in [
            ("", AskedOnce::default()),
            ("BMC 192.0.2.1:623 is unreachable; next try in 2s", AskedOnce::default()),
            ("sending the reset", asked(AskedState::Asking, "sending the reset")),
            ("reset by driver ipmi", asked(AskedState::Asked, "reset by driver ipmi")),
            (
                "asking the system to switch itself off; last: busy; next try in 2s",
                asked(AskedState::Asking, "asking the system to switch itself off"),
            ),
            (
                "asked the system to switch itself off, by driver ipmi: it has 120s for it; last: busy",
                asked(
                    AskedState::Asked,
                    "asked the system to switch itself off, by driver ipmi: it has 120s for it",
                ),
            ),
            (
                "forcing it off: the system did not switch itself off; last: busy; next try in 2s",
                asked(AskedState::InVain, "the system did not switch itself off"),
            ),
            ("asking for the update", asked(AskedState::Asking, "asking for the update")),
            ("begun by driver redfish", asked(AskedState::Asked, "begun by driver redfish")),
            ("begun: 30 %, copying", asked(AskedState::Asked, "begun: 30 %, copying")),
        ] {
            let mut step = Step { detail: said.to_owned(), ..Step::default() };
            assert_eq!(super::asked(&step), wanted, "{said}");
            // What is kept apart counts, whatever is said.
            step.asked_once = Some(asked(AskedState::Unspecified, ""));
            assert_eq!(super::asked(&step).state(), AskedState::Unspecified, "{said}");
        }
    }
}
