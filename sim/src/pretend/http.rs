//! HTTP as firmware and cloud-init speak it: one request a connection, from the machine's own address.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpSocket;

/// Kernels and initrds are read and thrown away; scripts are small.
const KEPT_BYTES: usize = 1 << 20;
/// For a whole exchange, on loopback.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// At most [`KEPT_BYTES`] of the body.
    pub(super) body: Vec<u8>,
    /// Length of the whole body.
    pub(super) length: u64,
}

#[derive(Debug, Error)]
pub(super) enum HttpError {
    #[error("{0:?} is no http URL with an address")]
    Url(String),
    #[error("no connection")]
    Connect(#[source] std::io::Error),
    #[error("the exchange broke off")]
    Exchange(#[from] hyper::Error),
    #[error("no answer in {PATIENCE:?}")]
    Timeout,
}

/// GET `url` from `source`.
pub(super) async fn get(source: Ipv4Addr, url: &str) -> Result<Answer, HttpError> {
    exchange(source, url, Method::GET, Bytes::new(), None).await
}

/// GET a part of `url` from `source`.
pub(super) async fn get_part(source: Ipv4Addr, url: &str, range: Range<u64>) -> Result<Answer, HttpError> {
    let range = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
    exchange(source, url, Method::GET, Bytes::new(), Some(range)).await
}

/// POST a form to `url` from `source`.
pub(super) async fn post(source: Ipv4Addr, url: &str, form: String) -> Result<Answer, HttpError> {
    exchange(source, url, Method::POST, form.into(), None).await
}

async fn exchange(
    source: Ipv4Addr,
    url: &str,
    method: Method,
    body: Bytes,
    range: Option<String>,
) -> Result<Answer, HttpError> {
    let bad = || HttpError::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(bad)?;
    let port = authority.port_u16().unwrap_or(80);
    let server = SocketAddr::new(authority.host().parse().map_err(|_| bad())?, port);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().method(method.clone()).uri(path).header("host", authority.as_str());
    if method == Method::POST {
        request = request.header("content-type", "application/x-www-form-urlencoded");
    }
    if let Some(range) = range {
        request = request.header("range", range);
    }
    let request = request.body(Full::new(body)).map_err(|_| bad())?;
    tokio::time::timeout(PATIENCE, send(source, server, request)).await.map_err(|_| HttpError::Timeout)?
}

async fn send(
    source: Ipv4Addr,
    server: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<Answer, HttpError> {
    let stream = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        socket.connect(server).await
    };
    let stream = stream.await.map_err(HttpError::Connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let mut response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let (mut body, mut length) = (Vec::new(), 0);
        while let Some(frame) = response.body_mut().frame().await {
            if let Ok(data) = frame?.into_data() {
                length += data.len() as u64;
                let room = KEPT_BYTES.saturating_sub(body.len());
                body.extend(data.iter().take(room));
            }
        }
        Ok(Answer { status, body, length })
    };
    // The connection is driven here, not in a task of its own: whoever drops us ends it.
    let (answer, _) = tokio::join!(answer, connection);
    answer
}
