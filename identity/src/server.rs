//! The server side: a TCP listener that yields TLS streams with the peer's identity.

use crate::{Credentials, Identity, verify};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// A handshake that takes longer is a slow-loris or a dead link.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way at once; more wait in the kernel's accept queue.
const HANDSHAKES: usize = 256;

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
}

/// Accepts for ever. The stream ends when the returned task handle's listener is dropped by dropping the
/// stream. Failed handshakes are logged and cost nothing else.
pub fn accept(
    listener: TcpListener,
    credentials: Credentials,
    auth: ClientAuth,
) -> ReceiverStream<Result<TlsConnection, std::io::Error>> {
    let (tx, rx) = mpsc::channel(64);
    tokio::spawn(async move {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        loop {
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
            let _ = tcp.set_nodelay(true);
            let loaded = credentials.loaded();
            let config = match auth {
                ClientAuth::Required => loaded.server_required.clone(),
                ClientAuth::Optional => loaded.server_optional.clone(),
            };
            let tx = tx.clone();
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
                        let _ = tx.send(Ok(TlsConnection { stream, peer: Peer { addr, identity } })).await;
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
