use super::context::Context;
use super::power::{ensure, read_back};
use super::soft_off::{self, patience};
use super::step::{Step, StepError, Timeouts};
use farrier_bmc::PowerState;
use farrier_proto::agent::session_response::{Command, PowerOff};
use std::time::Duration;

/// The agent syncs and switches the machine off; the BMC says when it is. Forced when it takes too long.
pub(super) struct AgentOff;

#[async_trait::async_trait]
impl Step for AgentOff {
    fn name(&self) -> &'static str {
        "agent_off"
    }
    fn deadline(&self, timeouts: &Timeouts) -> Duration {
        timeouts.soft_off_step()
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        // An agent that is gone already answers nothing: the BMC's word counts. Both are polled all the time:
        // a future left alone in the middle of journaling holds the journal's one writer, and with it the rack.
        let tell = async {
            let _ = cx.agent(Command::PowerOff(PowerOff {})).await;
            cx.task.agent.hang_up();
            std::future::pending::<Result<bool, StepError>>().await
        };
        let off = tokio::select! {
            off = goes_off(cx) => off?,
            never = tell => never?,
        };
        if off {
            return read_back(cx, &cx.bmc().await?, PowerState::Off).await;
        }
        cx.note("the ramdisk did not switch the machine off: forcing it").await?;
        ensure(cx, PowerState::Off).await
    }
}

/// Whether the machine is off before our patience ends.
async fn goes_off(cx: &Context<'_>) -> Result<bool, StepError> {
    let bmc = cx.bmc().await?;
    let (patience, usual) = (patience(cx, &bmc).await, cx.rack.timeouts.soft_off);
    if patience > usual {
        let seconds = patience.as_secs();
        cx.note(format!("this product is known to take long to switch itself off: it has {seconds}s"))
            .await?;
    }
    soft_off::goes_off(&bmc, patience).await
}
