//! Connections without TLS. What is read from them is answered here, so that the kernel sends the files; the first request
//! of any other kind goes to hyper, and the connection with it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::SystemTime;

use axum::body::{Body, HttpBody as _};
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, Response, header};
use axum::{Router, response::IntoResponse as _};
use bytes::{Buf as _, BytesMut};
use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::content::Offered;
use super::head::{self, Head};
use super::sendfile;
use super::serve::{self, Limits};

pub(super) async fn connection(
    mut stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: &Limits,
    shutdown: &CancellationToken,
) {
    let mut read = BytesMut::with_capacity(1024);
    loop {
        // Bytes behind a request are the next one.
        let next = tokio::select! {
            next = tokio::time::timeout(limits.header_timeout, next(&mut stream, &mut read)) => next,
            () = shutdown.cancelled() => return,
        };
        let request = match next {
            Ok(Ok(Some(Head::Read { request, len }))) => {
                read.advance(len);
                request
            }
            Ok(Ok(Some(Head::Other | Head::Partial))) => {
                let (from, to) = stream.into_split();
                let from = tokio::io::AsyncReadExt::chain(io::Cursor::new(read.freeze()), from);
                let stream = tokio::io::join(from, to);
                return serve::connection(stream, peer, router, limits, shutdown).await;
            }
            Ok(Ok(None)) => return,
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "http connection ended");
                return;
            }
            Err(_) => {
                tracing::debug!(%peer, "an http connection asks for nothing");
                return;
            }
        };
        match answer(&mut stream, peer, router.clone(), *request, shutdown).await {
            Ok(true) => {}
            Ok(false) => {
                let _ = stream.shutdown().await;
                return;
            }
            Err(error) => {
                tracing::debug!(%peer, %error, "http connection ended");
                return;
            }
        }
    }
}

/// The next head; `None`: there is no further request. What was read stays when this is dropped.
async fn next(stream: &mut TcpStream, read: &mut BytesMut) -> io::Result<Option<Head>> {
    loop {
        match head::parse(read) {
            Head::Partial => {}
            whole => return Ok(Some(whole)),
        }
        if stream.read_buf(read).await? == 0 {
            return Ok(None);
        }
    }
}

/// Whether another request may follow.
async fn answer(
    stream: &mut TcpStream,
    peer: SocketAddr,
    router: Router,
    request: Request<()>,
    shutdown: &CancellationToken,
) -> io::Result<bool> {
    let method = request.method().clone();
    let last = head::says(request.headers(), "close");
    let mut request = request.map(|()| Body::empty());
    request.extensions_mut().insert(ConnectInfo(peer));
    let answer: Result<_, Infallible> = tower::ServiceExt::oneshot(router, request).await;
    let mut response = answer.into_response();
    let bodiless = head::has_no_body(&method, response.status());
    let unknown = !bodiless && !has_length(&mut response);
    let last = last || unknown || shutdown.is_cancelled() || head::says(response.headers(), "close");
    if last {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    stream.write_all(&head::write(&response, &httpdate::fmt_http_date(SystemTime::now()))).await?;
    if bodiless {
        return Ok(!last);
    }
    match response.extensions().get::<Offered>().and_then(Offered::take) {
        Some(content) => sendfile::send(stream, content).await?,
        None => {
            let mut chunks = response.into_body().into_data_stream();
            while let Some(chunk) = chunks.next().await {
                stream.write_all(&chunk.map_err(io::Error::other)?).await?;
            }
        }
    }
    Ok(!last)
}

/// Whether the answer says how long it is; else its end is the connection's (RFC 9112 §6.3).
fn has_length(response: &mut Response<Body>) -> bool {
    if response.headers().contains_key(header::CONTENT_LENGTH) {
        return true;
    }
    let length = response.body().size_hint().exact();
    if let Some(length) = length {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    length.is_some()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::{Path, PathBuf};

    use axum::http::HeaderMap;
    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::*;
    use crate::Artifact;

    /// `/file` is a file, `/stream` says nothing of its length, and what is posted comes back.
    async fn server(file: &Path) -> SocketAddr {
        let file = file.to_owned();
        let respond = async move |method, headers: HeaderMap| {
            super::super::respond(Artifact::File(file.clone()), &method, &headers, |_| ()).await
        };
        let chunks = || futures::stream::iter([Ok::<_, Infallible>("one "), Ok("two")]);
        let router = Router::new()
            .route("/file", get(async move |method, headers| respond(method, headers).await))
            .route("/stream", get(async move || Body::from_stream(chunks())))
            .route("/echo", axum::routing::post(async |body: String| body));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve::serve(listener, |_| (), router, Limits::default(), CancellationToken::new()));
        address
    }

    /// All that a client hears that says all of `requests` at once.
    async fn say(server: SocketAddr, requests: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(server).await.unwrap();
        stream.write_all(requests.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        heard
    }

    fn file(dir: &Path, bytes: &[u8]) -> PathBuf {
        let path = dir.join("file");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[tokio::test]
    async fn requests_of_all_kinds_follow_each_other_on_one_connection() {
        let dir = tempfile::tempdir().unwrap();
        let server = server(&file(dir.path(), b"0123456789")).await;
        let get = |part| format!("GET /file HTTP/1.1\r\nHost: x\r\nRange: bytes={part}\r\n\r\n");
        let post = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nposts";
        let last = "GET /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let heard = say(server, &[&get("0-1"), &get("4-5"), post, last].concat()).await;
        let heard = String::from_utf8(heard).unwrap();
        let bodies: Vec<_> =
            heard.split("HTTP/1.1 ").skip(1).map(|a| a.split_once("\r\n\r\n").unwrap().1).collect();
        assert_eq!(bodies, ["01", "45", "posts", "0123456789"], "{heard}");
    }

    #[tokio::test]
    async fn an_answer_of_unknown_length_ends_with_its_connection() {
        let dir = tempfile::tempdir().unwrap();
        let server = server(&file(dir.path(), b"")).await;
        let heard = say(server, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let heard = String::from_utf8(heard).unwrap();
        assert!(heard.contains("connection: close") && heard.ends_with("one two"), "{heard}");
        let head = say(server, "HEAD /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(head.ends_with(b"\r\n\r\n"));
        // What is no HTTP is hyper's to complain of.
        assert!(say(server, "nonsense\r\n\r\n").await.starts_with(b"HTTP/1.1 400"));
    }

    /// More than a socket takes at once, not in memory at first; and then less than was promised.
    #[tokio::test]
    async fn a_file_goes_out_whole_or_its_connection_ends() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let bytes: Vec<u8> = (0..9_000_001_u32).map(|n| (n.wrapping_mul(0x9E37_79B1) >> 24) as u8).collect();
        let path = file(dir.path(), &bytes);
        let open = File::open(&path).unwrap();
        open.sync_all().unwrap();
        rustix::fs::fadvise(&open, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let request = "GET /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let heard = say(server(&path).await, request).await;
        assert!(heard.ends_with(&bytes));

        let (from, to) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), dir.path().join("file"));
        let mut client = TcpStream::connect(from.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = from.accept().await.unwrap();
        let promised = bytes.len() as u64 + 1;
        let slice = super::super::content::Slice::File {
            file: super::super::content::Source::Open(File::open(to).unwrap()),
            start: 0,
            len: promised,
        };
        let (told, hears) = std::sync::mpsc::channel();
        let content = super::super::content::Content::new(vec![slice], move |sent| told.send(sent).unwrap());
        let mut heard = Vec::new();
        let (sent, _) = tokio::join!(
            async {
                let sent = sendfile::send(&mut stream, content).await;
                drop(stream);
                sent
            },
            client.read_to_end(&mut heard)
        );
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!((heard.len(), hears.recv().unwrap()), (bytes.len(), bytes.len() as u64));
    }
}
