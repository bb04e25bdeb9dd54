//! `farrier-sim bmc`: one BMC with a chassis in memory, for hand tests with ipmitool.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use farrier_ipmi::Secret;
use tokio::net::UdpSocket;
use tokio::signal::unix::{SignalKind, signal};

use super::{BmcConfig, BmcServer, MemoryChassis};

/// Options of `farrier-sim bmc`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address and UDP port to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:623")]
    listen: SocketAddr,
    /// User name of the one account
    #[arg(long, default_value = "admin")]
    user: String,
    /// File that holds the password; a final newline is not part of it
    #[arg(long)]
    password_file: PathBuf,
    /// File that holds the BMC key (Kg) for two-key login
    #[arg(long)]
    kg_file: Option<PathBuf>,
}

/// Runs until SIGINT or SIGTERM. Prints the address on standard output once it listens.
///
/// # Errors
/// A file cannot be read or the address cannot be bound.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut config = BmcConfig::new(args.user, secret(&args.password_file).await?);
    if let Some(path) = &args.kg_file {
        config.kg = Some(secret(path).await?);
    }
    let socket =
        UdpSocket::bind(args.listen).await.with_context(|| format!("cannot bind {}", args.listen))?;
    let handle = BmcServer::start(socket, config, Arc::new(MemoryChassis::new()))?;
    println!("{}", handle.address());
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    handle.shutdown().await;
    Ok(())
}

async fn secret(path: &PathBuf) -> anyhow::Result<Secret> {
    let mut bytes = tokio::fs::read(path).await.with_context(|| format!("cannot read {}", path.display()))?;
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(Secret::new(bytes))
}
