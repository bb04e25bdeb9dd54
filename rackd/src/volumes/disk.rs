//! The disk that volumes are on. It may hang for ever: it is asked off the threads that serve, at so many places at a time, and
//! waited for with an end. Its own machines wait for it then, and nobody else.

use super::held::Turn;
use super::{VolumeError, io_error};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Disk {
    places: Arc<Semaphore>,
    /// Held by whoever reads all records: who looks again and again takes one place.
    looking: Arc<Mutex<()>>,
    /// How long is waited for it.
    pub(super) patience: Duration,
}

impl Disk {
    pub(super) fn new(patience: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(PLACES)), looking: Arc::default(), patience }
    }

    /// Works on the files of one volume. Its turn is held until that is done, whoever waits for it: what hangs is not begun a
    /// second time.
    pub(super) async fn with<T: Send + 'static>(
        &self,
        mut turn: Turn,
        work: impl FnOnce(&mut Turn) -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<(Turn, T), VolumeError> {
        self.soon(self.run(move || work(&mut turn).map(|done| (turn, done)))).await
    }

    /// Looks at all volumes; one at a time does.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<T, VolumeError> {
        let look = async {
            let alone = self.looking.clone().lock_owned().await;
            let looked = move || {
                let _alone = alone;
                work()
            };
            self.run(looked).await
        };
        self.soon(look).await
    }

    /// What is waited for no longer goes on by itself, if it has begun.
    pub(super) async fn soon<T>(
        &self,
        work: impl Future<Output = Result<T, VolumeError>>,
    ) -> Result<T, VolumeError> {
        let late = VolumeError::Hangs { seconds: self.patience.as_secs() };
        tokio::time::timeout(self.patience, work).await.unwrap_or(Err(late))
    }

    /// How many threads work for it, or hang.
    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        PLACES - self.places.available_permits()
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<T, VolumeError> {
        let place =
            self.places.clone().acquire_owned().await.map_err(|closed| broken(io::Error::other(closed)))?;
        let work = move || {
            let _place = place;
            work()
        };
        blocking(work).await
    }
}

/// Off the threads that serve.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(broken(io::Error::other(error))))
}

pub(super) fn broken(error: io::Error) -> VolumeError {
    io_error("working on", Path::new("volumes"))(error)
}

/// Threads that may hang here, of the 512 that tokio has for all.
const PLACES: usize = 64;
/// A path that fails over or a disk that is reset is back within Linux' own 30 seconds for a command.
pub(super) const PATIENCE: Duration = Duration::from_secs(35);
