use super::context::Context;
use super::rotate_bmc_credentials::{RotateBmcCredentials, note_refusal};
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
        if bmc.driver_of(Capability::Accounts).is_some() {
            return RotateBmcCredentials.run(cx).await;
        }
        note_refusal(cx).await?;
        let driver = bmc.driver();
        let told = format!(
            "driver {driver} changes no passwords: the default one stays until somebody changes it by hand"
        );
        cx.note(told).await
    }
}
