use super::context::Context;
use super::step::{Step, StepError, Timeouts};
use farrier_proto::rack::task_spec::Work;
use farrier_proto::types::{BootMode, Hardware};
use std::time::Duration;

/// DHCP, boot loader, kernel, ramdisk: until the agent has proven its token and said hello.
pub(super) struct WaitAgent;

#[async_trait::async_trait]
impl Step for WaitAgent {
    fn name(&self) -> &'static str {
        "wait_agent"
    }
    fn deadline(&self, timeouts: &Timeouts) -> Duration {
        timeouts.agent
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let node = cx.task.node.rsplit('/').next().unwrap_or_default().to_owned();
        cx.note(format!("expecting the ramdisk's agent; `farrier node boot-trace {node}` shows what the machine asks the network")).await?;
        let mut refusals = cx.task.agent.refusals();
        let session = loop {
            tokio::select! {
                session = cx.task.agent.connected() => break session,
                Ok(()) = refusals.changed() => {
                    let refusal = refusals.borrow_and_update().clone();
                    if let Some(why) = refusal {
                        cx.note(why).await?;
                    }
                }
            }
        };
        let Some(session) = session else {
            return Err(StepError::Again("rackd is shutting down".to_owned()));
        };
        let hardware = session.hardware;
        check_boot_mode(cx, &hardware)?;
        cx.note(format!("agent up, boot {}", session.boot_id)).await?;
        Ok(cx.task.edit(|task| task.result.get_or_insert_default().hardware = Some(hardware)).await?)
    }
}

/// A system installed for one firmware does not start under the other, and would be waited for in vain. A BMC that
/// drops the EFI bit of its boot flags boots the ramdisk all the same.
fn check_boot_mode(cx: &Context<'_>, hardware: &Hardware) -> Result<(), StepError> {
    let (wanted, seen) = (cx.machine()?.boot_mode(), hardware.boot_mode());
    let deploys = matches!(cx.task.spec.work, Some(Work::Deploy(_)));
    if !deploys || wanted == BootMode::Unspecified || seen == BootMode::Unspecified || wanted == seen {
        return Ok(());
    }
    let node = cx.task.node.rsplit('/').next().unwrap_or_default();
    Err(StepError::fatal(if seen == BootMode::Uefi {
        format!(
            "firmware mode: expected the machine to boot by BIOS, saw UEFI; set the mode in its firmware, or correct the node: `farrier node update {node} --boot-mode uefi`"
        )
    } else {
        format!(
            "firmware mode: expected the machine to boot by UEFI, saw BIOS; set the mode in its firmware, or correct the node: `farrier node update {node} --boot-mode bios`"
        )
    }))
}
