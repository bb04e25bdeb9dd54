use super::context::Context;
use super::power::{ensure, observed};
use super::step::{Step, StepError, Timeouts};
use farrier_bmc::{Deadline, PowerState};
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
        timeouts.soft_off + timeouts.bmc
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let bmc = cx.bmc().await?;
        let patience = Deadline::after(cx.rack.timeouts.soft_off);
        let asked = cx.agent(Command::PowerOff(PowerOff {}));
        tokio::pin!(asked);
        let mut answered = false;
        while !patience.is_past() {
            if bmc.power_status(cx.call()).await? == PowerState::Off {
                return observed(cx, PowerState::Off).await;
            }
            // An agent that is gone already answers nothing: the BMC's word counts.
            tokio::select! {
                _ = &mut asked, if !answered => {
                    answered = true;
                    cx.task.agent.hang_up();
                }
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
        }
        cx.note("the ramdisk did not switch the machine off: forcing it").await?;
        ensure(cx, PowerState::Off).await
    }
}
