//! Power, always read back from the BMC.

use super::context::Context;
use super::executor::journal;
use super::step::{Step, StepError, Timeouts};
use farrier_bmc::{Bmc, BmcError, Capability, Deadline, MANUAL, PowerState};
use farrier_proto::types;
use farrier_runtime::crash;
use std::time::Duration;

pub(super) struct Off;
pub(super) struct On;
/// Power on into the installed system: the second and last power cycle of a deployment.
pub(super) struct StartSystem;
pub(super) struct SoftOff;
/// A hard reset, once: it cannot be read back, so nothing that may have happened is sent again.
pub(super) struct Reset;

#[async_trait::async_trait]
impl Step for Off {
    fn name(&self) -> &'static str {
        "power_off"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        ensure(cx, PowerState::Off).await
    }
}

#[async_trait::async_trait]
impl Step for On {
    fn name(&self) -> &'static str {
        "power_on"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        ensure(cx, PowerState::On).await
    }
}

#[async_trait::async_trait]
impl Step for StartSystem {
    fn name(&self) -> &'static str {
        "start_system"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        ensure(cx, PowerState::On).await
    }
}

#[async_trait::async_trait]
impl Step for SoftOff {
    fn name(&self) -> &'static str {
        "soft_off"
    }
    fn deadline(&self, timeouts: &Timeouts) -> Duration {
        timeouts.soft_off_step()
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let bmc = cx.bmc().await?;
        if bmc.driver() == MANUAL {
            return ensure(cx, PowerState::Off).await;
        }
        if bmc.power_status(cx.call()).await? == PowerState::On {
            let patience = soft_off_patience(cx, &bmc).await?;
            match bmc.power_soft(cx.call()).await {
                // Asked, or perhaps asked: the power says.
                Ok(()) | Err(BmcError::AnswerLost { .. }) => {}
                // It will never ask the system, and off is what is wanted.
                Err(error) if error.is_refusal() => {
                    return force_off(cx, &format!("the system cannot be asked: {error}")).await;
                }
                Err(error) => return Err(error.into()),
            }
            let deadline = Deadline::after(patience);
            let is_off = loop {
                match bmc.wait_power(PowerState::Off, deadline).await {
                    // Another try would ask the system, or press its button, a second time.
                    Err(error) if error.is_transient() && !deadline.is_past() => {
                        tokio::time::sleep(LOOK_AGAIN.min(deadline.remaining())).await;
                    }
                    Err(error) if error.is_transient() => break false,
                    waited => break waited?,
                }
            };
            if is_off {
                return read_back(cx, &bmc, PowerState::Off).await;
            }
            return force_off(cx, "the system did not switch itself off").await;
        }
        ensure(cx, PowerState::Off).await
    }
}

/// Between looks at a BMC that did not answer the last one.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Takes the power away, and has the step say why for good.
async fn force_off(cx: &Context<'_>, why: &str) -> Result<(), StepError> {
    cx.note(format!("{why}: forcing it")).await?;
    ensure(cx, PowerState::Off).await?;
    let told = cx.task.task().await.steps.get(cx.index).map(|step| step.detail.clone()).unwrap_or_default();
    cx.note(format!("{told}; forced: {why}")).await
}

#[async_trait::async_trait]
impl Step for Reset {
    fn name(&self) -> &'static str {
        "power_reset"
    }
    fn power_off_after_failure(&self) -> bool {
        false
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let node = &cx.machine()?.name;
        let said =
            cx.task.task().await.steps.get(cx.index).map(|step| step.detail.clone()).unwrap_or_default();
        if said.starts_with(SENT) {
            return observed(cx, PowerState::On).await;
        }
        if said == SENDING {
            let again = node.trim_start_matches("nodes/");
            return Err(StepError::Fatal(format!(
                "rackd ended while it sent the reset, which may have happened: look at {node}, and if it has not, \
                 `farrier node power reset {again}` again"
            )));
        }
        let bmc = cx.bmc().await?;
        if bmc.driver() == MANUAL {
            return cx.note(format!("driver manual: reset {node} by hand now; it is taken for done")).await;
        }
        if bmc.power_status(cx.call()).await? == PowerState::Off {
            observed(cx, PowerState::Off).await?;
            return Err(StepError::fatal(format!(
                "expected {node} to be on, saw it off: there is nothing to reset"
            )));
        }
        cx.note(SENDING).await?;
        crash::point(self.name(), "told");
        match bmc.power_reset(cx.call()).await {
            Ok(()) => {}
            Err(error) if error.was_not_begun() => return Err(error.into()),
            Err(error) => return Err(StepError::fatal(error)),
        }
        // Until it is written: who tries again must know.
        let sent = format!("{SENT} {}", by(&bmc, Capability::Power));
        journal(cx, |step| step.detail = sent).await;
        observed(cx, PowerState::On)
            .await
            .map_err(|error| StepError::fatal(format!("the reset was sent, and then: {}", error.message())))
    }
}

/// In the journal from before the reset is sent until its outcome is known.
const SENDING: &str = "sending the reset";
/// And from then on, with the driver.
const SENT: &str = "reset by";

/// Brings the machine to `wanted` and notes what was read back.
pub(super) async fn ensure(cx: &Context<'_>, wanted: PowerState) -> Result<(), StepError> {
    let bmc = cx.bmc().await?;
    if !bmc.ensure_power(wanted, cx.call()).await? {
        return Err(StepError::Again(format!(
            "power: expected {} after the command, the BMC still reads the other state",
            wanted.as_str()
        )));
    }
    if bmc.driver() == MANUAL {
        cx.note(by_hand(&cx.machine()?.name, wanted)).await?;
        return observed(cx, wanted).await;
    }
    read_back(cx, &bmc, wanted).await
}

/// Records a power state that was read, and which driver read it.
pub(super) async fn read_back(cx: &Context<'_>, bmc: &Bmc, state: PowerState) -> Result<(), StepError> {
    cx.note(format!("{}, read back by {}", state.as_str(), by(bmc, Capability::Power))).await?;
    observed(cx, state).await
}

/// The driver that did it, for people.
pub(super) fn by(bmc: &Bmc, capability: Capability) -> String {
    format!("driver {}", bmc.driver_of(capability).unwrap_or(bmc.driver()))
}

/// How long the machine has to switch itself off; more than usual is said.
pub(super) async fn soft_off_patience(cx: &Context<'_>, bmc: &Bmc) -> Result<Duration, StepError> {
    let timeouts = &cx.rack.timeouts;
    let patience = timeouts.soft_off_of(bmc.soft_off_takes(cx.call()).await.unwrap_or_default());
    if patience > timeouts.soft_off {
        let seconds = patience.as_secs();
        cx.note(format!("this product is known to take long to switch itself off: it has {seconds}s"))
            .await?;
    }
    Ok(patience)
}

/// What somebody is asked to do where there is no BMC.
fn by_hand(node: &str, wanted: PowerState) -> String {
    format!("driver manual: switch {node} {} by hand now; it is taken for done", wanted.as_str())
}

/// Records a power state that was read.
pub(super) async fn observed(cx: &Context<'_>, state: PowerState) -> Result<(), StepError> {
    let state = match state {
        PowerState::On => types::PowerState::On,
        PowerState::Off => types::PowerState::Off,
    };
    Ok(cx.task.edit(|task| task.result.get_or_insert_default().set_power_state(state)).await?)
}
