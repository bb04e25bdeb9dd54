//! Connections, made by whoever knows TLS: this crate does not.

use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::address::{RedfishAddress, Trust};

/// A connection to a BMC.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Makes connections.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// Connects, and where `address.trust` says so proves the BMC by TLS before it returns. The caller keeps the
    /// time and drops the future.
    async fn dial(&self, address: &RedfishAddress) -> Result<Box<dyn Stream>, DialError>;
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No TCP connection.
    #[error("no connection")]
    Connect(#[from] io::Error),
    /// Not the certificate that is trusted; its SHA-256.
    #[error("certificate {0:?}")]
    Certificate([u8; 32]),
    /// The certificate that is trusted, with a key that proves nothing: which.
    #[error("{0}")]
    WeakKey(String),
    /// TLS failed in another way.
    #[error("TLS: {0}")]
    Tls(String),
}

/// Connects by http only.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainDial;

#[async_trait]
impl Dial for PlainDial {
    async fn dial(&self, address: &RedfishAddress) -> Result<Box<dyn Stream>, DialError> {
        if address.trust != Trust::Plain {
            return Err(DialError::Tls("a program that was built without TLS".to_owned()));
        }
        let stream = TcpStream::connect(address.addr).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}
