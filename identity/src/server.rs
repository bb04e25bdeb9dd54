//! The server side: a TCP listener that yields TLS streams with the peer's identity.

use crate::{Credentials, Identity, verify};
use farrier_model::{Share, Shares};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// A handshake that takes longer is a slow-loris or a dead link.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way at once; more wait in the kernel's accept queue.
const HANDSHAKES: usize = 256;
/// What one address has of those under way, and of the connections without a certificate, once half of them
/// are taken.
const SHARE: usize = 16;

/// How many connections a server has at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All of them; more wait in the kernel's accept queue until one ends.
    pub connections: usize,
    /// Those without a certificate, where they may come at all; more are closed at once. Whoever proves
    /// nothing must not be able to keep out those who can.
    pub anonymous: usize,
}

impl Default for Limits {
    /// A rack of a few hundred ramdisks or a centre of a thousand racks, with room; a descriptor and some
    /// tens of KiB each. Without a certificate one only joins or registers, which takes a moment.
    fn default() -> Self {
        Self { connections: 2048, anonymous: 256 }
    }
}

/// Whether a client may come without a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate, no connection.
    Required,
    /// A client without a certificate is let in with no identity; only RPCs whose rule says so answer it.
    Optional,
}

/// Who is connected: put into each request's extensions by tonic.
#[derive(Debug, Clone)]
pub struct Peer {
    pub addr: SocketAddr,
    /// `None` only where [`ClientAuth::Optional`] was chosen and no certificate came.
    pub identity: Option<Identity>,
}

/// A connection whose handshake is done.
pub struct TlsConnection {
    stream: tokio_rustls::server::TlsStream<TcpStream>,
    peer: Peer,
    /// Its place among the connections, and among those without a certificate.
    _places: (OwnedSemaphorePermit, Option<Anonymous>),
}

type Anonymous = (OwnedSemaphorePermit, Share<IpAddr>);

/// Accepts for ever. The stream ends when the returned task handle's listener is dropped by dropping the
/// stream. Failed handshakes are logged and cost nothing else.
pub fn accept(
    listener: TcpListener,
    credentials: Credentials,
    auth: ClientAuth,
    limits: Limits,
) -> ReceiverStream<Result<TlsConnection, std::io::Error>> {
    let (tx, rx) = mpsc::channel(64);
    tokio::spawn(async move {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        let connections = Arc::new(Semaphore::new(limits.connections));
        let anonymous = Arc::new(Semaphore::new(limits.anonymous));
        let unproven = Shares::new(HANDSHAKES.min(limits.anonymous) / 2, SHARE);
        loop {
            let place = tokio::select! {
                place = connections.clone().acquire_owned() => place,
                () = tx.closed() => return,
            };
            let Ok(place) = place else { return };
            let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = tx.closed() => return,
            };
            let (tcp, addr) = match accepted {
                Ok(pair) => pair,
                Err(error) => {
                    // Out of descriptors, or the peer left: wait for the situation to change.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            // Nobody has proved anything yet: one silent address must not keep the others out.
            let Some(share) = unproven.take(addr.ip().to_canonical()) else {
                tracing::debug!(peer = %addr, "closed: its address has its share of those that prove nothing");
                continue;
            };
            let _ = tcp.set_nodelay(true);
            let loaded = credentials.loaded();
            let config = match auth {
                ClientAuth::Required => loaded.server_required.clone(),
                ClientAuth::Optional => loaded.server_optional.clone(),
            };
            let (tx, anonymous) = (tx.clone(), anonymous.clone());
            tokio::spawn(async move {
                let _permit = permit;
                let acceptor = tokio_rustls::TlsAcceptor::from(config);
                match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await {
                    Ok(Ok(stream)) => {
                        let certs = stream.get_ref().1.peer_certificates();
                        let identity = match certs.and_then(|c| c.first()).map(verify::identity) {
                            None => None,
                            Some(Ok(identity)) => Some(identity),
                            Some(Err(error)) => {
                                tracing::warn!(peer = %addr, %error, "client certificate without a farrier identity");
                                return;
                            }
                        };
                        let unproven = match identity {
                            Some(_) => None,
                            None => match anonymous.try_acquire_owned() {
                                Ok(place) => Some((place, share)),
                                Err(_) => {
                                    tracing::warn!(peer = %addr, "too many connections without a certificate");
                                    return;
                                }
                            },
                        };
                        let peer = Peer { addr, identity };
                        let _ = tx.send(Ok(TlsConnection { stream, peer, _places: (place, unproven) })).await;
                    }
                    Ok(Err(error)) => tracing::info!(peer = %addr, %error, "TLS handshake refused"),
                    Err(_) => tracing::info!(peer = %addr, "TLS handshake timed out"),
                }
            });
        }
    });
    ReceiverStream::new(rx)
}

impl Connected for TlsConnection {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
