use super::context::Context;
use super::step::{Step, StepError, Timeouts};
use farrier_proto::rack::ReadyGate;
use std::time::Duration;

/// Until the operating system itself has called: `active` means that it runs, not that power is on.
pub(super) struct WaitSystem;

#[async_trait::async_trait]
impl Step for WaitSystem {
    fn name(&self) -> &'static str {
        "wait_system"
    }
    fn deadline(&self, _: &Timeouts) -> Duration {
        // The instance says how long; this bounds what it may say.
        Duration::from_secs(24 * 3600)
    }
    /// A system that does not call is left running, so that a person can look at it.
    fn power_off_after_failure(&self) -> bool {
        false
    }
    /// Switched off or broken, it never calls: that is seen before its time is over.
    fn only_waits(&self) -> bool {
        true
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let deploy = cx.deploy()?;
        if deploy.ready() == ReadyGate::None {
            return Ok(());
        }
        let seconds = u64::try_from(deploy.ready_seconds).ok().filter(|s| *s > 0).unwrap_or(1800);
        cx.note("expecting the operating system's phone-home call").await?;
        let mut phoned = cx.task.phoned();
        // The guard that wait_for returns must not live across an await.
        let called = async { phoned.wait_for(|called| *called).await.map(|_| ()) };
        match tokio::time::timeout(Duration::from_secs(seconds), called).await {
            Ok(Ok(())) => cx.note("the operating system called").await,
            Ok(Err(_)) => Err(StepError::Again("rackd is shutting down".to_owned())),
            Err(_) => Err(StepError::Fatal(format!(
                "expected the operating system's phone-home call within {seconds}s, saw none; look at the machine's console: did it boot from the disk, does its image have cloud-init, can it reach this rack? Images without cloud-init need ready gate `none`"
            ))),
        }
    }
}
