//! The watchdog timer by IPMI 2.0 chapter 27.

use async_trait::async_trait;
use farrier_ipmi::command::watchdog::{GetWatchdogTimer, StopWatchdogTimer, WatchdogTimer};

use super::driver::IpmiBmc;
use super::link::Link;
use crate::actor::Call;
use crate::{BmcError, Deadline, Watchdog, WatchdogState};

#[async_trait]
impl Watchdog for IpmiBmc {
    async fn watchdog(&self, deadline: Deadline) -> Result<WatchdogState, BmcError> {
        self.call(deadline, |link, call| {
            Box::pin(async move { Ok(told(link.command(call, GetWatchdogTimer).await?)) })
        })
        .await
    }

    async fn disarm_watchdog(&self, deadline: Deadline) -> Result<WatchdogState, BmcError> {
        self.call(deadline, |link, call| Box::pin(link.disarm_watchdog(call))).await
    }
}

impl Link {
    async fn disarm_watchdog(&mut self, call: &mut Call) -> Result<WatchdogState, BmcError> {
        let before = self.command(call, GetWatchdogTimer).await?;
        if !before.running {
            return Ok(told(before));
        }
        self.command(call, StopWatchdogTimer(before)).await?;
        let after = self.command(call, GetWatchdogTimer).await?;
        if after.running {
            return Err(BmcError::NotApplied {
                addr: self.address.addr,
                what: "the end of the watchdog timer",
                expected: "it to be stopped".to_owned(),
                seen: "it runs, or somebody has started it again".to_owned(),
            });
        }
        Ok(told(after))
    }
}

fn told(timer: WatchdogTimer) -> WatchdogState {
    let named =
        |bit: u8| (timer.expired & (1 << bit) != 0).then(|| word(USES, bit)).filter(|word| !word.is_empty());
    WatchdogState {
        running: timer.running,
        timer_use: word(USES, timer.timer_use),
        action: word(ACTIONS, timer.action),
        initial: timer.initial,
        left: timer.left,
        expired: (0..8).filter_map(named).collect(),
    }
}

/// Tables 27-2 and 27-5: what is reserved has no word.
const USES: &[&str] = &["", "BIOS FRB2", "BIOS/POST", "OS load", "SMS/OS", "OEM"];
const ACTIONS: &[&str] = &["none", "hard reset", "power down", "power cycle"];

fn word(words: &'static [&'static str], number: u8) -> &'static str {
    words.get(usize::from(number)).copied().unwrap_or_default()
}
