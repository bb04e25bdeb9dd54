//! Power, always read back from the BMC.

use super::context::Context;
use super::step::{Step, StepError};
use farrier_bmc::{Bmc, Capability, MANUAL, PowerState};
use farrier_proto::types;

pub(super) struct Off;
pub(super) struct On;
/// Power on into the installed system: the second and last power cycle of a deployment.
pub(super) struct StartSystem;

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
