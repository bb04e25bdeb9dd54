//! One simulated chassis on one socket.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::service::{SeaMicroConfig, Service, refusal};

/// Longest body taken.
const MAX_BODY: usize = 64 * 1024;
/// Connections at once; more wait in the kernel.
const MAX_CONNECTIONS: usize = 256;
/// For a request's head.
const PATIENCE: Duration = Duration::from_secs(10);
/// The beginning of an answer whose end never comes.
const TRUNCATED: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n{\"active\": tr";

/// Ways in which the chassis misbehaves, set while it runs. The default is a healthy one.
#[derive(Debug, Clone, Default)]
pub struct SeaMicroFaults {
    /// Requests for this server are never answered; the others' are.
    pub silent_server: Option<String>,
    /// On every nth request the connection is closed instead of anything else.
    pub drop_every: Option<NonZeroU32>,
    /// Every nth request is answered 503 instead of anything else.
    pub busy_every: Option<NonZeroU32>,
    /// Every request is answered with this status.
    pub status: Option<u16>,
    /// Every request is answered 200 with this.
    pub garbage: Option<&'static str>,
    /// Every answer ends before its end.
    pub truncated: bool,
    /// Changes are made and the connection closed without an answer.
    pub mute: bool,
    /// Says yes to changes and does not make them.
    pub forgets: bool,
}

/// Starts simulated chassis.
pub struct SeaMicroServer;

impl SeaMicroServer {
    /// Runs a chassis on a listening socket until the handle is shut down or dropped.
    ///
    /// # Errors
    /// The socket has no local address.
    pub fn start(listener: TcpListener, config: SeaMicroConfig) -> io::Result<SeaMicroHandle> {
        let address = listener.local_addr()?;
        let (faults, seen) = watch::channel(SeaMicroFaults::default());
        let shared = Arc::new(Shared {
            service: Mutex::new(Service::new(config)),
            faults: seen,
            requests: AtomicU32::new(0),
            stop: CancellationToken::new(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(SeaMicroHandle { address, shared, faults, task: Some(task) })
    }
}

/// A running chassis. Dropping the handle stops it; [`SeaMicroHandle::shutdown`] also waits for it.
pub struct SeaMicroHandle {
    address: SocketAddr,
    shared: Arc<Shared>,
    faults: watch::Sender<SeaMicroFaults>,
    task: Option<JoinHandle<()>>,
}

impl SeaMicroHandle {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how it misbehaves, from the next request on.
    pub fn set_faults(&self, faults: SeaMicroFaults) {
        self.faults.send_replace(faults);
    }

    /// Requests so far.
    #[must_use]
    pub fn request_count(&self) -> u32 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// The orders of boot devices that servers were given, in turn.
    pub async fn orders(&self, server: &str) -> Vec<String> {
        self.shared.service.lock().await.servers.orders(server)
    }

    /// Stops it and waits until its socket is closed.
    pub async fn shutdown(mut self) {
        self.shared.stop.cancel();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "a simulated chassis ended badly");
        }
    }
}

impl Drop for SeaMicroHandle {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

struct Shared {
    service: Mutex<Service>,
    faults: watch::Receiver<SeaMicroFaults>,
    requests: AtomicU32,
    stop: CancellationToken,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => break,
            _ = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                let Ok((stream, peer)) = accepted else { continue };
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let stop = shared.stop.clone();
                    let served = stop.run_until_cancelled(connection(stream, shared)).await;
                    if let Some(Err(error)) = served {
                        tracing::debug!(%peer, error = format!("{error:#}"), "connection ended");
                    }
                });
            }
        }
    }
    connections.shutdown().await;
}

async fn connection(mut stream: TcpStream, shared: Arc<Shared>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    if shared.faults.borrow().truncated {
        stream.readable().await?;
        shared.requests.fetch_add(1, Ordering::Relaxed);
        stream.write_all(TRUNCATED).await?;
        return Ok(stream.shutdown().await?);
    }
    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    Ok(server.serve_connection(TokioIo::new(stream), service).await?)
}

/// An error closes the connection without an answer.
async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
    let count = shared.requests.fetch_add(1, Ordering::Relaxed) + 1;
    let every = |n: Option<NonZeroU32>| n.is_some_and(|n| count.is_multiple_of(n.get()));
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(anyhow::Error::from_boxed)?.to_bytes();
    let faults = shared.faults.borrow().clone();
    let path = head.uri.path();
    if faults.silent_server.as_ref().is_some_and(|server| path.ends_with(&format!("/{server}"))) {
        std::future::pending::<()>().await;
    }
    anyhow::ensure!(!every(faults.drop_every), "dropped");
    if let Some(garbage) = faults.garbage {
        return Ok(Response::new(Full::new(Bytes::from_static(garbage.as_bytes()))));
    }
    let (status, body) = match faults.status {
        Some(status) => refusal(StatusCode::from_u16(status)?, "told to fail"),
        None if every(faults.busy_every) => refusal(StatusCode::SERVICE_UNAVAILABLE, "busy"),
        None => {
            let query = head.uri.query().unwrap_or_default();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            shared.service.lock().await.answer(&head.method, path, query, &body, faults.forgets).await
        }
    };
    anyhow::ensure!(!faults.mute || head.method == hyper::Method::GET, "mute");
    let answer = Response::builder().status(status).header("Content-Type", "application/json");
    Ok(answer.body(Full::new(body.to_string().into()))?)
}
