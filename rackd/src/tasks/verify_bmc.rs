use super::context::Context;
use super::power::observed;
use super::step::{Step, StepError};

/// The BMC answers with these credentials, says what it is and whether the machine is on.
pub(super) struct VerifyBmc;

#[async_trait::async_trait]
impl Step for VerifyBmc {
    fn name(&self) -> &'static str {
        "verify_bmc"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let bmc = cx.bmc().await?;
        let identity = bmc.identity(cx.call()).await?;
        let power = bmc.power_status(cx.call()).await?;
        observed(cx, power).await?;
        cx.note(format!(
            "manufacturer {}, product {}, firmware {}, IPMI {}, power {}",
            identity.manufacturer_id,
            identity.product_id,
            identity.firmware,
            identity.ipmi_version,
            power.as_str()
        ))
        .await
    }
}
