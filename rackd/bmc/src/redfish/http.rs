//! One exchange on the BMC's one connection, bounded in time and size.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::address::RedfishAddress;
use super::connections::{Connections, Owner};
use super::dial::{Dial, DialError};
use super::tuning::Tuning;

/// Bytes and number of the headers of an answer.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;

/// The session's token (DSP0266 §13.3.5).
pub(super) const X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// A header's text.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why nothing, or nothing whole, came back.
#[derive(Debug)]
pub(crate) enum Failed {
    Dial(DialError),
    /// As many BMCs are talked to as may be, until the end.
    NoPlace,
    /// No connection in time.
    NotConnected,
    /// Not sent, or not on a connection that the BMC still knew: sending it on another does no harm.
    Stale,
    /// What came is not HTTP.
    NoHttp(String),
    /// It may have been obeyed.
    Broken(String),
    /// It may have been obeyed.
    Late,
    /// Obeyed, but the answer is longer than anybody reads.
    TooLong,
}

/// An answer that is still coming, and its connection.
pub(super) struct Streaming {
    pub(super) response: Response<Incoming>,
    _open: Open,
}

/// The way to a BMC, on one connection while there is one.
pub(crate) struct Http {
    address: Arc<RedfishAddress>,
    dial: Arc<dyn Dial>,
    pub(super) tuning: Tuning,
    /// Of all BMCs together.
    connections: Arc<Connections>,
    owner: Owner,
}

/// A connection.
pub(super) struct Open<B = Full<Bytes>> {
    _place: OwnedSemaphorePermit,
    sender: SendRequest<B>,
    /// Ends with us: nobody else reads the connection.
    _driver: AbortOnDropHandle<()>,
}

impl Http {
    pub(crate) fn new(
        address: Arc<RedfishAddress>,
        dial: Arc<dyn Dial>,
        tuning: Tuning,
        connections: Arc<Connections>,
    ) -> Self {
        let owner = connections.new_owner();
        Self { address, dial, tuning, connections, owner }
    }

    /// Sends a request and reads its answer, until `limit` and of `most` bytes at most. Dropped half way it takes the connection along,
    /// so that no answer is taken for another's.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        limit: Instant,
        most: usize,
    ) -> Result<Answer, Failed> {
        let reused = self.connections.take(self.owner).filter(|open| !open.sender.is_closed());
        let (mut open, is_old) = match reused {
            Some(open) => (open, true),
            None => (self.connect(limit).await?, false),
        };
        let limit = limit.min(Instant::now() + self.tuning.request_timeout);
        let (answer, open) = timeout_at(limit, async move {
            let response = match open.sender.try_send_request(request).await {
                Ok(response) => response,
                Err(mut error) => {
                    // The connection was closed in between and the request never left.
                    let unsent = error.take_message().is_some();
                    return Err(if unsent && is_old { Failed::Stale } else { broken(&error.into_error()) });
                }
            };
            let answer = read(response, most).await?;
            Ok((answer, open))
        })
        .await
        .map_err(|_| Failed::Late)??;
        // RFC 9112 §9.6: the BMC said that it closes the connection after this answer.
        let closes = answer.header(&header::CONNECTION).is_some_and(|v| v.eq_ignore_ascii_case("close"));
        if !closes {
            self.connections.leave(self.owner, open);
        }
        Ok(answer)
    }

    /// As many as are wanted beside this one, each counted among those of all BMCs.
    pub(super) fn another(&self) -> Self {
        Self::new(
            Arc::clone(&self.address),
            Arc::clone(&self.dial),
            self.tuning,
            Arc::clone(&self.connections),
        )
    }

    pub(super) fn address(&self) -> &RedfishAddress {
        &self.address
    }

    /// Sends a request on a connection of its own, whose answer has no end. The connection is made until `limit`; for the
    /// answer's head there is none, since some services send it with the first event.
    pub(super) async fn stream(
        &self,
        request: Request<Full<Bytes>>,
        limit: Instant,
    ) -> Result<Streaming, Failed> {
        let mut open = self.connect(limit).await?;
        let response = open.sender.send_request(request).await.map_err(|error| broken(&error))?;
        Ok(Streaming { response, _open: open })
    }

    /// Sends a request with a long body on a connection of its own, and reads its answer, until `limit`.
    pub(super) async fn send_large<B>(
        &self,
        request: Request<B>,
        limit: Instant,
        most: usize,
    ) -> Result<Answer, Failed>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut open = self.connect(limit).await?;
        let exchange = async {
            let response = open.sender.send_request(request).await.map_err(|error| broken(&error))?;
            read(response, most).await
        };
        timeout_at(limit, exchange).await.map_err(|_| Failed::Late)?
    }

    pub(crate) fn is_open(&self) -> bool {
        self.connections.has(self.owner)
    }

    pub(crate) fn close(&mut self) {
        drop(self.connections.take(self.owner));
    }

    async fn connect<B>(&self, limit: Instant) -> Result<Open<B>, Failed>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let place = self.connections.place(limit).await.ok_or(Failed::NoPlace)?;
        let limit = limit.min(Instant::now() + self.tuning.connect_timeout);
        let stream = timeout_at(limit, self.dial.dial(&self.address)).await;
        let stream = stream.map_err(|_| Failed::NotConnected)?.map_err(Failed::Dial)?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let addr = self.address.addr;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(bmc.addr = %addr, %error, "connection ended");
            }
        });
        Ok(Open { _place: place, sender, _driver: AbortOnDropHandle::new(driver) })
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.close();
    }
}

/// All of an answer.
async fn read(mut response: Response<Incoming>, most: usize) -> Result<Answer, Failed> {
    let mut body = Vec::new();
    while let Some(frame) = response.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        if body.len() + data.len() > most {
            return Err(Failed::TooLong);
        }
        body.extend_from_slice(&data);
    }
    let (head, _) = response.into_parts();
    Ok(Answer { status: head.status, headers: head.headers, body: body.into() })
}

/// hyper says what failed, its source why.
fn broken(error: &hyper::Error) -> Failed {
    let words = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    if error.is_parse() { Failed::NoHttp(words) } else { Failed::Broken(words) }
}
