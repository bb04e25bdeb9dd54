//! What ended deployments left served, made again: after a restart of rackd, and after a fence that took nothing away.

use super::context::Context;
use super::executor::{FIRST_PAUSE, LAST_PAUSE};
use super::handle::TaskHandle;
use super::{history, plan};
use crate::rack::Rack;
use farrier_journal::Record;
use farrier_proto::rack::StepState;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Has a machine answered as known by what the journal alone says of the task, until that has served it again.
pub(super) async fn hold(rack: &Arc<Rack>, record: Record) {
    // Who serves it again tells why it cannot be opened.
    let Ok(handle) = TaskHandle::open(rack, record).map(Arc::new) else { return };
    let journaled = handle.task().await.steps;
    let is_done = |index: usize| journaled.get(index).is_some_and(|step| step.state() == StepState::Done);
    for (index, step) in plan(&handle.spec).into_iter().enumerate().filter(|(index, _)| is_done(*index)) {
        let cx = Context { rack, task: &handle, index, name: step.name() };
        if let Err(error) = step.hold(&cx).await {
            tracing::warn!(node.id = %handle.node, step = step.name(), error = error.message(), "a machine that is known is a stranger until it is served again");
        }
    }
}

/// Serves again what a finished deployment left served: the address of its machine, its disk when that is here. What
/// cannot be served now is tried again in the background: a running machine waits for its disk. Whether all is served.
///
/// For a task that has the node: nobody else begins before that has ended.
pub(super) async fn restore_finished(rack: &Arc<Rack>, record: Record) -> bool {
    let Some(restoring) = Restoring::begin(rack, record) else { return false };
    if restoring.restore(Asked::ByTheNodesTask).await {
        return true;
    }
    restoring.go_on();
    false
}

/// The same for nobody's task, at the start: others may have the node by the time it is tried.
pub(super) async fn restore_unless_taken(rack: &Arc<Rack>, record: Record) {
    let Some(restoring) = Restoring::begin(rack, record) else { return };
    if !restoring.restore(Asked::ByNobody).await {
        restoring.go_on();
    }
}

/// Deployments that are being served again, by node. One at a time is: of two, the second would end the sessions of a machine
/// that has its disk from the first.
#[derive(Default)]
pub(super) struct UnderWay(Mutex<HashMap<String, Arc<TaskHandle>>>);

impl UnderWay {
    /// Whoever is at it for the node ends.
    fn insert(&self, handle: &Arc<TaskHandle>) {
        let older = self.lock().insert(handle.node.clone(), Arc::clone(handle));
        if let Some(older) = older {
            older.stop("it is served again by another");
        }
    }

    fn remove(&self, handle: &Arc<TaskHandle>) {
        let mut all = self.lock();
        if all.get(&handle.node).is_some_and(|newest| Arc::ptr_eq(newest, handle)) {
            all.remove(&handle.node);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<TaskHandle>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who has a deployment served again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    ByTheNodesTask,
    /// Then no task may have the node.
    ByNobody,
}

/// One deployment that is being served again.
struct Restoring {
    rack: Arc<Rack>,
    /// Of the task that ended; stopped when another restores its node, or rackd ends.
    handle: Arc<TaskHandle>,
}

impl Restoring {
    fn begin(rack: &Arc<Rack>, record: Record) -> Option<Self> {
        let id = record.task.id.clone();
        match TaskHandle::open(rack, record).map(Arc::new) {
            Ok(handle) => {
                rack.tasks.restored.insert(&handle);
                Some(Self { rack: Arc::clone(rack), handle })
            }
            Err(error) => {
                tracing::error!(operation.id = %id, %error, "a deployed machine's task cannot be opened: its address is not served");
                None
            }
        }
    }

    /// All that lasts, also behind one that fails: a switch that does not answer keeps no machine from its disk. Whether all is
    /// served.
    async fn restore(&self, asked: Asked) -> bool {
        let Self { rack, handle } = self;
        let mut is_served = true;
        for (index, step) in plan(&handle.spec).into_iter().enumerate().filter(|(_, step)| step.lasts()) {
            // Each may take long, and the node may be somebody's by now: what that one serves is not to be overwritten.
            if asked == Asked::ByNobody && !self.is_left_alone().await {
                return false;
            }
            let cx = Context { rack, task: handle, index, name: step.name() };
            if let Err(error) = step.restore(&cx).await {
                tracing::error!(node.id = %handle.node, step = step.name(), error = error.message(), "what a deployed machine needs is not served, trying again");
                is_served = false;
            }
        }
        is_served
    }

    /// Tries again in the background, until all is served or the deployment is no longer what its node is served.
    fn go_on(self) {
        self.rack.tracker.clone().spawn(async move {
            let Self { rack, handle } = &self;
            let mut pause = FIRST_PAUSE;
            loop {
                tokio::select! {
                    () = handle.abort.cancelled() => return,
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(LAST_PAUSE),
                }
                if !still_served(rack, handle).await {
                    return;
                }
                // Whoever works on the node may leave it as it was: a fence that did nothing.
                if self.restore(Asked::ByNobody).await {
                    tracing::info!(node.id = %handle.node, "what a deployed machine needs is served again");
                    return;
                }
            }
        });
    }

    /// Nobody works on the node who decides what it is served, nobody has decided otherwise, and nobody else restores it.
    async fn is_left_alone(&self) -> bool {
        let Self { rack, handle } = self;
        let is_free = || {
            let tasks = rack.tasks.of_node(&handle.node);
            !handle.abort.is_cancelled() && !tasks.iter().any(|task| task.decides_what_is_served())
        };
        // Last, since a task may begin while the journal is read.
        is_free() && still_served(rack, handle).await && is_free()
    }
}

impl Drop for Restoring {
    fn drop(&mut self) {
        self.rack.tasks.restored.remove(&self.handle);
    }
}

async fn still_served(rack: &Rack, handle: &TaskHandle) -> bool {
    match rack.journal.of_node(&handle.node).await {
        Ok(records) => history::served(&records).is_some_and(|record| record.task.id == handle.id),
        // A journal that cannot be read now says nothing: the next try asks again.
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests;
