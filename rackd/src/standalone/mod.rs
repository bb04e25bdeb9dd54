//! `rackd --standalone FILE`: network boot of a rack without a centre, from a file that says all of it.
//!
//! The file is read at the start and at every SIGHUP. What was good is kept beside the leases ([`Kept`]); one that
//! cannot be used changes nothing, and after a restart the last good one is served, also where some of its artifacts
//! are on a disk that is not mounted yet: those are told, and come with the disk. Why a machine does not boot is asked over a
//! socket in the data directory ([`control`]).

mod control;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use farrier_netboot::{Https, Leases, Netboot, SignedChain, http};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::HttpsConfig;
use crate::snapshot::{Kept, Snapshot};

#[derive(Debug, Args)]
pub struct StandaloneArgs {
    /// Serve network boot without a centre, from this snapshot (YAML or JSON); SIGHUP reads it again.
    #[arg(long, value_name = "FILE")]
    standalone: Option<PathBuf>,
    /// With --standalone: directory for leases and the last good snapshot.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/farrier/standalone", requires = "standalone")]
    data: PathBuf,
    /// With --standalone: address and port of boot scripts and files.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080", requires = "standalone")]
    http: SocketAddr,
    /// With --standalone: address and port on loopback of `/metrics`.
    #[arg(long, value_name = "ADDRESS", requires = "standalone")]
    metrics: Option<SocketAddr>,
    /// With --standalone: directory with undionly.kpxe, snponly.efi and so on.
    #[arg(long, value_name = "DIR", requires = "standalone")]
    boot_files: Option<PathBuf>,
    /// With --standalone: signed shim for x86-64 machines with UEFI Secure Boot.
    #[arg(long, value_name = "FILE", requires = "standalone", requires = "grub")]
    shim: Option<PathBuf>,
    /// With --standalone: signed GRUB that the shim starts.
    #[arg(long, value_name = "FILE", requires = "standalone", requires = "shim")]
    grub: Option<PathBuf>,
    /// With --standalone: the same for arm64 machines.
    #[arg(long, value_name = "FILE", requires = "standalone", requires = "grub_arm64")]
    shim_arm64: Option<PathBuf>,
    /// With --standalone: the same for arm64 machines.
    #[arg(long, value_name = "FILE", requires = "standalone", requires = "shim_arm64")]
    grub_arm64: Option<PathBuf>,
    /// With --standalone: answer TFTP from port 69 alone, for firewalls that let nothing else back.
    #[arg(long, requires = "standalone")]
    tftp_single_port: bool,
}

impl StandaloneArgs {
    /// Whether it was asked for.
    pub fn is_given(&self) -> bool {
        self.standalone.is_some()
    }
}

/// Serves until `shutdown`. What is served is printed, one line a snapshot.
pub async fn standalone(args: StandaloneArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let file = args.standalone.context("--standalone FILE is missing")?;
    std::fs::create_dir_all(&args.data).with_context(|| format!("cannot make {}", args.data.display()))?;
    let listener =
        TcpListener::bind(args.http).await.with_context(|| format!("cannot listen on {}", args.http))?;
    let mut config = farrier_netboot::Config::new(listener.local_addr()?.port());
    if let Some(dir) = &args.boot_files {
        config.load_files(dir).with_context(|| format!("cannot read boot files in {}", dir.display()))?;
    }
    for (chain, shim, grub) in
        [(SignedChain::X64, &args.shim, &args.grub), (SignedChain::ARM64, &args.shim_arm64, &args.grub_arm64)]
    {
        if let (Some(shim), Some(grub)) = (shim, grub) {
            config.load_signed(chain, shim, grub).context("cannot read shim and GRUB")?;
        }
    }
    config.tftp_single_port = args.tftp_single_port;
    let path = args.data.join("leases");
    config.leases = Leases::open(&path).with_context(|| format!("cannot use {}", path.display()))?;
    // Before anything is said to be ready: its default is to end the process.
    let hangup = signal(SignalKind::hangup())?;
    let mut kept = Kept::open(args.data.join("snapshot.json"));
    if args.http.is_ipv4() {
        kept = kept.ipv4_only();
    }
    let snapshot = kept.take(&file).or_else(|error| {
        let last = kept.last().cloned();
        let problem = farrier_runtime::telemetry::chain(error.as_ref());
        match last {
            Some(last) => {
                tracing::error!(
                    error = problem,
                    generation = last.generation,
                    "serving the last good snapshot"
                );
                // Whoever boots from its disk, or from what is there, does not wait for these.
                for (artifact, path) in last.absent() {
                    tracing::error!(
                        artifact,
                        path = %path.display(),
                        "expected a file, saw none: machines that need it do not boot until it is there"
                    );
                }
                Ok(last)
            }
            None => Err(anyhow::anyhow!("{problem}; and no earlier one is kept in {}", args.data.display())),
        }
    })?;
    // What an earlier rackd kept may break a rule of this one: the others boot all the same.
    let mut snapshot = snapshot;
    for error in snapshot.leave_out_unusable() {
        tracing::error!(error = format!("{error:#}"), "a machine is left out of what is served");
    }
    let https = snapshot.https.clone();
    config.boot_files.https = https.as_ref().map(Https::from);
    let netboot = Netboot::start(config, snapshot.table()?).await;
    if let Some(https) = &https {
        let told = (netboot.tls_failures(), netboot.http_crowded());
        tokio::spawn(crate::secure::serve(https, netboot.router(), told, shutdown.clone()).await?);
    }
    let asked = control::listen(&args.data, netboot.clone(), shutdown.clone())?;
    let asked = tokio::spawn(asked);
    say(&netboot, &snapshot)?;
    if let Some(address) = args.metrics {
        anyhow::ensure!(
            address.ip().is_loopback(),
            "--metrics: expected an address on loopback, saw {address}"
        );
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        tokio::spawn(crate::metrics::serve(listener, netboot.clone(), shutdown.clone()));
    }
    let web = tokio::spawn(http::serve(
        listener,
        netboot.http_crowded(),
        netboot.router(),
        http::Limits::default(),
        shutdown.clone(),
    ));
    reload(&netboot, &mut kept, (&file, https.as_ref()), hangup, &shutdown).await;
    netboot.shutdown().await;
    asked.await.context("the server of questions failed")?;
    web.await.context("the HTTP server failed")
}

/// Takes the file again at every SIGHUP, until `shutdown`.
async fn reload(
    netboot: &Netboot,
    kept: &mut Kept,
    (file, https): (&std::path::Path, Option<&HttpsConfig>),
    mut hangup: Signal,
    shutdown: &CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            more = hangup.recv() => if more.is_none() { return shutdown.cancelled().await },
        }
        let taken = kept.take(file).and_then(|snapshot| {
            let table = snapshot.table()?;
            netboot.update(|old| *old = table);
            Ok(snapshot)
        });
        match taken {
            Ok(snapshot) => {
                netboot.settled().await;
                if snapshot.https.as_ref() != https {
                    tracing::warn!("https: it is served as before until rackd is started again");
                }
                if let Err(error) = say(netboot, &snapshot) {
                    tracing::debug!(%error, "nobody listens");
                }
            }
            Err(error) => {
                let error = farrier_runtime::telemetry::chain(error.as_ref());
                tracing::error!(error, "snapshot not taken, serving as before");
            }
        }
    }
}

/// One line on standard output, for whoever waits for it.
fn say(netboot: &Netboot, snapshot: &Snapshot) -> anyhow::Result<()> {
    for status in netboot.segments() {
        if let Some(error) = status.error {
            tracing::error!(interface = %status.interface, %error, "segment not served as it shall be, trying again");
        }
    }
    let mut out = std::io::stdout();
    writeln!(
        out,
        "serving generation {}: {} segments, {} machines",
        snapshot.generation,
        snapshot.segments.len(),
        snapshot.machines.len()
    )?;
    Ok(out.flush()?)
}
