//! The BMCs: which are bad, and how.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use farrier_sim::bmc::{BmcConfig, BmcHandle, BmcServer, Faults, MemoryChassis, Secret};
use rand::RngCore as _;
use tokio::net::UdpSocket;

pub(crate) const USER: &str = "admin";
pub(crate) const PASSWORD: &str = "pretend";
pub(crate) const PORT: u16 = 6230;

/// How a BMC behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Healthy,
    /// Says nothing.
    Dead,
    /// Answers after five seconds.
    Slow,
    /// Loses one datagram in twenty.
    Lossy,
    /// Answers every datagram with random bytes.
    Garbage,
}

impl Kind {
    pub(crate) const BAD: [Self; 4] = [Self::Dead, Self::Slow, Self::Lossy, Self::Garbage];

    /// One in ten is bad.
    pub(crate) fn of(index: usize) -> Self {
        match (index % 10, (index / 10) % 4) {
            (9, 0) => Self::Dead,
            (9, 1) => Self::Slow,
            (9, 2) => Self::Lossy,
            (9, _) => Self::Garbage,
            _ => Self::Healthy,
        }
    }
}

pub(crate) fn address(index: usize) -> SocketAddr {
    let [high, low] = u16::try_from(index / 250 + (32 << 8)).unwrap_or(u16::MAX).to_be_bytes();
    let last = u8::try_from(index % 250 + 1).unwrap_or(u8::MAX);
    (Ipv4Addr::new(127, high, low, last), PORT).into()
}

/// The process that is all BMCs.
pub(crate) struct Fleet(Child);

impl Fleet {
    pub(crate) fn start(count: usize) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the BMCs do not start")?;
        let mut line = String::new();
        let said = child.stdout.take().context("no output of the BMCs")?;
        BufReader::new(said).read_line(&mut line)?;
        ensure!(line.trim() == READY, "the BMCs ended before they were ready");
        Ok(Self(child))
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        let status = self.0.wait()?;
        ensure!(status.success(), "the BMCs: {status}");
        Ok(())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // After `stop` there is nothing left to kill.
        let _ended = self.0.kill();
    }
}

pub(crate) fn serve(count: usize) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let mut running: Vec<BmcHandle> = Vec::new();
        for index in 0..count {
            let at = address(index);
            let socket = UdpSocket::bind(at).await.with_context(|| format!("cannot bind {at}"))?;
            match Kind::of(index) {
                Kind::Garbage => {
                    tokio::spawn(garbage(socket));
                }
                kind => {
                    let config = BmcConfig::new(USER, Secret::new(PASSWORD));
                    let bmc = BmcServer::start(socket, config, Arc::new(MemoryChassis::new()))?;
                    bmc.set_faults(faults(kind));
                    running.push(bmc);
                }
            }
        }
        println!("{READY}");
        let ends = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        tokio::task::spawn_blocking(ends).await??;
        Ok(())
    })
}

fn faults(kind: Kind) -> Faults {
    let healthy = Faults::default();
    match kind {
        Kind::Dead => Faults { silent: true, ..healthy },
        Kind::Slow => Faults { delay: Duration::from_secs(5), ..healthy },
        Kind::Lossy => Faults { drop_every: NonZeroU32::new(20), ..healthy },
        Kind::Healthy | Kind::Garbage => healthy,
    }
}

async fn garbage(socket: UdpSocket) {
    let mut buffer = vec![0; 2048];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
        let Some(answer) = buffer.get_mut(..length) else { return };
        rand::rng().fill_bytes(answer);
        // The reader is gone: so is its interest.
        let _sent = socket.send_to(answer, peer).await;
    }
}

const READY: &str = "ready";
