//! One simulated Redfish service on one socket.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::config::RedfishConfig;
use super::faults::{self, Breakage, RedfishFaults};
use super::service::{Asked, Reply, Service};
use crate::bmc::Chassis;

/// Whole, or without end.
type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Longest body taken.
const MAX_BODY: usize = 64 * 1024;
/// Longest file taken.
const MAX_FILE: usize = 8 << 20;
/// Connections at once; more wait in the kernel.
const MAX_CONNECTIONS: usize = 64;
/// For a handshake, and for a request's head.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts simulated Redfish services.
pub struct RedfishServer;

impl RedfishServer {
    /// Runs a service on a listening socket until the handle is shut down or dropped.
    ///
    /// # Errors
    /// The socket has no local address.
    pub fn start(
        listener: TcpListener,
        mut config: RedfishConfig,
        chassis: Arc<dyn Chassis>,
    ) -> io::Result<RedfishHandle> {
        let address = listener.local_addr()?;
        if let IpAddr::V4(ip) = address.ip() {
            config.address.get_or_insert(ip);
        }
        let (faults, seen) = watch::channel(RedfishFaults::default());
        let shared = Arc::new(Shared {
            service: Mutex::new(Service::new(config, chassis)),
            faults: seen,
            requests: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            deaf_until: StdMutex::new(None),
            failed: AtomicU32::new(0),
            stop: CancellationToken::new(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(RedfishHandle { address, shared, faults, task: Some(task) })
    }
}

/// A running service. Dropping the handle stops it; [`RedfishHandle::shutdown`] also waits for it.
pub struct RedfishHandle {
    address: SocketAddr,
    shared: Arc<Shared>,
    faults: watch::Sender<RedfishFaults>,
    task: Option<JoinHandle<()>>,
}

impl RedfishHandle {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how it misbehaves, from the next request on.
    pub fn set_faults(&self, faults: RedfishFaults) {
        self.shared.failed.store(0, Ordering::Relaxed);
        self.faults.send_replace(faults);
    }

    /// How many of [`RedfishFaults::fails_first`] are still to fail.
    #[must_use]
    pub fn failures_left(&self) -> u32 {
        let times = self.faults.borrow().fails_first.as_ref().map_or(0, |one| one.times);
        times.saturating_sub(self.shared.failed.load(Ordering::Relaxed))
    }

    /// How many tasks were begun: updates of firmware, for example.
    pub async fn tasks_begun(&self) -> u64 {
        self.shared.service.lock().await.tasks.begun()
    }

    /// Forgets all sessions, as a restarting BMC does.
    pub async fn forget_sessions(&self) {
        self.shared.service.lock().await.sessions.forget_all();
    }

    /// Sessions now.
    pub async fn session_count(&self) -> usize {
        self.shared.service.lock().await.sessions.all(Instant::now()).len()
    }

    /// How often the BMC was restarted.
    pub async fn restarts(&self) -> u32 {
        self.shared.service.lock().await.restarts
    }

    /// Who listens to events now.
    pub async fn listeners(&self) -> usize {
        self.shared.service.lock().await.listeners()
    }

    /// Files that came by push, in order.
    pub async fn pushed(&self) -> Vec<super::update::Pushed> {
        self.shared.service.lock().await.pushed.clone()
    }

    /// Requests so far.
    #[must_use]
    pub fn request_count(&self) -> u32 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Connections now.
    #[must_use]
    pub fn connection_count(&self) -> u32 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Sessions that were opened so far: log-ins, as a real one writes them into its log.
    pub async fn log_ins(&self) -> u32 {
        self.shared.service.lock().await.sessions.opened()
    }

    /// Stops it and waits until its socket is closed.
    pub async fn shutdown(mut self) {
        self.shared.stop.cancel();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "a simulated service ended badly");
        }
    }
}

impl Drop for RedfishHandle {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

struct Shared {
    /// One request at a time.
    service: Mutex<Service>,
    faults: watch::Receiver<RedfishFaults>,
    requests: AtomicU32,
    connections: AtomicU32,
    /// It starts again.
    deaf_until: StdMutex<Option<Instant>>,
    /// Of [`RedfishFaults::fails_first`], since the faults were set.
    failed: AtomicU32,
    stop: CancellationToken,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let tls = shared.service.lock().await.tls();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => break,
            _ = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                let Ok((stream, peer)) = accepted else { continue };
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                connections.spawn(async move {
                    let _counted = Counted::new(&shared);
                    let stop = shared.stop.clone();
                    let served = stop.run_until_cancelled(connection(stream, tls, shared)).await;
                    if let Some(Err(error)) = served {
                        tracing::debug!(%peer, error = format!("{error:#}"), "connection ended");
                    }
                });
            }
        }
    }
    connections.shutdown().await;
}

/// A connection, until it ends.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<farrier_identity::device::SelfSigned>,
    shared: Arc<Shared>,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        Some(tls) => serve(tokio::time::timeout(PATIENCE, tls.accept(stream)).await??, shared).await,
        None => serve(stream, shared).await,
    }
}

async fn serve<S>(stream: S, shared: Arc<Shared>) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    Ok(server.serve_connection(TokioIo::new(stream), service).await?)
}

/// An error closes the connection without an answer.
async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
    let count = shared.requests.fetch_add(1, Ordering::Relaxed) + 1;
    let every = |n: Option<NonZeroU32>| n.is_some_and(|n| count.is_multiple_of(n.get()));
    let (head, body) = request.into_parts();
    let most = if head.uri.path() == super::update::PUSH { MAX_FILE } else { MAX_BODY };
    let body = Limited::new(body, most).collect().await.map_err(anyhow::Error::from_boxed)?.to_bytes();
    let asked = Asked {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body,
    };
    let faults = shared.faults.borrow().clone();
    if let Some(resets) = faults.resets {
        let now = Instant::now();
        // Nothing is awaited under it.
        let deaf = {
            let mut until = shared.deaf_until.lock().unwrap_or_else(PoisonError::into_inner);
            let restarts = count.is_multiple_of(resets.every.get());
            if restarts {
                *until = Some(now + resets.deaf);
            }
            restarts || until.is_some_and(|until| now < until)
        };
        if deaf {
            shared.service.lock().await.restart();
            anyhow::bail!("starts again");
        }
    }
    if faults.silent {
        std::future::pending::<()>().await;
    }
    if !faults.delay.is_zero() {
        tokio::time::sleep(faults.delay).await;
    }
    anyhow::ensure!(!every(faults.drop_every), "dropped");
    let path = asked.path.trim_end_matches('/');
    let broken = faults.broken.as_ref().filter(|one| asked.method == hyper::Method::GET && one.path == path);
    let broken = broken.map(|one| one.how);
    if faults.garbage || broken == Some(Breakage::NotJson) {
        let garbage = Bytes::from_static(b"<html>Redfish is starting\0\xff");
        return Ok(Response::new(Full::new(garbage).boxed_unsync()));
    }
    let is_root = path == super::resources::ROOT;
    let broken_status = match broken {
        Some(Breakage::Status(status)) => {
            Some(Reply::refusal(StatusCode::from_u16(status)?, "InternalError", "told to be broken"))
        }
        _ => None,
    };
    let fails = faults.fails_first.as_ref();
    let fails = fails.filter(|one| one.is_of(asked.method.as_str(), &asked.path, &asked.body));
    let fails = fails.filter(|one| shared.failed.fetch_add(1, Ordering::Relaxed) < one.times);
    let instead = match (&faults.redirect, faults.status) {
        _ if let Some(failing) = fails => {
            Some(Reply::refusal(StatusCode::from_u16(failing.status)?, "InternalError", "told to fail first"))
        }
        _ if let Some(status) = faults.wants_slash.filter(|_| !asked.path.ends_with('/')) => {
            Some(Reply::redirect(StatusCode::from_u16(status)?, &format!("{}/", asked.path)))
        }
        _ if broken_status.is_some() => broken_status,
        _ if faults.absent => {
            Some(Reply::refusal(StatusCode::NOT_FOUND, "ResourceMissingAtURI", "nothing here yet"))
        }
        (Some(to), _) => Some(Reply::redirect(StatusCode::TEMPORARY_REDIRECT, to)),
        (None, Some(status)) if !is_root => {
            Some(Reply::refusal(StatusCode::from_u16(status)?, "InternalError", "told to fail"))
        }
        _ if every(faults.busy_every) => {
            let id = "ServiceTemporarilyUnavailable";
            Some(Reply::refusal(StatusCode::SERVICE_UNAVAILABLE, id, "busy"))
        }
        _ => None,
    };
    let response = match instead {
        Some(reply) => reply.into_response()?,
        None => {
            let mut service = shared.service.lock().await;
            match service.listen(&asked, shared.faults.clone()) {
                Some(events) => stream(events)?,
                None => {
                    let reply = service.answer(&asked, &faults).await;
                    let mistyped = broken == Some(Breakage::WrongTypes);
                    if mistyped { reply.changed(faults::mistype) } else { reply }.into_response()?
                }
            }
        }
    };
    anyhow::ensure!(!faults.mute, "mute");
    if !faults.late.is_zero() {
        tokio::time::sleep(faults.late).await;
    }
    Ok(response)
}

/// Events as they come, in an answer without end.
fn stream(events: Body) -> Result<Response<Body>, hyper::http::Error> {
    let response = Response::builder().header(header::CONTENT_TYPE, "text/event-stream");
    response.header(header::CACHE_CONTROL, "no-cache").body(events)
}
