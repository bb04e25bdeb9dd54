use super::context::Context;
use super::seed;
use super::step::{Step, StepError};
use farrier_proto::agent::session_response::{Command, WriteConfigDrive as Write};

/// Host name, keys, network and user data for cloud-init (NoCloud, volume label CIDATA).
pub(super) struct WriteConfigDrive;

#[async_trait::async_trait]
impl Step for WriteConfigDrive {
    fn name(&self) -> &'static str {
        "write_config_drive"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let command = Command::WriteConfigDrive(Write {
            root_device: cx.root_device()?,
            files: seed::files(cx).await?,
        });
        let done = cx.agent(command).await?;
        cx.note(done.detail).await
    }
}
