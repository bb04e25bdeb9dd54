//! `farrier-inventory`: the inventory service as a process.

use anyhow::Context as _;
use clap::Parser;
use farrier_identity::Credentials;
use farrier_inventory::{Config, run};
use farrier_runtime::key::KeySource;
use farrier_runtime::{serve, telemetry};
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Keeps sites, racks, nodes, ports and flavors, and serves them over gRPC with mTLS.
#[derive(Debug, Parser)]
#[command(name = "farrier-inventory", version)]
struct Args {
    /// Address to serve on.
    #[arg(long, env = "FARRIER_INVENTORY_LISTEN", default_value = "[::]:7001")]
    listen: SocketAddr,
    /// Directory with cert.pem, key.pem and ca.pem.
    #[arg(long, env = "FARRIER_INVENTORY_IDENTITY", default_value = "/etc/farrier/inventory")]
    identity: PathBuf,
    /// sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE
    #[arg(
        long,
        env = "FARRIER_INVENTORY_DATABASE",
        default_value = "sqlite:///var/lib/farrier/inventory.db",
        hide_env_values = true
    )]
    database: String,
    /// Key file that seals secrets in the database; made when missing, shared by all replicas.
    #[arg(long, env = "FARRIER_INVENTORY_SECRETS_KEY", default_value = "/var/lib/farrier/inventory.key")]
    secrets_key: PathBuf,
    /// Program that prints the key instead, from a key management system: 32 bytes, or the same in hexadecimal or base64.
    /// It is asked at each start; words are parted by spaces, without a shell.
    #[arg(
        long,
        env = "FARRIER_INVENTORY_SECRETS_KEY_COMMAND",
        value_name = "PROGRAM ARGUMENTS",
        hide_env_values = true
    )]
    secrets_key_command: Option<String>,
    /// Directory of the embedded authority (ca.pem, ca.key), for racks that join with a token.
    #[arg(long, env = "FARRIER_INVENTORY_CA")]
    ca: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    telemetry::start();
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let config = Config {
        listener,
        credentials: Credentials::load(&args.identity)?,
        database_url: args.database,
        secrets_key: KeySource::of(args.secrets_key, args.secrets_key_command.as_deref()),
        ca_dir: args.ca,
    };
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        serve::signal().await;
        stop.cancel();
    });
    run(config, shutdown).await
}
