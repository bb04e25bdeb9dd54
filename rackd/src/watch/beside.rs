//! A look beside the rounds: how the BMC of a node does whose task has failed, or has proven it, is told at once, not with the
//! next round.

use super::look::{self, Seen, Sighting};
use crate::bmc::Opened;
use crate::rack::Rack;
use crate::tasks::EndedTask;
use farrier_bmc::{BmcError, Deadline, FAKE, MANUAL};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// To whoever tells inventory; nobody does where nobody watches.
#[derive(Debug, Default)]
pub(crate) struct Beside(Mutex<Option<mpsc::Sender<Sighting>>>);

impl Beside {
    pub(super) fn open(&self, told: mpsc::Sender<Sighting>) {
        // There is one watch; it may begin again.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }

    /// Looks, unless other work has the BMC for itself by now.
    pub(crate) async fn look(&self, rack: &Arc<Rack>, ended: EndedTask<'_>) {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(told) = told else { return };
        let node = ended.node();
        if rack.tasks.of_node(node).is_empty()
            && let Some(sighting) = sight(node, &ended).await
        {
            // A watch that is behind with telling looks by itself soon.
            let _behind = told.try_send(sighting);
        }
    }
}

/// `None`: there is nothing to look at, or what it says says nothing.
async fn sight(node: &str, ended: &EndedTask<'_>) -> Option<Sighting> {
    let deadline = Deadline::after(look::PATIENCE);
    let Opened { bmc, passed_over } = match ended.bmc().await? {
        Ok(opened) if [MANUAL, FAKE].contains(&opened.bmc.driver()) => return None,
        Ok(opened) => opened,
        Err((why, is_transient)) => return Some(trouble(node, &why, is_transient)),
    };
    match bmc.look(deadline).await {
        Ok(seen) if seen.settling => None,
        Ok(seen) => {
            let passed_over = passed_over.filter(BmcError::is_to_mend);
            let passed_over =
                passed_over.map(|error| look::told(&error.to_string(), node)).unwrap_or_default();
            Some(Sighting { passed_over, ..look::seen(node, seen, bmc.driver()) })
        }
        Err(error) if error.is_our_own() => None,
        Err(error) => Some(trouble(node, &error.to_string(), error.is_transient())),
    }
}

fn trouble(node: &str, why: &str, is_transient: bool) -> Sighting {
    let problem = look::told(why, node);
    let seen = if is_transient { Seen::Unreachable(problem) } else { Seen::Failing(problem) };
    look::sighting(node, seen)
}
