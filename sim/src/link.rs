//! A link to the centre as racks have them: slow, cut for a while, and counted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Carries TCP connections to one address. Dropped, it is gone.
pub struct Link {
    /// Where it is called.
    pub address: SocketAddr,
    quality: watch::Sender<Quality>,
    carried: Arc<AtomicU64>,
    _carrier: AbortOnDropHandle<()>,
}

/// What a link is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// As the machine is.
    Free,
    /// Bytes a second towards whoever called.
    Slow(u64),
    /// Nothing arrives, and nobody is told.
    Cut,
}

impl Link {
    /// A link to `server`, called at a free port of this machine.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn to(server: SocketAddr, quality: Quality) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let quality = watch::Sender::new(quality);
        let carried = Arc::new(AtomicU64::new(0));
        let (now, count) = (quality.subscribe(), carried.clone());
        let carrier = tokio::spawn(async move {
            let mut calls = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                calls.spawn(call(near, server, now.clone(), count.clone()));
                while calls.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, quality, carried, _carrier: AbortOnDropHandle::new(carrier) })
    }

    /// It is like this from now on.
    pub fn be(&self, quality: Quality) {
        self.quality.send_replace(quality);
    }

    /// Bytes that came from the server.
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

async fn call(near: TcpStream, server: SocketAddr, now: watch::Receiver<Quality>, count: Arc<AtomicU64>) {
    let Ok(far) = TcpStream::connect(server).await else { return };
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    // One direction's end is the call's: mTLS over it has its own.
    let _over = tokio::select! {
        over = carry(near_read, far_write, now.clone(), None) => over,
        over = carry(far_read, near_write, now, Some(count)) => over,
    };
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut now: watch::Receiver<Quality>,
    count: Option<Arc<AtomicU64>>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return to.shutdown().await;
        }
        let quality = *now.wait_for(|quality| *quality != Quality::Cut).await.map_err(io::Error::other)?;
        if let (Some(count), Quality::Slow(rate)) = (&count, quality) {
            // The time these bytes take on such a link.
            tokio::time::sleep(Duration::from_secs_f64(len as f64 / rate as f64)).await;
            now.wait_for(|quality| *quality != Quality::Cut).await.map_err(io::Error::other)?;
            count.fetch_add(len as u64, Ordering::Relaxed);
        } else if let Some(count) = &count {
            count.fetch_add(len as u64, Ordering::Relaxed);
        }
        to.write_all(buffer.get(..len).unwrap_or_default()).await?;
    }
}
