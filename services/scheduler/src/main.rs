//! The `farrier-scheduler` program: reads flags, nothing else.

use anyhow::Context as _;
use clap::Parser;
use farrier_identity::Credentials;
use farrier_runtime::key::KeySource;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Places instances on nodes and drives the operations that make them.
#[derive(Parser)]
#[command(name = "farrier-scheduler", version)]
struct Cli {
    /// Address to serve on.
    #[arg(long, env = "FARRIER_LISTEN", default_value = "[::]:7002")]
    listen: SocketAddr,
    /// Directory with cert.pem, key.pem and ca.pem.
    #[arg(long, env = "FARRIER_IDENTITY")]
    identity: PathBuf,
    /// sqlite://PATH or postgres://…
    #[arg(long, env = "FARRIER_DATABASE", default_value = "sqlite://scheduler.db", hide_env_values = true)]
    database: String,
    /// Key file that seals user data in the database; made when missing, shared by all replicas.
    #[arg(long, env = "FARRIER_SECRETS_KEY", default_value = "scheduler.key")]
    secrets_key: PathBuf,
    /// Program that prints the key instead, from a key management system: 32 bytes, or the same in hexadecimal or base64.
    /// It is asked at each start; words are parted by spaces, without a shell.
    #[arg(
        long,
        env = "FARRIER_SECRETS_KEY_COMMAND",
        value_name = "PROGRAM ARGUMENTS",
        hide_env_values = true
    )]
    secrets_key_command: Option<String>,
    /// Inventory, https://host:port.
    #[arg(long, env = "FARRIER_INVENTORY")]
    inventory: String,
    /// Images, https://host:port.
    #[arg(long, env = "FARRIER_IMAGES")]
    images: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    farrier_runtime::telemetry::start();
    let listener = tokio::net::TcpListener::bind(cli.listen)
        .await
        .with_context(|| format!("cannot listen on {}", cli.listen))?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        farrier_runtime::serve::signal().await;
        stop.cancel();
    });
    let config = farrier_scheduler::Config {
        listener,
        credentials: Credentials::load(&cli.identity)?,
        database_url: cli.database,
        secrets_key: KeySource::of(cli.secrets_key, cli.secrets_key_command.as_deref()),
        inventory: cli.inventory,
        images: cli.images,
    };
    farrier_scheduler::run(config, shutdown).await
}
