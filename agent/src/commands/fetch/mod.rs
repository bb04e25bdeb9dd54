//! One chunk at a time over one connection that is kept: HTTP, or iSCSI, as the URL says.
//!
//! A transfer that breaks goes on at the byte where it broke, on a new connection; only a chunk whose digest is
//! wrong is read again from its start.
mod content_range;
mod http;
mod iscsi;
mod iscsi_url;

use super::CommandError;
use crate::limits::{Backoff, Limits};
use crate::manifest::{Chunk, Digest};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// When any connection last brought a byte: shared by the downloads of one image.
#[derive(Debug)]
pub(super) struct Pulse(Mutex<Instant>);

impl Pulse {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn silent_for(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// A downloader with its own connection.
pub(super) struct Fetcher<'a> {
    limits: &'a Limits,
    url: watch::Receiver<String>,
    image_bytes: u64,
    pulse: &'a Pulse,
    http: http::Http,
    iscsi: iscsi::Iscsi,
}

/// What a source needs besides its address.
struct Reading<'a> {
    limits: &'a Limits,
    image_bytes: u64,
    pulse: &'a Pulse,
}

/// Why a read broke. All of them are tried again: rackd may be restarting, and may not know of the image until it
/// has read its journal.
#[derive(Debug, thiserror::Error)]
enum SourceError {
    #[error("expected an http or iscsi URL")]
    Scheme,
    #[error(transparent)]
    Http(#[from] http::HttpError),
    #[error(transparent)]
    Iscsi(#[from] iscsi::IscsiError),
}

impl<'a> Fetcher<'a> {
    pub(super) fn new(
        limits: &'a Limits,
        url: watch::Receiver<String>,
        image_bytes: u64,
        pulse: &'a Pulse,
    ) -> Self {
        let (http, iscsi) = Default::default();
        Self { limits, url, image_bytes, pulse, http, iscsi }
    }

    /// The chunk's bytes, with the digest they must have.
    pub(super) async fn chunk(&mut self, chunk: Chunk) -> Result<Vec<u8>, CommandError> {
        let mut data = Vec::with_capacity(usize::try_from(chunk.len).unwrap_or(0));
        let mut backoff = Backoff::new(self.limits.retry_min, self.limits.retry_max);
        let mut wrong = 0;
        loop {
            let before = data.len();
            match self.append(chunk, &mut data).await {
                Ok(()) => {
                    let (seen, back) = digest(data).await?;
                    data = back;
                    if seen == chunk.digest {
                        return Ok(data);
                    }
                    wrong += 1;
                    tracing::warn!(chunk = chunk.index, tries = wrong, "chunk has a wrong digest");
                    if wrong >= self.limits.checksum_tries {
                        let expected = chunk.digest;
                        return Err(CommandError::Checksum {
                            chunk: chunk.index,
                            expected,
                            seen,
                            tries: wrong,
                        });
                    }
                    data.clear();
                }
                Err(error) => {
                    let stalled = self.pulse.silent_for();
                    tracing::info!(chunk = chunk.index, have = data.len(), %error, "download broke");
                    if stalled >= self.limits.download_patience {
                        return Err(CommandError::Download {
                            chunk: chunk.index,
                            server: self.server(),
                            stalled,
                            seen: error.to_string(),
                        });
                    }
                    if data.len() > before {
                        backoff.reset();
                    }
                }
            }
            self.http.disconnect();
            self.iscsi.disconnect();
            self.pause(backoff.pause()).await;
        }
    }

    /// A new URL ends the pause: rackd is back.
    async fn pause(&mut self, pause: Duration) {
        let changed = async {
            if self.url.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = changed => {}
        }
    }

    /// Appends what is missing of the chunk to `data`.
    async fn append(&mut self, chunk: Chunk, data: &mut Vec<u8>) -> Result<(), SourceError> {
        let url = self.url.borrow_and_update().clone();
        let reading = Reading { limits: self.limits, image_bytes: self.image_bytes, pulse: self.pulse };
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("http") => self.http.append(&url, chunk, data, &reading).await,
            Some("iscsi") => self.iscsi.append(&url, chunk, data, &reading).await,
            _ => Err(SourceError::Scheme),
        }
    }

    /// Host and port; the rest of the URL has secrets in it.
    fn server(&self) -> String {
        let url = self.url.borrow();
        let authority = url.split('/').nth(2).unwrap_or_default();
        authority.rsplit('@').next().unwrap_or_default().to_owned()
    }
}

/// Hashing takes 10 ms and more a chunk: not on the threads that keep the session alive.
async fn digest(data: Vec<u8>) -> Result<(Digest, Vec<u8>), CommandError> {
    super::blocking(move || Ok((Digest::of(&data), data))).await
}
