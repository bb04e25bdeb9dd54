//! `farrier-images`: the images service as a process.

use anyhow::Context as _;
use clap::Parser;
use farrier_identity::Credentials;
use farrier_images::Config;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Keeps operating system images, and hands their chunks to racks.
#[derive(Debug, Parser)]
#[command(name = "farrier-images", version)]
struct Args {
    /// Address and port to listen on.
    #[arg(long, env = "FARRIER_LISTEN", default_value = "[::]:7003")]
    listen: SocketAddr,
    /// Directory with cert.pem, key.pem and ca.pem.
    #[arg(long, env = "FARRIER_IDENTITY", value_name = "DIR")]
    identity: PathBuf,
    /// `sqlite://PATH` or `postgres://USER@HOST/DATABASE`.
    #[arg(long, env = "FARRIER_DATABASE", value_name = "URL", hide_env_values = true)]
    database: String,
    /// Directory for disks and uploads under way.
    #[arg(long, env = "FARRIER_DATA", value_name = "DIR")]
    data: PathBuf,
    /// Largest image taken, in bytes: the file and the disk in it. At most 256 GiB.
    #[arg(long, env = "FARRIER_MAX_IMAGE_BYTES", default_value_t = 128 << 30,
          value_parser = clap::value_parser!(u64).range(1..=MAX_IMAGE_BYTES))]
    max_image_bytes: u64,
}

/// A manifest has 32 bytes for each 4 MiB and travels in one message: 2 MiB of it for 256 GiB, well below
/// the 4 MiB that gRPC clients take.
const MAX_IMAGE_BYTES: u64 = 256 << 30;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    farrier_runtime::telemetry::start();
    let credentials = Credentials::load(&args.identity).context("cannot load the identity")?;
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        farrier_runtime::serve::signal().await;
        tracing::info!("shutting down");
        stop.cancel();
    });
    tracing::info!(addr = %args.listen, "serving images");
    let config = Config {
        listener,
        credentials,
        database_url: args.database,
        data_dir: args.data,
        max_image_bytes: args.max_image_bytes,
    };
    farrier_images::run(config, shutdown).await
}
