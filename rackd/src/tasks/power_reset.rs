//! A hard reset, once: it cannot be read back, so nothing that may have happened is sent again. Where a BMC has none, the machine is
//! switched off, read back and switched on in its place; both are in the journal before they are sent, so that a rackd that was
//! restarted in between goes on with it: the machine ends on.

use super::context::Context;
use super::executor::journal;
use super::power::{by, observed};
use super::said::{keeping, said, so_far};
use super::step::{Step, StepError};
use farrier_bmc::{Bmc, BmcError, Capability, Deadline, MANUAL, PowerState, Restarted};
use farrier_runtime::crash;

pub(super) struct PowerReset;

#[async_trait::async_trait]
impl Step for PowerReset {
    fn name(&self) -> &'static str {
        "power_reset"
    }
    fn power_off_after_failure(&self) -> bool {
        false
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        match reset(cx).await {
            // The executor writes it over what the journal has to keep.
            Err(StepError::Again(why)) => {
                let said = said(cx).await;
                Err(StepError::Again(match Begun::read(&said) {
                    Begun::No => why,
                    _ => keeping(&said, &why),
                }))
            }
            ended => ended,
        }
    }
}

/// How far an earlier try came, by the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    No,
    /// rackd ended while it sent the reset.
    Perhaps,
    /// By off and on: what the machine was about to be switched to.
    Restarting(PowerState),
    Sent,
}

impl Begun {
    fn read(said: &str) -> Self {
        match so_far(said) {
            SENDING => Self::Perhaps,
            GOES_OFF => Self::Restarting(PowerState::Off),
            GOES_ON => Self::Restarting(PowerState::On),
            said if said.starts_with(SENT) => Self::Sent,
            _ => Self::No,
        }
    }
}

/// In the journal from before the reset is sent until its outcome is known.
const SENDING: &str = "sending the reset";
/// Where the BMC has none, from before each is sent.
const GOES_OFF: &str = "the BMC offers no hard reset: the machine is switched off, and then on";
const GOES_ON: &str = "the BMC offers no hard reset: the machine is off, and is switched on";
/// And from then on, with the driver.
const SENT: &str = "reset by";

async fn reset(cx: &Context<'_>) -> Result<(), StepError> {
    let node = &cx.machine()?.name;
    match Begun::read(&said(cx).await) {
        Begun::No => {}
        Begun::Sent => return observed(cx, PowerState::On).await,
        Begun::Perhaps => return perhaps_sent(cx, node).await,
        Begun::Restarting(next) => {
            let bmc = cx.bmc().await?;
            let finished = bmc.finish_reset(next, time_for(cx), |next| switches(cx, next)).await;
            return ended(cx, &bmc, finished.map(|()| Restarted::OffAndOn)).await;
        }
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
    crash::point(PowerReset.name(), "told");
    let reset = bmc.power_reset_telling(time_for(cx), |next| switches(cx, next)).await;
    ended(cx, &bmc, reset).await
}

/// Off and on, where the BMC has no reset, are two commands, each read back.
fn time_for(cx: &Context<'_>) -> Deadline {
    Deadline::after(cx.rack.timeouts.bmc_call * 2)
}

/// It is written down before it is sent.
async fn switches(cx: &Context<'_>, next: PowerState) {
    let words = match next {
        PowerState::Off => GOES_OFF,
        PowerState::On => GOES_ON,
    };
    journal(cx, |step| step.detail = words.to_owned()).await;
    crash::point(PowerReset.name(), next.as_str());
}

async fn ended(cx: &Context<'_>, bmc: &Bmc, reset: Result<Restarted, BmcError>) -> Result<(), StepError> {
    let how = match reset {
        Ok(Restarted::ByBmc) => "",
        Ok(Restarted::OffAndOn) => {
            ", which offers no hard reset: switched off, read back off, and switched on, in its place"
        }
        Err(error) if error.was_not_begun() => {
            // Another try sends it.
            cx.note("").await?;
            return Err(error.into());
        }
        Err(error) => {
            if let BmcError::HalfRestarted { now: Some(now), .. } = &error {
                observed(cx, *now).await?;
            }
            return Err(StepError::fatal(error));
        }
    };
    // Until it is written: who tries again must know.
    let sent = format!("{SENT} {}{how}", by(bmc, Capability::Power));
    journal(cx, |step| step.detail = sent).await;
    observed(cx, PowerState::On)
        .await
        .map_err(|error| StepError::fatal(format!("the reset was sent, and then: {}", error.message())))
}

/// What a rackd was about to send that has ended.
async fn perhaps_sent(cx: &Context<'_>, node: &str) -> Result<(), StepError> {
    let again = node.trim_start_matches("nodes/");
    // It was on.
    if cx.bmc().await?.power_status(cx.call()).await? == PowerState::Off {
        observed(cx, PowerState::Off).await?;
        return Err(StepError::Fatal(format!(
            "rackd ended while it reset {node}, which is off now: `farrier node power on {again}` switches it on"
        )));
    }
    Err(StepError::Fatal(format!(
        "rackd ended while it sent the reset, which may have happened: look at {node}, and if it has not, \
         `farrier node power reset {again}` again"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_journal_says_tells_how_far_an_earlier_try_came_whatever_went_wrong_since() {
        for (said, begun) in [
            ("", Begun::No),
            ("BMC 192.0.2.1:623 is unreachable; next try in 2s", Begun::No),
            (SENDING, Begun::Perhaps),
            (GOES_OFF, Begun::Restarting(PowerState::Off)),
            (GOES_ON, Begun::Restarting(PowerState::On)),
            ("reset by driver ipmi", Begun::Sent),
        ] {
            assert_eq!(Begun::read(said), begun, "{said}");
            if begun != Begun::No {
                // As the executor writes it.
                let kept = format!("{}; next try in 2s", keeping(said, "no answer"));
                assert_eq!(Begun::read(&kept), begun, "{kept}");
            }
        }
    }
}
