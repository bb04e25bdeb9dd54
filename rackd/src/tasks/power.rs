//! Power, always read back from the BMC.

use super::context::Context;
use super::step::{Step, StepError};
use farrier_bmc::{Bmc, BmcError, Capability, Deadline, MANUAL, PowerState, Restarted};
use farrier_proto::rack::AskedState;
use farrier_proto::types;
use farrier_runtime::crash;

pub(super) struct Off;
pub(super) struct On;
/// Power on into the installed system: the second and last power cycle of a deployment.
pub(super) struct StartSystem;
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
impl Step for Reset {
    fn name(&self) -> &'static str {
        "power_reset"
    }
    fn power_off_after_failure(&self) -> bool {
        false
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let node = &cx.machine()?.name;
        let before = cx.asked_once().await;
        match before.state() {
            AskedState::Asked => return sent(cx, &before.words).await,
            AskedState::Asking => return Err(perhaps_sent(cx, node).await?),
            AskedState::Unspecified | AskedState::InVain => {}
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
        cx.will_ask_once("sending the reset").await?;
        crash::point(self.name(), "told");
        // Off and on, where the BMC has no reset, are two commands, each read back.
        let reset = bmc.power_reset(Deadline::after(cx.rack.timeouts.bmc_call * 2)).await;
        let how = match reset {
            Ok(Restarted::ByBmc) => "",
            Ok(Restarted::OffAndOn) => {
                ", which offers no hard reset: switched off, read back off, and switched on, in its place"
            }
            Err(error) if error.was_not_begun() => {
                cx.asks_once(AskedState::Unspecified, "").await;
                return Err(error.into());
            }
            Err(error) => {
                if let BmcError::HalfRestarted { now: Some(now), .. } = &error {
                    observed(cx, *now).await?;
                }
                return Err(StepError::fatal(error));
            }
        };
        let words = format!("reset by {}{how}", by(&bmc, Capability::Power));
        cx.asks_once(AskedState::Asked, &words).await;
        crash::point(self.name(), "sent");
        sent(cx, &words).await
    }
}

/// What is left of a reset that the BMC has taken.
async fn sent(cx: &Context<'_>, words: &str) -> Result<(), StepError> {
    // What went wrong since then may stand there.
    cx.note(words).await?;
    observed(cx, PowerState::On).await
}

/// What is said of a reset that rackd did not see the end of.
async fn perhaps_sent(cx: &Context<'_>, node: &str) -> Result<StepError, StepError> {
    let again = node.trim_start_matches("nodes/");
    // It was on: where its BMC has no reset it was being switched off and on.
    Ok(StepError::Fatal(if cx.bmc().await?.power_status(cx.call()).await? == PowerState::Off {
        observed(cx, PowerState::Off).await?;
        format!(
            "rackd ended while it reset {node}, which is off now: `farrier node power on {again}` switches it on"
        )
    } else {
        format!(
            "rackd ended while it sent the reset, which may have happened: look at {node}, and if it has not, \
             `farrier node power reset {again}` again"
        )
    }))
}

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
