//! The operating system is asked to shut down, once; forced when that takes too long.
//!
//! Many BMCs ask by the power button, and a second press while the system shuts down makes some abort it and others go off hard: so
//! what was asked is in the journal before it is asked, and a rackd that was restarted meanwhile waits on.

use super::context::Context;
use super::power::{by, ensure, read_back};
use super::said::{self, said, so_far};
use super::step::{Step, StepError, Timeouts};
use farrier_bmc::{Bmc, BmcError, Capability, Deadline, MANUAL, PowerState};
use farrier_runtime::crash;
use std::time::Duration;

pub(super) struct SoftOff;

#[async_trait::async_trait]
impl Step for SoftOff {
    fn name(&self) -> &'static str {
        "soft_off"
    }
    /// After a restart of rackd a system that was perhaps asked has its time before it is asked again.
    fn deadline(&self, timeouts: &Timeouts) -> Duration {
        timeouts.soft_off_step() + timeouts.soft_off
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        match off(cx).await {
            // The executor writes it over what the journal has to keep.
            Err(StepError::Again(why)) => Err(StepError::Again(keeping(&said(cx).await, &why))),
            ended => ended,
        }
    }
}

/// How far an earlier try came, by the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked<'a> {
    No,
    /// rackd ended while it asked.
    Perhaps,
    Yes,
    /// It took too long, or cannot be asked, for this reason.
    InVain(&'a str),
}

impl<'a> Asked<'a> {
    fn read(said: &'a str) -> Self {
        let said = so_far(said);
        if let Some(why) = said.strip_prefix(FORCING) {
            return Self::InVain(why);
        }
        match said {
            ASKING => Self::Perhaps,
            said if said.starts_with(ASKED) => Self::Yes,
            _ => Self::No,
        }
    }
}

/// What the journal says, for people too, from before the system is asked on; what went wrong since then comes behind it.
const ASKING: &str = "asking the system to switch itself off";
const ASKED: &str = "asked the system to switch itself off";
const FORCING: &str = "forcing it off: ";

/// The same words about how far it came, with the newest trouble.
fn keeping(said: &str, why: &str) -> String {
    match Asked::read(said) {
        Asked::No => why.to_owned(),
        _ => said::keeping(said, why),
    }
}

async fn off(cx: &Context<'_>) -> Result<(), StepError> {
    let bmc = cx.bmc().await?;
    if bmc.driver() == MANUAL || bmc.power_status(cx.call()).await? == PowerState::Off {
        return ensure(cx, PowerState::Off).await;
    }
    let said = said(cx).await;
    match Asked::read(&said) {
        Asked::No => {}
        // It was not, or in vain: whatever it began in the time that systems have is over.
        Asked::Perhaps => {
            if goes_off(&bmc, cx.rack.timeouts.soft_off).await? {
                return read_back(cx, &bmc, PowerState::Off).await;
            }
        }
        Asked::Yes => return wait(cx, &bmc, patience(cx, &bmc).await).await,
        Asked::InVain(why) => return force(cx, why).await,
    }
    let patience = patience(cx, &bmc).await;
    cx.note(ASKING).await?;
    crash::point(SoftOff.name(), "told");
    match bmc.power_soft(cx.call()).await {
        // Asked, or perhaps asked: the power says.
        Ok(()) | Err(BmcError::AnswerLost { .. }) => {}
        // It will never ask the system, and off is what is wanted.
        Err(error) if error.is_refusal() => {
            return force(cx, &format!("the system cannot be asked: {error}")).await;
        }
        Err(error) => {
            // Another try asks at once.
            cx.note("").await?;
            return Err(error.into());
        }
    }
    let (driver, seconds) = (by(&bmc, Capability::Power), patience.as_secs());
    cx.note(format!("{ASKED}, by {driver}: it has {seconds}s for it")).await?;
    crash::point(SoftOff.name(), "asked");
    wait(cx, &bmc, patience).await
}

async fn wait(cx: &Context<'_>, bmc: &Bmc, patience: Duration) -> Result<(), StepError> {
    if goes_off(bmc, patience).await? {
        return read_back(cx, bmc, PowerState::Off).await;
    }
    force(cx, "the system did not switch itself off").await
}

/// Whether the machine is off in time. A BMC that does not answer for a while is asked again here: another try of the step would
/// give the system its time anew.
async fn goes_off(bmc: &Bmc, patience: Duration) -> Result<bool, StepError> {
    let deadline = Deadline::after(patience);
    loop {
        match bmc.wait_power(PowerState::Off, deadline).await {
            Err(error) if error.is_transient() && !deadline.is_past() => {
                tokio::time::sleep(LOOK_AGAIN.min(deadline.remaining())).await;
            }
            Err(error) if error.is_transient() => return Ok(false),
            waited => return Ok(waited?),
        }
    }
}

/// Between looks at a BMC that did not answer the last one.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Takes the power away, and has the step say why for good.
async fn force(cx: &Context<'_>, why: &str) -> Result<(), StepError> {
    cx.note(format!("{FORCING}{why}")).await?;
    ensure(cx, PowerState::Off).await?;
    let told = said(cx).await;
    cx.note(format!("{told}; forced: {why}")).await
}

/// How long the machine has to switch itself off, by its product.
pub(super) async fn patience(cx: &Context<'_>, bmc: &Bmc) -> Duration {
    cx.rack.timeouts.soft_off_of(bmc.soft_off_takes(cx.call()).await.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_journal_says_tells_how_far_an_earlier_try_came_whatever_went_wrong_since() {
        for (said, asked) in [
            ("", Asked::No),
            ("BMC 192.0.2.1:623 is unreachable; next try in 2s", Asked::No),
            (ASKING, Asked::Perhaps),
            ("asked the system to switch itself off, by driver ipmi: it has 120s for it", Asked::Yes),
            (
                "forcing it off: the system did not switch itself off",
                Asked::InVain("the system did not switch itself off"),
            ),
        ] {
            assert_eq!(Asked::read(said), asked, "{said}");
            // As the executor writes it, twice.
            let mut kept = said.to_owned();
            for why in ["no answer", "busy"] {
                kept = format!("{}; next try in 2s", keeping(&kept, why));
                assert!(kept.contains(why), "{kept}");
            }
            assert_eq!(Asked::read(&kept), asked, "{kept}");
            assert!(asked == Asked::No || !kept.contains("no answer"), "it does not grow: {kept}");
        }
    }
}
