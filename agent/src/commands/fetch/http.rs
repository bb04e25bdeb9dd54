//! Chunks over HTTP/1.1, on a connection that is kept alive (RFC 9110 §14: `Range`).

use super::content_range;
use super::{Reading, SourceError};
use crate::limits::Limits;
use crate::manifest::Chunk;
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// A connection to rackd's image port.
#[derive(Default)]
pub(super) struct Http {
    connection: Option<Connection>,
}

/// Why one request failed. All of them are tried again: rackd may be restarting, and its image port
/// may answer 404 until it has read its journal.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
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

struct Connection {
    authority: String,
    sender: SendRequest<Empty<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

impl Http {
    /// After an error nothing is known of the connection.
    pub(super) fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Appends what is missing of the chunk to `data`.
    pub(super) async fn append(
        &mut self,
        url: &str,
        chunk: Chunk,
        data: &mut Vec<u8>,
        context: &Reading<'_>,
    ) -> Result<(), SourceError> {
        Ok(self.range(url, chunk, data, context).await?)
    }

    async fn range(
        &mut self,
        url: &str,
        chunk: Chunk,
        data: &mut Vec<u8>,
        context: &Reading<'_>,
    ) -> Result<(), HttpError> {
        let url: Uri = url.parse().map_err(|_| HttpError::Url)?;
        let start = chunk.offset + data.len() as u64;
        let end = chunk.offset + chunk.len;
        if start >= end {
            return Ok(());
        }
        let request = request(&url, start, end)?;
        let read_timeout = context.limits.read_timeout;
        let connection = self.connected(&url, context.limits).await?;
        let answer = async {
            connection.sender.ready().await?;
            connection.sender.send_request(request).await
        };
        let response =
            timeout(read_timeout, answer).await.map_err(|_| HttpError::Timeout(read_timeout))??;
        check(&response, start, end, context.image_bytes)?;
        let mut body = response.into_body();
        loop {
            let frame = timeout(read_timeout, body.frame());
            let Some(frame) = frame.await.map_err(|_| HttpError::Timeout(read_timeout))? else { break };
            let Ok(bytes) = frame?.into_data() else { continue };
            if data.len() as u64 + bytes.len() as u64 > chunk.len {
                return Err(HttpError::Long);
            }
            data.extend_from_slice(&bytes);
            context.pulse.beat();
        }
        match chunk.len - data.len() as u64 {
            0 => Ok(()),
            missing => Err(HttpError::Short(missing)),
        }
    }

    async fn connected(&mut self, url: &Uri, limits: &Limits) -> Result<&mut Connection, HttpError> {
        let authority = url.authority().ok_or(HttpError::Url)?;
        let usable =
            self.connection.take().filter(|c| c.authority == authority.as_str() && !c.sender.is_closed());
        let connection = match usable {
            Some(connection) => connection,
            None => {
                let host = authority.host().trim_matches(['[', ']']);
                let address = (host, authority.port_u16().unwrap_or(80));
                let wait = limits.connect_timeout;
                let tcp = timeout(wait, TcpStream::connect(address))
                    .await
                    .map_err(|_| HttpError::Timeout(wait))?
                    .map_err(HttpError::Connect)?;
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

/// RFC 9110 §14.1.2: both ends of a byte range are inclusive.
fn request(url: &Uri, start: u64, end: u64) -> Result<Request<Empty<Bytes>>, HttpError> {
    if url.scheme_str() != Some("http") {
        return Err(HttpError::Url);
    }
    let authority = url.authority().ok_or(HttpError::Url)?;
    Request::get(url.path_and_query().map_or("/", |p| p.as_str()))
        .header(header::HOST, authority.as_str())
        .header(header::RANGE, format!("bytes={start}-{}", end - 1))
        .body(Empty::new())
        .map_err(|_| HttpError::Url)
}

/// 206 with the first byte asked for; the server may send fewer, which the next request makes up for.
fn check(
    response: &http::Response<Incoming>,
    start: u64,
    end: u64,
    image_bytes: u64,
) -> Result<(), HttpError> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Err(HttpError::Status(response.status()));
    }
    let text = response.headers().get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok()).unwrap_or("");
    match content_range::parse(text) {
        Some((first, last, total))
            if first == start && last < end && total.is_none_or(|t| t == image_bytes) =>
        {
            Ok(())
        }
        _ => Err(HttpError::Range(text.chars().take(64).collect())),
    }
}
