//! Who needs an image's bytes. As long as somebody does, the image stays: a rack may be streaming it while machines
//! boot, and a diskless machine's disk is half of it for as long as the machine lives.

use super::{AppError, Images};
use farrier_images_store::{HoldError, Holder};
use farrier_proto::images::Image;
use farrier_runtime::authz::Caller;

impl Images {
    /// An instance needs the image, as it is now.
    pub(crate) async fn hold(&self, name: &str, manifest: &str, holder: Holder) -> Result<(), AppError> {
        self.store.hold(name, manifest, &holder).await.map_err(|error| match error {
            HoldError::NotFound => AppError::NotFound(name.to_owned()),
            HoldError::Changed => AppError::ImageChanged { name: name.to_owned(), now: None },
            HoldError::Store(error) => error.into(),
        })
    }

    /// An instance needs no image any more.
    pub(crate) async fn drop_hold(&self, instance: &str) -> Result<(), AppError> {
        Ok(self.store.drop_hold(instance).await?)
    }

    /// Fills in who uses the images, as far as the caller sees those.
    pub(super) async fn with_users(&self, caller: &Caller, images: &mut [Image]) -> Result<(), AppError> {
        let names: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
        let holders = self.store.holders(&names).await?;
        for (name, holder) in holders.into_iter().filter(|(_, holder)| caller.sees(&holder.owner)) {
            if let Some(image) = images.iter_mut().find(|image| image.name == name) {
                image.used_by.push(holder.instance);
            }
        }
        Ok(())
    }
}

/// Why the image stays: instances that the caller may see by name, the others as a number.
pub(super) fn in_use(caller: &Caller, name: &str, holders: Vec<Holder>) -> AppError {
    let (by, others): (Vec<Holder>, Vec<Holder>) =
        holders.into_iter().partition(|holder| caller.sees(&holder.owner));
    let by = by.into_iter().map(|holder| holder.instance).collect();
    AppError::InUse { name: name.to_owned(), by, others: others.len() }
}
