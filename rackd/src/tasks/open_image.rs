use super::context::Context;
use super::step::{Step, StepError};

/// The image's manifest is here, and its bytes are on their way: the machine boots while they come.
pub(super) struct OpenImage;

#[async_trait::async_trait]
impl Step for OpenImage {
    fn name(&self) -> &'static str {
        "open_image"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let image = cx.image().await?;
        let (here, all) = image.progress();
        let name = &cx.deploy()?.image;
        cx.note(match here == all {
            true => format!("{name} is in the rack's cache, {} MiB", all >> 20),
            false => format!(
                "{} of {} MiB of {name} are in the rack's cache, the rest comes",
                here >> 20,
                all >> 20
            ),
        })
        .await
    }
}
