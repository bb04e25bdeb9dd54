//! One chunk at a time over one HTTP/1.1 connection that is kept alive.
//!
//! A transfer that breaks goes on at the byte where it broke (RFC 9110 §14: `Range`), on a new
//! connection; only a chunk whose digest is wrong is read again from its start.
use super::CommandError;
use crate::limits::{Backoff, Limits};
use crate::manifest::{Chunk, Digest};
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

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

/// Why one request failed. All of them are tried again: rackd may be restarting, and its image port
/// may answer 404 until it has read its journal.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("not an absolute http URL")]
    Url,
    #[error("no answer for {} s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error("connecting: {0}")]
    Connect(std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("status {0}, expected 206 Partial Content")]
    Status(StatusCode),
    #[error("Content-Range is {0:?}, expected the range asked for")]
    Range(String),
    #[error("the body ended {0} bytes early")]
    Short(u64),
    #[error("the body is longer than the range")]
    Long,
}

/// A downloader with its own connection.
pub(super) struct Fetcher<'a> {
    limits: &'a Limits,
    url: watch::Receiver<String>,
    image_bytes: u64,
    pulse: &'a Pulse,
    connection: Option<Connection>,
}

struct Connection {
    authority: String,
    sender: SendRequest<Empty<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

impl<'a> Fetcher<'a> {
    pub(super) fn new(
        limits: &'a Limits,
        url: watch::Receiver<String>,
        image_bytes: u64,
        pulse: &'a Pulse,
    ) -> Self {
        Self { limits, url, image_bytes, pulse, connection: None }
    }

    /// The chunk's bytes, with the digest they must have.
    pub(super) async fn chunk(&mut self, chunk: Chunk) -> Result<Vec<u8>, CommandError> {
        let mut data = Vec::with_capacity(usize::try_from(chunk.len).unwrap_or(0));
        let mut backoff = Backoff::new(self.limits.retry_min, self.limits.retry_max);
        let mut wrong = 0;
        loop {
            let before = data.len();
            match self.range(chunk, &mut data).await {
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
            self.connection = None;
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

    /// Host and port; the path is a secret.
    fn server(&self) -> String {
        let url = self.url.borrow().parse::<Uri>().ok();
        url.and_then(|u| Some(u.authority()?.to_string())).unwrap_or_default()
    }

    /// Appends what is missing of the chunk to `data`.
    async fn range(&mut self, chunk: Chunk, data: &mut Vec<u8>) -> Result<(), FetchError> {
        let url: Uri = self.url.borrow_and_update().parse().map_err(|_| FetchError::Url)?;
        let start = chunk.offset + data.len() as u64;
        let end = chunk.offset + chunk.len;
        if start >= end {
            return Ok(());
        }
        let request = request(&url, start, end)?;
        let read_timeout = self.limits.read_timeout;
        let connection = self.connected(&url).await?;
        let answer = async {
            connection.sender.ready().await?;
            connection.sender.send_request(request).await
        };
        let response =
            timeout(read_timeout, answer).await.map_err(|_| FetchError::Timeout(read_timeout))??;
        check(&response, start, end, self.image_bytes)?;
        let mut body = response.into_body();
        loop {
            let frame = timeout(read_timeout, body.frame());
            let Some(frame) = frame.await.map_err(|_| FetchError::Timeout(read_timeout))? else { break };
            let Ok(bytes) = frame?.into_data() else { continue };
            if data.len() as u64 + bytes.len() as u64 > chunk.len {
                return Err(FetchError::Long);
            }
            data.extend_from_slice(&bytes);
            self.pulse.beat();
        }
        match chunk.len - data.len() as u64 {
            0 => Ok(()),
            missing => Err(FetchError::Short(missing)),
        }
    }

    async fn connected(&mut self, url: &Uri) -> Result<&mut Connection, FetchError> {
        let authority = url.authority().ok_or(FetchError::Url)?;
        let usable =
            self.connection.take().filter(|c| c.authority == authority.as_str() && !c.sender.is_closed());
        let connection = match usable {
            Some(connection) => connection,
            None => {
                let host = authority.host().trim_matches(['[', ']']);
                let address = (host, authority.port_u16().unwrap_or(80));
                let wait = self.limits.connect_timeout;
                let tcp = timeout(wait, TcpStream::connect(address))
                    .await
                    .map_err(|_| FetchError::Timeout(wait))?
                    .map_err(FetchError::Connect)?;
                let (sender, driver) = handshake(TokioIo::new(tcp)).await?;
                // Its errors come out of the requests as well.
                let driver = tokio::spawn(async move {
                    let _ = driver.await;
                });
                Connection {
                    authority: authority.to_string(),
                    sender,
                    _driver: AbortOnDropHandle::new(driver),
                }
            }
        };
        Ok(self.connection.insert(connection))
    }
}

/// Hashing takes 10 ms and more a chunk: not on the threads that keep the session alive.
async fn digest(data: Vec<u8>) -> Result<(Digest, Vec<u8>), CommandError> {
    super::blocking(move || Ok((Digest::of(&data), data))).await
}

/// RFC 9110 §14.1.2: both ends of a byte range are inclusive.
fn request(url: &Uri, start: u64, end: u64) -> Result<Request<Empty<Bytes>>, FetchError> {
    if url.scheme_str() != Some("http") {
        return Err(FetchError::Url);
    }
    let authority = url.authority().ok_or(FetchError::Url)?;
    Request::get(url.path_and_query().map_or("/", |p| p.as_str()))
        .header(header::HOST, authority.as_str())
        .header(header::RANGE, format!("bytes={start}-{}", end - 1))
        .body(Empty::new())
        .map_err(|_| FetchError::Url)
}

/// 206 with the first byte asked for; the server may send fewer, which the next request makes up for.
fn check(
    response: &http::Response<Incoming>,
    start: u64,
    end: u64,
    image_bytes: u64,
) -> Result<(), FetchError> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Err(FetchError::Status(response.status()));
    }
    let text = response.headers().get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok()).unwrap_or("");
    match parse_content_range(text) {
        Some((first, last, total))
            if first == start && last < end && total.is_none_or(|t| t == image_bytes) =>
        {
            Ok(())
        }
        _ => Err(FetchError::Range(text.chars().take(64).collect())),
    }
}

/// `bytes 0-4095/8192` or `bytes 0-4095/*` (RFC 9110 §14.4).
fn parse_content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((first.parse().ok()?, last.parse().ok()?, total))
}
