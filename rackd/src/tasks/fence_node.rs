use super::context::Context;
use super::plug;
use super::power::{self, by};
use super::step::{Step, StepError};
use farrier_bmc::{Capability, FAKE, MANUAL, PowerState};
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
        nobody_to_believe(cx, force).await?;
        match note_power_before(cx).await {
            Err(error) if !force => return Err(unanswered(error)),
            _ => {}
        }
        let seen = match power::ensure(cx, PowerState::Off).await {
            Ok(()) => format!("off, read back by {}", by(&cx.bmc().await?, Capability::Power)),
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

/// Where there is no BMC nothing proves that a machine is off: only somebody can say so.
async fn nobody_to_believe(cx: &Context<'_>, force: bool) -> Result<(), StepError> {
    let driver = cx.bmc().await.map(|bmc| bmc.driver());
    match driver {
        Ok(driver @ (MANUAL | FAKE)) if !force => Err(StepError::fatal(format!(
            "driver {driver} cannot prove that the machine is off: expected it off before its disk goes to another; switch \
             it off and ask again with --force"
        ))),
        _ => Ok(()),
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
        StepError::Refused(why) => StepError::Refused(text(why)),
    }
}
