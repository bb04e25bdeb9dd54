//! Names kept for one upload by one rack: what a rack may add to the catalogue, and nothing else.
//!
//! A rack's certificate alone gives no right to upload. The scheduler keeps a name for the one rack that has the
//! disk, while the operation runs; whose image it becomes is written there, not in what the rack sends.

use super::{AppError, Images};
use farrier_identity::Identity;
use farrier_images_store::{Reservation, ReserveError};
use farrier_model::Collection;
use farrier_proto::images::Image;
use farrier_proto::images::upload_image_request::Header;
use farrier_runtime::authz::Caller;
use farrier_runtime::time;

impl Images {
    /// Keeps a name. `image` is checked.
    pub(crate) async fn reserve(
        &self,
        image: Image,
        rack: String,
        operation: String,
    ) -> Result<(), AppError> {
        let now = time::now_ms();
        let reservation = Reservation {
            image: image.name,
            owner: image.owner,
            description: image.description,
            architecture: image.architecture,
            rack,
            operation,
            expires_ms: now.saturating_add(KEPT_MS),
        };
        match self.store.reserve(&reservation, now).await {
            Ok(()) => Ok(()),
            Err(ReserveError::Taken) => Err(AppError::NameTaken(reservation.image)),
            Err(ReserveError::Store(error)) => Err(error.into()),
        }
    }

    /// Ends a reservation. Returns what was uploaded under it.
    pub(crate) async fn release(&self, name: &str, operation: &str) -> Result<Option<Image>, AppError> {
        Ok(self.store.release(name, operation).await?.map(|stored| stored.image))
    }

    /// The reservation that a rack uploads under; a rack without one is refused. `None`: the caller is no rack.
    pub(crate) async fn reservation_of(
        &self,
        caller: &Caller,
        header: &Header,
    ) -> Result<Option<Reservation>, AppError> {
        let Some(Identity::Rack(rack)) = caller.identity() else { return Ok(None) };
        let rack = Collection::Racks.name(rack);
        let name = header.image.as_ref().map(|image| image.name.as_str()).unwrap_or_default();
        let kept = match farrier_model::parse_name(Collection::Images, name) {
            Ok(_) => self.store.reservation(name, time::now_ms()).await?,
            Err(_) => None,
        };
        match kept.filter(|kept| kept.rack == rack && kept.operation == header.request_id) {
            Some(kept) => Ok(Some(kept)),
            // The same words whether there is another's or none: a rack learns nothing of other names.
            None => Err(AppError::NotAllowed(format!(
                "a rack uploads under its reservation only: expected one of {rack} for this name and operation"
            ))),
        }
    }
}

/// Longer than the largest upload takes that anybody waits for: a day.
const KEPT_MS: i64 = 24 * 3600 * 1000;
