//! Serves a directory on an interface, to boot one machine by hand:
//!
//! ```text
//! cargo run -p farrier-netboot --example netboot -- --interface br0 --ip 10.0.0.1 --firmware /usr/lib/ipxe \
//!     --mac 52:54:00:00:00:01 --client-ip 10.0.0.50 --kernel vmlinuz --initrd initrd.img --args console=ttyS0
//! ```

use std::{net::Ipv4Addr, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use farrier_netboot::{
    Artifact, Boot, BootEntry, BootTable, Config, KernelArgs, MacAddr, Netboot, Ramdisk, Segment, http,
};
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
struct Options {
    /// Interface to serve.
    #[arg(long)]
    interface: String,
    /// Our address on it.
    #[arg(long)]
    ip: Ipv4Addr,
    /// Prefix length of its subnet.
    #[arg(long, default_value_t = 24)]
    prefix: u8,
    /// Port of the HTTP server.
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
    /// Directory with undionly.kpxe, snponly.efi and so on.
    #[arg(long)]
    firmware: PathBuf,
    /// The machine's address on the wire.
    #[arg(long)]
    mac: MacAddr,
    /// The address it gets.
    #[arg(long)]
    client_ip: Ipv4Addr,
    /// Kernel; without it the machine starts from its disk.
    #[arg(long, requires = "initrd")]
    kernel: Option<PathBuf>,
    /// Initrd.
    #[arg(long)]
    initrd: Option<PathBuf>,
    /// Kernel command line.
    #[arg(long, default_value = "")]
    args: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().init();
    let options = Options::parse();
    let mut config = Config::new(options.http_port);
    config.load_files(&options.firmware)?;
    let mut table = BootTable::new();
    table.set_segments(vec![Segment::new("lab", &options.interface, options.ip, options.prefix)]);
    let boot = match (options.kernel, options.initrd) {
        (Some(kernel), Some(initrd)) => {
            table.publish_artifact("kernel".parse()?, Artifact::File(kernel));
            table.publish_artifact("initrd".parse()?, Artifact::File(initrd));
            let args = KernelArgs::parse(&options.args)?;
            Boot::Script(Ramdisk { kernel: "kernel".parse()?, initrd: "initrd".parse()?, args }.into())
        }
        _ => Boot::LocalDisk,
    };
    table.publish(BootEntry {
        mac: options.mac,
        node: "by-hand".into(),
        hostname: "by-hand".into(),
        ip: options.client_ip,
        network: "lab".into(),
        boot,
    });
    let netboot = Netboot::start(config, table).await;
    let listener =
        tokio::net::TcpListener::bind((options.ip, options.http_port)).await.context("http port")?;
    let shutdown = CancellationToken::new();
    let http = tokio::spawn(http::serve(
        listener,
        netboot.http_crowded(),
        netboot.router(),
        http::Limits::default(),
        shutdown.clone(),
    ));
    tokio::signal::ctrl_c().await?;
    shutdown.cancel();
    netboot.shutdown().await;
    http.await?;
    Ok(())
}
