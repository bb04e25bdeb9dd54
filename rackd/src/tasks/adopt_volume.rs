use super::context::Context;
use super::seed;
use super::step::{Step, StepError};
use crate::secrets::Secrets;

/// The disk that another machine had, with what cloud-init shall read on this one.
pub(super) struct AdoptVolume;

#[async_trait::async_trait]
impl Step for AdoptVolume {
    fn name(&self) -> &'static str {
        "adopt_volume"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let (instance, node) = (&cx.deploy()?.instance, &cx.machine()?.name);
        let seed_of = cx.rack.volumes.owner(instance).await?.seed_of;
        let known = inherit_user_data(cx, &seed_of).await?;
        let seed = seed::volume(cx).await?;
        cx.rack.volumes.adopt(instance, node, &cx.task.id, seed).await?;
        let known = if known { "" } else { "; its user data is not known any more" };
        cx.note(format!("the disk as it was, for {node}{known}")).await
    }
}

/// The centre forgets user data when the rack has it: it is among the secrets of the task that last wrote it.
/// `false`: that task is forgotten.
async fn inherit_user_data(cx: &Context<'_>, seed_of: &str) -> Result<bool, StepError> {
    if seed_of == cx.task.id {
        return Ok(true);
    }
    let Some(record) = cx.rack.journal.get(seed_of).await? else { return Ok(false) };
    let secrets = Secrets::open(&cx.rack.vault, &record.task.id, &record.sealed).map_err(StepError::fatal)?;
    cx.task.edit_secrets(|own| own.user_data.clone_from(&secrets.user_data)).await?;
    Ok(true)
}
