//! `farrier-sim pretend`: pretend nodes as a process of their own, beside a rackd that listens on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use tokio::net::UdpSocket;
use tokio::signal::unix::{SignalKind, signal};

use super::{PretendNode, PretendOptions, mac, write_image};

/// Options of `farrier-sim pretend`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    nodes: u16,
    /// Address of the first BMC; the others have the ports after it
    #[arg(long, default_value = "127.0.0.1:6230")]
    bmc: SocketAddr,
    /// rackd's HTTP server
    #[arg(long, default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// First address of the pool of rackd's provisioning segment, on loopback
    #[arg(long, default_value = "127.0.1.1")]
    pool_first: Ipv4Addr,
    /// Last address of that pool
    #[arg(long, default_value = "127.0.1.254")]
    pool_last: Ipv4Addr,
    /// Size of each node's disk
    #[arg(long, default_value_t = 256, value_name = "MIB")]
    disk_mib: u64,
    /// Directory for the disks
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// Options of `farrier-sim pretend-image`.
#[derive(Debug, clap::Args)]
pub struct ImageArgs {
    /// File to write
    file: PathBuf,
    /// Size of its disk
    #[arg(long, default_value_t = 24, value_name = "MIB")]
    disk_mib: u64,
}

/// Runs until SIGINT or SIGTERM. Prints a line a node on standard output once all of them listen: name,
/// BMC address, MAC address.
///
/// # Errors
/// A directory cannot be made or an address cannot be bound.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let pool = (args.pool_first, args.pool_last);
    let mut nodes = Vec::new();
    for index in 0..args.nodes {
        let name = format!("n{index}");
        let port = args.bmc.port().checked_add(index).context("no port is left for a BMC")?;
        let address = SocketAddr::new(args.bmc.ip(), port);
        let socket = UdpSocket::bind(address).await.with_context(|| format!("cannot bind {address}"))?;
        let mut options = PretendOptions::new(&name, mac(index), socket, args.dir.join(&name), pool);
        options.disk_bytes = args.disk_mib << 20;
        options.http = Some(args.http);
        nodes.push(PretendNode::start(options).await.with_context(|| format!("node {name}"))?);
    }
    for node in &nodes {
        println!("{} {} {}", node.name(), node.bmc_address(), node.mac_address());
    }
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    for node in nodes {
        node.shutdown().await;
    }
    Ok(())
}

/// Writes the image.
///
/// # Errors
/// The file cannot be written.
pub fn image(args: &ImageArgs) -> anyhow::Result<()> {
    write_image(&args.file, args.disk_mib << 20, 7).with_context(|| args.file.display().to_string())
}
