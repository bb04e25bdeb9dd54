//! A hard reset, once: it cannot be read back, so nothing that may have happened is sent again. Where a BMC has none, the machine is
//! switched off, read back and switched on in its place; both are in the journal before they are sent, so that a rackd that was
//! restarted in between goes on with it: the machine ends on.

use super::context::Context;
use super::power::{by, observed};
use super::step::{Step, StepError};
use farrier_bmc::{Bmc, BmcError, Capability, Deadline, MANUAL, PowerState, Restarted};
use farrier_proto::rack::{AskedOnce, AskedState};
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
        let before = cx.asked_once().await;
        match Begun::of(&before) {
            Begun::No => reset(cx).await,
            Begun::Perhaps => Err(perhaps_sent(cx).await?),
            Begun::Restarting(next) => {
                let bmc = cx.bmc().await?;
                let finished = bmc.finish_reset(next, time_for(cx), |next| switches(cx, next)).await;
                ended(cx, &bmc, finished.map(|()| Restarted::OffAndOn)).await
            }
            Begun::Sent => sent(cx, &before.words).await,
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
    fn of(asked: &AskedOnce) -> Self {
        match (asked.state(), asked.words.as_str()) {
            (AskedState::Unspecified | AskedState::InVain, _) => Self::No,
            (AskedState::Asking, GOES_OFF) => Self::Restarting(PowerState::Off),
            (AskedState::Asking, GOES_ON) => Self::Restarting(PowerState::On),
            (AskedState::Asking, _) => Self::Perhaps,
            (AskedState::Asked, _) => Self::Sent,
        }
    }
}

/// In the journal from before the reset is sent until its outcome is known.
const SENDING: &str = "sending the reset";
/// Where the BMC has none, from before each is sent.
const GOES_OFF: &str = "the BMC offers no hard reset: the machine is switched off, and then on";
const GOES_ON: &str = "the BMC offers no hard reset: the machine is off, and is switched on";

async fn reset(cx: &Context<'_>) -> Result<(), StepError> {
    let node = &cx.machine()?.name;
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
    cx.will_ask_once(SENDING).await?;
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
    cx.asks_once(AskedState::Asking, words).await;
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
    let words = format!("reset by {}{how}", by(bmc, Capability::Power));
    cx.asks_once(AskedState::Asked, &words).await;
    crash::point(PowerReset.name(), "sent");
    sent(cx, &words).await
}

/// What is left of a reset that the BMC has taken.
async fn sent(cx: &Context<'_>, words: &str) -> Result<(), StepError> {
    // What went wrong since then may stand there.
    cx.note(words).await?;
    observed(cx, PowerState::On).await
}

/// What is said of a reset that rackd did not see the end of.
async fn perhaps_sent(cx: &Context<'_>) -> Result<StepError, StepError> {
    let node = &cx.machine()?.name;
    let again = node.trim_start_matches("nodes/");
    // It was on.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_journal_says_tells_how_far_an_earlier_try_came() {
        let begun = |state: AskedState, words: &str| {
            Begun::of(&AskedOnce { state: state.into(), words: words.into() })
        };
        assert_eq!(begun(AskedState::Unspecified, ""), Begun::No);
        assert_eq!(begun(AskedState::Asking, SENDING), Begun::Perhaps);
        assert_eq!(begun(AskedState::Asking, GOES_OFF), Begun::Restarting(PowerState::Off));
        assert_eq!(begun(AskedState::Asking, GOES_ON), Begun::Restarting(PowerState::On));
        assert_eq!(begun(AskedState::Asked, "reset by driver ipmi"), Begun::Sent);
    }
}
