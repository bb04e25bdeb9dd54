//! The `rackd` program: reads configuration, nothing else.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use farrier_rackd::{Config, JoinRequest, StandaloneArgs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
#[command(
    version,
    about = "The rack daemon of Farrier",
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    standalone: StandaloneArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the rack.
    Run {
        #[arg(long, env = "FARRIER_RACKD_CONFIG", default_value = "/etc/farrier/rackd.toml")]
        config: PathBuf,
    },
    /// Get this rack's certificate with a one-time token.
    Join {
        /// Inventory, https://host:port.
        #[arg(long, env = "FARRIER_INVENTORY")]
        inventory: String,
        /// File with the token of `farrier rack join-token`.
        #[arg(long)]
        token_file: PathBuf,
        /// Name or address under which this rackd will be reached; several times.
        #[arg(long = "host")]
        hosts: Vec<String>,
        /// Directory for cert.pem, key.pem and ca.pem.
        #[arg(long)]
        identity: PathBuf,
    },
    /// The iSCSI target by itself.
    Block {
        #[command(subcommand)]
        command: farrier_rackd::BlockCommand,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    // Started by `ssh`, which rackd has started: nothing else of a rackd is wanted.
    if let Some(helped) = farrier_rackd::ssh_help() {
        return Ok(helped);
    }
    let runtime = tokio::runtime::Runtime::new().context("no threads")?;
    let served = runtime.block_on(serve());
    // What has an end has come to it. A disk that hangs has none, and nobody waits for it.
    runtime.shutdown_timeout(LAST_WRITES);
    served.map(|()| ExitCode::SUCCESS)
}

async fn serve() -> anyhow::Result<()> {
    farrier_runtime::telemetry::start();
    allow_files();
    let cli = Cli::parse();
    let Some(command) = cli.command else {
        if !cli.standalone.is_given() {
            anyhow::bail!("nothing to do: expected `run`, `join`, `block`, or --standalone FILE");
        }
        return farrier_rackd::standalone(cli.standalone, until_signal()).await;
    };
    match command {
        Command::Run { config } => {
            let text = std::fs::read_to_string(&config)
                .with_context(|| format!("cannot read {}", config.display()))?;
            let mut config =
                Config::parse(&text).with_context(|| format!("{} cannot be used", config.display()))?;
            config.ssh_helper = std::env::current_exe().ok();
            farrier_rackd::run(config, until_signal()).await
        }
        Command::Join { inventory, token_file, hosts, identity } => {
            let token = std::fs::read_to_string(&token_file)
                .with_context(|| format!("cannot read {}", token_file.display()))?;
            farrier_rackd::join(JoinRequest {
                inventory: &inventory,
                token: token.trim(),
                hosts,
                identity: &identity,
            })
            .await
        }
        Command::Block { command } => farrier_rackd::block(command, until_signal()).await,
    }
}

/// Cancelled when the process is asked to end.
fn until_signal() -> CancellationToken {
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        farrier_runtime::serve::signal().await;
        stop.cancel();
    });
    shutdown
}

/// Each connection, transfer and file of a hall that boots at once is an open file: as many as this process may have, not the
/// few that it is given to begin with.
fn allow_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let allowed = getrlimit(Resource::Nofile).current;
    if allowed.is_some_and(|allowed| allowed < FILES) {
        tracing::warn!(
            ?allowed,
            "expected {FILES} open files to be allowed: raise LimitNOFILE, or `ulimit -n`"
        );
    }
}

/// A file that was being written when rackd was told to end.
const LAST_WRITES: Duration = Duration::from_secs(5);
/// Connections of HTTP and transfers of TFTP, with a file each, and BMCs.
const FILES: u64 = 16_384;
