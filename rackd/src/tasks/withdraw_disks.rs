use super::context::Context;
use super::step::{Step, StepError};

/// What the machine's last system had of the rack's disks is offered no more, and its sessions end: before anything waits
/// for its BMC, which may take long or for ever. The disks go when it is off.
pub(super) struct WithdrawDisks;

#[async_trait::async_trait]
impl Step for WithdrawDisks {
    fn name(&self) -> &'static str {
        "withdraw_disks"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        cx.rack.volumes.withdraw(&cx.machine()?.name).await;
        Ok(())
    }
}
