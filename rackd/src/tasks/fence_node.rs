use super::context::Context;
use super::plug;
use super::power;
use super::step::{Step, StepError};
use farrier_bmc::PowerState;
use farrier_proto::types;

/// A machine that broke is switched off, read back, so that its system cannot answer for the instance any more. By
/// force also one whose BMC does not answer: it loses its disk all the same.
pub(super) struct FenceNode;

#[async_trait::async_trait]
impl Step for FenceNode {
    fn name(&self) -> &'static str {
        "fence_node"
    }
    fn power_off_after_failure(&self) -> bool {
        false
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let force = cx.fence()?.force;
        match note_power_before(cx).await {
            Err(error) if !force => return Err(unanswered(error)),
            _ => {}
        }
        let seen = match power::ensure(cx, PowerState::Off).await {
            Ok(()) => "off, read back".to_owned(),
            Err(error) if force => {
                format!("not known to be off, going on by force: {}", error.message())
            }
            Err(error) => return Err(unanswered(error)),
        };
        // Out of its tenant's network, where that can be done: a system that still runs keeps its address.
        let unplugged = match plug::provisioning(cx).await {
            Ok(()) => String::new(),
            Err(error) => format!("; its ports stay where they are: {}", error.message()),
        };
        cx.note(seen + &unplugged).await
    }
}

/// What the power was when the machine was touched first: a fence that does not come to its end leaves it so.
async fn note_power_before(cx: &Context<'_>) -> Result<(), StepError> {
    let known =
        cx.task.task().await.result.is_some_and(|r| r.power_before() != types::PowerState::Unspecified);
    if known {
        return Ok(());
    }
    let before = match cx.bmc().await?.power_status(cx.call()).await? {
        PowerState::On => types::PowerState::On,
        PowerState::Off => types::PowerState::Off,
    };
    Ok(cx.task.edit(|task| task.result.get_or_insert_default().set_power_before(before)).await?)
}

fn unanswered(error: StepError) -> StepError {
    let text = |why: String| {
        format!(
            "{why}; expected the machine off before its disk goes to another. Repair its BMC, or ask again with --force: the disk is safe, but a system that still runs keeps its address"
        )
    };
    match error {
        StepError::Again(why) => StepError::Again(text(why)),
        StepError::Fatal(why) => StepError::Fatal(text(why)),
    }
}
