//! What a step's detail in the journal keeps from one try to the next: how far the step came with what must not happen twice, for
//! people and for the next try. What went wrong since then comes behind it.

use super::context::Context;

/// All of the detail.
pub(super) async fn said(cx: &Context<'_>) -> String {
    cx.task.task().await.steps.get(cx.index).map(|step| step.detail.clone()).unwrap_or_default()
}

/// How far it came.
pub(super) fn so_far(said: &str) -> &str {
    said.split(LAST).next().unwrap_or_default()
}

/// The same words about how far it came, with the newest trouble.
pub(super) fn keeping(said: &str, why: &str) -> String {
    format!("{}{LAST}{why}", so_far(said))
}

const LAST: &str = "; last: ";
