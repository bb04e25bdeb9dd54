use super::context::Context;
use super::step::{Step, StepError};
use farrier_proto::agent::session_response::{Command, SetBootEntry as Set};

/// UEFI: the disk's boot loader as first boot entry. BIOS: nothing to do.
pub(super) struct SetBootEntry;

#[async_trait::async_trait]
impl Step for SetBootEntry {
    fn name(&self) -> &'static str {
        "set_boot_entry"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let command =
            Command::SetBootEntry(Set { root_device: cx.root_device()?, label: "Farrier".to_owned() });
        let done = cx.agent(command).await?;
        cx.note(done.detail).await
    }
}
