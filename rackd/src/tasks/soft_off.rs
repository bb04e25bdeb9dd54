//! The operating system is asked to shut down, once; forced when that takes too long.
//!
//! Many BMCs ask by the power button, and a second press while the system shuts down makes some abort it and others go off hard: so
//! what was asked is in the journal before it is asked, and a rackd that was restarted meanwhile waits on.

use super::context::Context;
use super::power::{by, ensure, read_back};
use super::step::{Step, StepError, Timeouts};
use farrier_bmc::{Bmc, Capability, Deadline, MANUAL, PowerState};
use farrier_proto::rack::AskedState;
use farrier_runtime::crash;
use std::time::Duration;

pub(super) struct SoftOff;

#[async_trait::async_trait]
impl Step for SoftOff {
    fn name(&self) -> &'static str {
        "soft_off"
    }
    /// After a restart of rackd a system that was perhaps asked has its time before it is asked again: the time of two.
    fn deadline(&self, timeouts: &Timeouts) -> Duration {
        timeouts.soft_off_step() * 2
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        off(cx).await
    }
}

async fn off(cx: &Context<'_>) -> Result<(), StepError> {
    let bmc = cx.bmc().await?;
    if bmc.driver() == MANUAL || bmc.power_status(cx.call()).await? == PowerState::Off {
        return ensure(cx, PowerState::Off).await;
    }
    let before = cx.asked_once().await;
    match before.state() {
        AskedState::Unspecified => {}
        // It was not, or in vain: whatever it began in the time that systems have is over.
        AskedState::Asking => {
            if goes_off(&bmc, patience(cx, &bmc).await).await? {
                return read_back(cx, &bmc, PowerState::Off).await;
            }
        }
        AskedState::Asked => return wait(cx, &bmc, patience(cx, &bmc).await).await,
        AskedState::InVain => return force(cx, &before.words).await,
    }
    let patience = patience(cx, &bmc).await;
    cx.will_ask_once("asking the system to switch itself off").await?;
    crash::point(SoftOff.name(), "told");
    match bmc.power_soft(cx.call()).await {
        Ok(()) => {}
        // Perhaps asked: the power says, and another try might press the button once more.
        Err(error) if error.may_have_happened() => {}
        // It will never ask the system, and off is what is wanted.
        Err(error) if error.is_refusal() => {
            return force(cx, &format!("the system cannot be asked: {error}")).await;
        }
        Err(error) => {
            // Another try asks at once.
            cx.asks_once(AskedState::Unspecified, "").await;
            return Err(error.into());
        }
    }
    let (driver, seconds) = (by(&bmc, Capability::Power), patience.as_secs());
    let words = format!("asked the system to switch itself off, by {driver}: it has {seconds}s for it");
    cx.asks_once(AskedState::Asked, &words).await;
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
pub(super) async fn goes_off(bmc: &Bmc, patience: Duration) -> Result<bool, StepError> {
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
    cx.asks_once(AskedState::InVain, why).await;
    ensure(cx, PowerState::Off).await?;
    let task = cx.task.task().await;
    let told = task.steps.get(cx.index).map(|step| step.detail.as_str()).unwrap_or_default();
    cx.note(format!("{told}; forced: {why}")).await
}

/// How long the machine has to switch itself off, by its product.
pub(super) async fn patience(cx: &Context<'_>, bmc: &Bmc) -> Duration {
    cx.rack.timeouts.soft_off_of(bmc.soft_off_takes(cx.call()).await.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_bmc::{BmcError, Power};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Every other answer is a failure that passes; the machine stays on.
    #[derive(Default)]
    struct Stumbles(AtomicU32);

    #[async_trait::async_trait]
    impl Power for Stumbles {
        async fn power_status(&self, _: Deadline) -> Result<PowerState, BmcError> {
            let asked = self.0.fetch_add(1, Ordering::Relaxed);
            let (addr, request) = (([192, 0, 2, 1], 443).into(), "GET /".to_owned());
            match asked % 2 {
                0 => Ok(PowerState::On),
                _ => Err(BmcError::Http { addr, request, status: 503, detail: String::new() }),
            }
        }
        async fn power_on(&self, _: Deadline) -> Result<(), BmcError> {
            Ok(())
        }
        async fn power_off(&self, _: Deadline) -> Result<(), BmcError> {
            Ok(())
        }
        async fn power_soft(&self, _: Deadline) -> Result<(), BmcError> {
            Ok(())
        }
        async fn power_cycle(&self, _: Deadline) -> Result<(), BmcError> {
            Ok(())
        }
        async fn power_reset(&self, _: Deadline) -> Result<(), BmcError> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_however_often_the_bmc_stumbles() {
        let bmc = Bmc::new("fake").with_power(Arc::<Stumbles>::default());
        let begin = tokio::time::Instant::now();
        assert_eq!(goes_off(&bmc, Duration::from_secs(120)).await, Ok(false));
        assert!(begin.elapsed() <= Duration::from_secs(121), "{:?}", begin.elapsed());
    }
}
