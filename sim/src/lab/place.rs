//! Where an installation listens: an address that nobody else has.
//!
//! Ports are fixed, addresses are not: inside a namespace 127.0.0.1 is private, and outside the whole of
//! 127.0.0.0/8 is ours to choose from. So nothing ever has to guess a free port and lose the race for it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::net::Netns;

/// A place for processes: with or without a network namespace.
#[derive(Debug)]
pub struct Place {
    host: Ipv4Addr,
    netns: Option<PathBuf>,
    /// Held while the place is in use: whoever listens here owns the address.
    _claim: Option<TcpListener>,
}

impl Place {
    /// Inside a namespace, on its own loopback.
    pub fn inside(netns: &Netns) -> Self {
        Self { host: Ipv4Addr::LOCALHOST, netns: Some(netns.path()), _claim: None }
    }

    /// On this machine's loopback, under an address of its own; needs no privileges.
    pub fn loopback() -> Result<Self> {
        let first = std::process::id().wrapping_mul(SPREAD);
        for n in 0..TRIES {
            let host = address(first.wrapping_add(n));
            if let Ok(claim) = TcpListener::bind(SocketAddr::from((host, CLAIM_PORT))) {
                return Ok(Self { host, netns: None, _claim: Some(claim) });
            }
        }
        bail!("no free address found in 127.0.0.0/8 in {TRIES} tries")
    }

    /// The address all services of the place listen on.
    pub fn host(&self) -> Ipv4Addr {
        self.host
    }

    /// A command that will run here, under its own process id.
    pub fn command(&self, program: &std::path::Path) -> Command {
        match &self.netns {
            None => Command::new(program),
            Some(path) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", path.display())).arg("--").arg(program);
                command
            }
        }
    }

    /// What a person types before a command to run it here; empty on the host's loopback.
    pub fn prefix(&self) -> String {
        self.netns.as_ref().map(|path| format!("nsenter --net={} ", path.display())).unwrap_or_default()
    }
}

/// Runs `work` on the threads of `runtime` (see [`Netns::runtime`]) to its end, then ends the runtime. A panic
/// in it goes on here.
pub fn run_on<T: Send + 'static>(
    runtime: tokio::runtime::Runtime,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    // Spawned, not blocked on: only the runtime's own threads are inside a namespace.
    let done = runtime.block_on(runtime.spawn(work));
    runtime.shutdown_timeout(GRACE);
    match done {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// 127.64.0.0 to 127.127.255.255, without the addresses that end in 0 or 255.
fn address(n: u32) -> Ipv4Addr {
    let [_, second, third, fourth] = n.to_be_bytes();
    Ipv4Addr::new(127, 64 | (second & 63), third, fourth.clamp(1, 254))
}

/// Spreads neighbouring process ids over the network.
const SPREAD: u32 = 4099;
const TRIES: u32 = 64;
/// What a blocking call that hangs may take at the end.
const GRACE: Duration = Duration::from_secs(5);
/// Served by nobody: only shows that the address is taken.
const CLAIM_PORT: u16 = 6999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_places_never_share_an_address() {
        let places: Vec<_> = (0..20).map(|_| Place::loopback().unwrap()).collect();
        let mut hosts: Vec<_> = places.iter().map(Place::host).collect();
        hosts.sort();
        hosts.dedup();
        assert_eq!(hosts.len(), 20);
        assert!(hosts.iter().all(Ipv4Addr::is_loopback));
    }
}
