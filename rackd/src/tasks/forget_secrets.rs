use super::context::Context;
use super::step::{Step, StepError};

/// Nothing that was given to the machine's last system works any more: no address, no boot script, no
/// phone-home.
pub(super) struct ForgetSecrets;

#[async_trait::async_trait]
impl Step for ForgetSecrets {
    fn name(&self) -> &'static str {
        "forget_secrets"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        cx.rack.unpublish(cx.machine()?);
        Ok(())
    }
}
