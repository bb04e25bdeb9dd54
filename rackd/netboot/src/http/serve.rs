//! The HTTP/1 server: bounded in connections and in patience.

use std::{convert::Infallible, net::IpAddr, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request};
use farrier_model::Shares;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{head, plain};

/// Bounds of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; more wait in the kernel's queue.
    pub connections: usize,
    /// Of these, one address has no more than so many once half of all are taken; what is more is closed.
    pub share: usize,
    /// How long a client may take over the head of a request. Also how long an idle connection is kept.
    pub header_timeout: Duration,
    /// How long sent bytes may stay unacknowledged, or a full receive window closed (RFC 5482).
    pub stall: Duration,
    /// How long running downloads may go on after shutdown was asked for.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // A hall of machines that read their kernels and images for minutes, and still a place for who asks for a script:
        // firmware waits some seconds for an answer. An idle connection costs a few kilobytes.
        Self {
            connections: 4096,
            share: 16,
            header_timeout: Duration::from_secs(10),
            stall: Duration::from_secs(60),
            grace: Duration::from_secs(5),
        }
    }
}

/// Serves `router` until `shutdown`, then lets running requests end within the grace period. Handlers get the
/// peer's address as `ConnectInfo<SocketAddr>`.
/// `crowded` hears of whose connections are closed unheard, since its address has its share.
pub async fn serve(
    listener: TcpListener,
    crowded: impl Fn(IpAddr) + Send + Sync + 'static,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let (own, stop) = (limits.clone(), shutdown.clone());
    let talk = move |stream, peer| {
        let (router, limits, shutdown) = (router.clone(), own.clone(), stop.clone());
        async move { plain::connection(stream, peer, router, &limits, &shutdown).await }
    };
    accept_all(listener, talk, crowded, limits, shutdown).await;
}

/// The same over streams that `secure` makes of connections: https, by whoever knows TLS. It has as long as the head of a
/// request. `failed` hears of whom there is none with, and why; `crowded` as in [`serve`].
pub async fn serve_with<T, S, F>(
    listener: TcpListener,
    secure: T,
    failed: impl Fn(IpAddr, &str) + Clone + Send + Sync + 'static,
    crowded: impl Fn(IpAddr) + Send + Sync + 'static,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) where
    T: Fn(TcpStream) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = std::io::Result<S>> + Send,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (own, stop) = (limits.clone(), shutdown.clone());
    let talk = move |stream, peer| {
        let (secure, router, limits, shutdown) = (secure.clone(), router.clone(), own.clone(), stop.clone());
        let failed = failed.clone();
        async move {
            match tokio::time::timeout(limits.header_timeout, secure(stream)).await {
                Ok(Ok(stream)) => connection(stream, peer, router, &limits, &shutdown).await,
                Ok(Err(error)) => failed(peer.ip(), &error.to_string()),
                Err(_) => failed(peer.ip(), &format!("none within {} s", limits.header_timeout.as_secs())),
            }
        }
    };
    accept_all(listener, talk, crowded, limits, shutdown).await;
}

/// The same on a socket in the file system, for who is on this host: few, and they have no addresses.
pub async fn serve_unix(listener: UnixListener, router: Router, limits: Limits, shutdown: CancellationToken) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let (connections, abort) = (TaskTracker::new(), CancellationToken::new());
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>((listener.accept().await?.0, permit))
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accepted => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "{NOT_ACCEPTED}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (router, limits, shutdown, abort) =
            (router.clone(), limits.clone(), shutdown.clone(), abort.clone());
        connections.spawn(async move {
            // A local program that reads nothing has as long as one over the network.
            let whole =
                tokio::time::timeout(limits.stall, connection(stream, NOBODY, router, &limits, &shutdown));
            tokio::select! {
                _ = whole => {}
                () = abort.cancelled() => {}
            }
            drop(permit);
        });
    }
    connections.close();
    if tokio::time::timeout(limits.grace, connections.wait()).await.is_err() {
        abort.cancel();
        connections.wait().await;
    }
}

/// Has each connection talked to, within the limits.
async fn accept_all<T, F>(
    listener: TcpListener,
    talk: T,
    crowded: impl Fn(IpAddr),
    limits: Limits,
    shutdown: CancellationToken,
) where
    T: Fn(TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(limits.connections));
    let shares = Shares::new(limits.connections / 2, limits.share);
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let (stream, peer, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or a peer that left: neither ends the server.
                tracing::warn!(%error, "{NOT_ACCEPTED}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(share) = shares.take(peer.ip().to_canonical()) else {
            crowded(peer.ip().to_canonical());
            continue;
        };
        // An IPv4 address is written as one, also where one socket takes both.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let _ = stream.set_nodelay(true);
        // A peer that takes nothing of what it asked for, or is gone, holds its place no longer than this.
        let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(limits.stall));
        let (work, abort) = (talk(stream, peer), abort.clone());
        connections.spawn(async move {
            tokio::select! {
                () = work => {}
                () = abort.cancelled() => {}
            }
            drop((permit, share));
        });
    }
    connections.close();
    if tokio::time::timeout(limits.grace, connections.wait()).await.is_err() {
        abort.cancel();
        connections.wait().await;
    }
}

/// It is tried again at once: the kernel keeps those that wait.
const NOT_ACCEPTED: &str = "http accept failed: who asks waits; where too many files are open, raise the limit (LimitNOFILE of \
                            the unit, or `ulimit -n`)";

/// Whose address is none.
const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// Cancel-safe: a permit that was taken is given back.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> std::io::Result<Accepted> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

/// By hyper, which takes any request.
pub(super) async fn connection<S>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    limits: &Limits,
    shutdown: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let answer = tower::ServiceExt::oneshot(router, request).await;
            Ok::<_, Infallible>(match answer {
                Ok(response) => response,
                Err(never) => match never {},
            })
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        // Of a head without an end it would keep 400 KiB, for each of thousands of connections.
        .max_buf_size(head::LONGEST)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "http connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpSocket;

    async fn from(source: [u8; 4], to: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::from(source), 0).into()).unwrap();
        socket.connect(to).await.unwrap()
    }

    #[tokio::test]
    async fn one_address_cannot_take_all_places() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(|| async { "hello" });
        let shutdown = CancellationToken::new();
        let patience = Duration::from_secs(600);
        let limits = Limits { connections: 16, share: 4, header_timeout: patience, ..Limits::default() };
        let (told, crowded) = std::sync::mpsc::channel();
        let tell = move |peer| told.send(peer).unwrap();
        let server = tokio::spawn(serve(listener, tell, router, limits, shutdown.clone()));
        let mut hogs = Vec::new();
        for _ in 0..40 {
            let mut hog = from([127, 0, 0, 2], address).await;
            // It may be closed already.
            let _ = hog.write_all(b"POST /phone-home/x/y HTTP/1.1\r\nHost: x\r\nContent-").await;
            hogs.push(hog);
        }
        for _ in 0..3 {
            let mut honest = from([127, 0, 0, 1], address).await;
            honest.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            honest.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("hello"), "{answer}");
        }
        drop(hogs);
        shutdown.cancel();
        server.await.unwrap();
        let closed: Vec<_> = crowded.iter().collect();
        assert_eq!(closed, vec![IpAddr::from([127, 0, 0, 2]); 40 - 8], "each that was closed is told");
    }
}
