//! The client side: a tonic channel that proves who it is and checks who answers.

use crate::verify::{SpiffeVerifier, Trust};
use crate::{Credentials, Identity, IdentityError, provider};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

/// Connect and handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that is silent for this long after a ping is gone.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Whom a client expects to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Exactly this identity.
    Exactly(Identity),
    /// Any service of this installation.
    AnyService,
    /// Any rack: an operator on site, who has an address only.
    AnyRack,
    /// Any server of this installation.
    AnyServer,
}

impl Expect {
    fn admits(&self, id: &Identity) -> bool {
        match self {
            Expect::Exactly(expected) => expected == id,
            Expect::AnyService => matches!(id, Identity::Service(_)),
            Expect::AnyRack => matches!(id, Identity::Rack(_)),
            Expect::AnyServer => matches!(id, Identity::Service(_) | Identity::Rack(_)),
        }
    }
}

/// A channel to `uri` (`https://host:port`) that connects when first used and again after each break.
/// Certificates are read at every connection, so a rotation needs no restart.
pub fn channel(uri: &str, credentials: &Credentials, expect: Expect) -> Result<Channel, IdentityError> {
    connect(uri, config_of(credentials, expect), None)
}

/// As [`channel`], for unary calls: one that has no answer within `deadline` ends as cancelled. Keepalive
/// finds a peer that is gone; this finds one that is there and hangs.
pub fn channel_with_deadline(
    uri: &str,
    credentials: &Credentials,
    expect: Expect,
    deadline: Duration,
) -> Result<Channel, IdentityError> {
    connect(uri, config_of(credentials, expect), Some(deadline))
}

fn config_of(credentials: &Credentials, expect: Expect) -> Arc<ConfigFn> {
    let credentials = credentials.clone();
    let config = move || {
        let loaded = credentials.loaded();
        let expect = expect.clone();
        client_config(
            Trust::Roots(loaded.roots.clone()),
            Box::new(move |id| expect.admits(id)),
            Some((loaded.chain.clone(), loaded.key.clone_key())),
        )
    };
    Arc::new(config)
}

/// A channel without a client certificate to a server known by the SHA-256 of its authority.
pub fn pinned_channel(uri: &str, ca_sha256: [u8; 32]) -> Result<Channel, IdentityError> {
    let config =
        move || client_config(Trust::Pin(ca_sha256), Box::new(|id| Expect::AnyServer.admits(id)), None);
    connect(uri, Arc::new(config), None)
}

type ConfigFn = dyn Fn() -> Result<rustls::ClientConfig, IdentityError> + Send + Sync;

pub(crate) fn client_config(
    trust: Trust,
    expect: Box<dyn Fn(&Identity) -> bool + Send + Sync>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<rustls::ClientConfig, IdentityError> {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(SpiffeVerifier { trust, expect }));
    let mut config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

pub(crate) fn connect(
    uri: &str,
    config: Arc<ConfigFn>,
    deadline: Option<Duration>,
) -> Result<Channel, IdentityError> {
    let bad = || IdentityError::BadUri { uri: uri.to_owned() };
    let authority = uri.strip_prefix("https://").ok_or_else(bad)?.trim_end_matches('/');
    // tonic is built without TLS: to it this is a plain origin, and the connector below does the TLS.
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))
        .map_err(|_| bad())?
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20);
    let endpoint = match deadline {
        Some(deadline) => endpoint.timeout(deadline),
        None => endpoint,
    };
    Ok(endpoint.connect_with_connector_lazy(Connector { config }))
}

#[derive(Clone)]
struct Connector {
    config: Arc<ConfigFn>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl tower::Service<http::Uri> for Connector {
    type Response = TokioIo<tokio_rustls::client::TlsStream<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        let config = self.config.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let port = uri.port_u16().unwrap_or(443);
            let config = config()?;
            let connect = async {
                let tcp = TcpStream::connect((host.as_str(), port))
                    .await
                    .map_err(|e| format!("cannot connect to {host}:{port}: {e}"))?;
                tcp.set_nodelay(true)?;
                let name = ServerName::try_from(host.clone())?;
                let tls = tokio_rustls::TlsConnector::from(Arc::new(config))
                    .connect(name, tcp)
                    .await
                    .map_err(|e| format!("TLS with {host}:{port} failed: {e}"))?;
                Ok::<_, BoxError>(TokioIo::new(tls))
            };
            tokio::time::timeout(CONNECT_TIMEOUT, connect)
                .await
                .map_err(|_| format!("no connection to {host}:{port} within {CONNECT_TIMEOUT:?}"))?
        })
    }
}
