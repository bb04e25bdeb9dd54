use super::context::Context;
use super::rotate_bmc_credentials::{Rotated, note_refusal, rotate};
use super::step::{Step, StepError};
use farrier_bmc::Capability;

/// A BMC that has the password it came with gets another, as by a rotation. Where the driver can change none, it stays, and
/// the node is usable all the same.
pub(super) struct ReplaceDefaultPassword;

#[async_trait::async_trait]
impl Step for ReplaceDefaultPassword {
    fn name(&self) -> &'static str {
        "replace_default_password"
    }
    fn power_off_after_failure(&self) -> bool {
        false
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let bmc = cx.bmc().await?;
        if bmc.driver_of(Capability::Accounts).is_none() {
            note_refusal(cx).await?;
        } else if let Rotated::Yes = rotate(cx).await? {
            return Ok(());
        }
        let driver = bmc.driver();
        let told = format!(
            "this BMC changes no passwords by the driver {driver}: the default one stays until somebody changes it by hand"
        );
        cx.note(told).await
    }
}
