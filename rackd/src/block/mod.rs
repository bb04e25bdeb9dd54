//! `rackd block`: the iSCSI target and its disks by themselves, without a centre, a certificate or root.

mod overlay;

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use farrier_block::{
    Backing, Chap, Credentials, FileBacking, Limits, LunSpec, Mode, Overlay, Portal, Secret, TargetSpec,
    Targets, is_iscsi_name, serve,
};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Subcommand)]
pub enum BlockCommand {
    /// Serve files as iSCSI targets until a signal ends it.
    Serve(ServeArgs),
    /// Copy-on-write disks over an image.
    Overlay {
        #[command(subcommand)]
        command: overlay::OverlayCommand,
    },
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address and port, 127.0.0.1:3260; several times for several paths. Port 0 takes a free one.
    #[arg(long, required = true)]
    listen: Vec<SocketAddr>,
    /// A target and what is its LUN 0: a raw disk, iqn.2026-01.com.example:disk=/path/disk.img, or one that `rackd block
    /// overlay` made, iqn.2026-01.com.example:disk=overlay:/path/disk.overlay; several times. A raw disk that begins like
    /// an overlay is raw:/path/disk.img.
    #[arg(long = "target", value_name = "IQN=FILE", required = true)]
    targets: Vec<String>,
    /// Initiators must know this user's secret: the first line of a file, 12 characters or more.
    #[arg(long, value_name = "USER:SECRETFILE")]
    chap: Option<String>,
    /// The targets prove themselves with this one to initiators that ask (mutual CHAP); another secret than --chap's.
    #[arg(long, value_name = "USER:SECRETFILE", requires = "chap")]
    mutual_chap: Option<String>,
    /// Only initiators of this name see the targets and may log in; several times. Left out: all.
    #[arg(long = "initiator", value_name = "IQN", value_parser = initiator)]
    initiators: Vec<String>,
    /// Refuse writes.
    #[arg(long)]
    readonly: bool,
    /// Threads that serve connections.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: Option<u16>,
}

/// Runs until `shutdown`. Where it listens is printed, one line a portal.
pub async fn block(command: BlockCommand, shutdown: CancellationToken) -> anyhow::Result<()> {
    let args = match command {
        BlockCommand::Serve(args) => args,
        BlockCommand::Overlay { command } => {
            return tokio::task::spawn_blocking(move || overlay::run(command)).await?;
        }
    };
    let target = args.mutual_chap.as_deref().map(read_secret).transpose()?;
    let initiator = args.chap.as_deref().map(read_secret).transpose()?;
    let chap = initiator.map(|initiator| Chap { initiator, target });
    let portals = u16::try_from(args.listen.len()).context("too many times --listen")?;
    let targets =
        Targets::new(Limits { threads: args.threads.map(usize::from), portals, ..Limits::default() });
    for target in &args.targets {
        let (name, file) =
            target.split_once('=').with_context(|| format!("--target {target:?} is not IQN=FILE"))?;
        let backing = backing(file, args.readonly).with_context(|| format!("cannot serve {name}"))?;
        let lun = LunSpec::new(0, backing);
        targets.add(TargetSpec {
            name: name.to_owned(),
            alias: String::new(),
            luns: vec![if args.readonly { lun.read_only() } else { lun }],
            accounts: chap.iter().cloned().collect(),
            initiators: args.initiators.clone(),
        })?;
    }
    let mut portals = Vec::new();
    let mut out = std::io::stdout();
    for address in &args.listen {
        let portal = Portal::bind(*address).with_context(|| {
            format!("cannot listen on {address}: expected a free port of an address of this machine; port 0 takes one")
        })?;
        writeln!(out, "listening on {}", portal.local_addr()?)?;
        portals.push(portal);
    }
    out.flush()?;
    serve(portals, targets, shutdown).await.context("the iSCSI server ended")
}

/// What it is, is said and never guessed: a guest writes what it likes into its raw disk, an overlay's header too, with
/// the name of a file that is not its own. What looks like an overlay and is not called one is refused.
fn backing(what: &str, readonly: bool) -> anyhow::Result<Arc<dyn Backing>> {
    if let Some(file) = what.strip_prefix("overlay:") {
        return Ok(overlay::open(Path::new(file))?);
    }
    let said = what.strip_prefix("raw:");
    let file = said.unwrap_or(what);
    if said.is_none() && Overlay::peek(Path::new(file)).is_ok() {
        bail!(
            "{file}: it begins like an overlay: say overlay:{file}, or raw:{file} for its bytes as they are"
        );
    }
    let mode = if readonly { Mode::ReadOnly } else { Mode::ReadWrite };
    let backing =
        FileBacking::open_locked(Path::new(file), mode).with_context(|| format!("cannot open {file}"))?;
    if backing.size() == 0 {
        bail!("{file}: expected a disk of at least one block of 512 bytes, saw an empty file");
    }
    Ok(backing)
}

fn initiator(text: &str) -> Result<String, String> {
    if is_iscsi_name(text) {
        Ok(text.to_owned())
    } else {
        Err("expected an initiator's name, iqn.YYYY-MM.domain:name, eui. or naa.".to_owned())
    }
}

fn read_secret(text: &str) -> anyhow::Result<Credentials> {
    let (user, file) = text.split_once(':').with_context(|| format!("{text:?}: expected USER:SECRETFILE"))?;
    let file = PathBuf::from(file);
    let mut secret = String::new();
    std::fs::File::open(&file)
        .and_then(|opened| opened.take(MAX_SECRET_FILE).read_to_string(&mut secret))
        .with_context(|| format!("cannot read {}", file.display()))?;
    let secret = secret.lines().next().unwrap_or_default().trim();
    // RFC 7143 section 9.2.1: 96 bits at least.
    if user.is_empty() || secret.len() < MIN_SECRET {
        bail!(
            "{}: expected a user before it and a secret of at least {MIN_SECRET} characters in its first line, saw {:?} and \
             {} characters",
            file.display(),
            user,
            secret.len()
        );
    }
    Ok(Credentials { user: user.to_owned(), secret: Secret::new(secret.as_bytes().to_vec()) })
}

const MIN_SECRET: usize = 12;
const MAX_SECRET_FILE: u64 = 4096;
