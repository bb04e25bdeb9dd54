//! `rackd block overlay`: copy-on-write disks over an image, by hand. `rackd block serve` takes them like raw files.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use farrier_block::{FileBacking, Image, Mode, Overlay, OverlayError, OverlayInfo, OverlayOptions};

/// Commands for disks that nobody serves at the moment.
#[derive(Debug, Subcommand)]
pub enum OverlayCommand {
    /// Make a disk that reads from an image what was not written to it. Takes no time and no space.
    Create {
        /// The overlay's file, which must not exist.
        file: PathBuf,
        /// The raw image below; it must not change from now on.
        #[arg(long)]
        base: PathBuf,
        /// Bytes of the disk; left out: as the image.
        #[arg(long)]
        size: Option<u64>,
    },
    /// Say what a disk is made of and what it takes.
    Show {
        /// The overlay's file.
        file: PathBuf,
    },
    /// Copy the blocks that are the disk's own into a new overlay of the same image.
    Snapshot {
        /// The overlay's file.
        file: PathBuf,
        /// The copy, which must not exist.
        copy: PathBuf,
    },
    /// Put another image below. The content stays; blocks that the new image has are given back.
    Rebase {
        /// The overlay's file.
        file: PathBuf,
        /// The raw image that goes below.
        #[arg(long)]
        onto: PathBuf,
    },
    /// Make the disk larger or smaller. What is cut off is gone.
    Resize {
        /// The overlay's file.
        file: PathBuf,
        /// Its new size in bytes.
        size: u64,
    },
    /// Write the whole disk as a raw image.
    Export {
        /// The overlay's file.
        file: PathBuf,
        /// The raw image, which must not exist.
        raw: PathBuf,
    },
}

pub(super) fn run(command: OverlayCommand) -> anyhow::Result<()> {
    match command {
        OverlayCommand::Create { file, base, size } => {
            let (image, id) = image(&base)?;
            let options = OverlayOptions { size, ..OverlayOptions::default() };
            let made = Overlay::create(&file, &options, image, &id);
            made.map(drop).with_context(|| format!("cannot make {}", file.display()))
        }
        OverlayCommand::Show { file } => show(&file),
        OverlayCommand::Snapshot { file, copy } => {
            Ok(open(&file)?.snapshot(&copy).with_context(|| format!("cannot make {}", copy.display()))?)
        }
        OverlayCommand::Rebase { file, onto } => {
            let (image, id) = image(&onto)?;
            Ok(open(&file)?.rebase(image, &id)?)
        }
        OverlayCommand::Resize { file, size } => Ok(open(&file)?.resize(size)?),
        OverlayCommand::Export { file, raw } => {
            let overlay = open(&file)?;
            let mut options = std::fs::OpenOptions::new();
            let made = options.write(true).create_new(true).open(&raw);
            let mut out = made.with_context(|| format!("cannot make {}", raw.display()))?;
            overlay.export(&mut out)?;
            Ok(out.sync_all()?)
        }
    }
}

/// What a file is, if it is an overlay.
pub(super) fn peek(file: &Path) -> anyhow::Result<Option<OverlayInfo>> {
    match Overlay::peek(file) {
        Ok(info) => Ok(Some(info)),
        Err(OverlayError::Damaged(_)) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Opens one that was made here: it names its image by its path.
pub(super) fn open(file: &Path) -> anyhow::Result<Arc<Overlay>> {
    let info = peek(file)?;
    let Some(info) = info else {
        bail!(
            "{}: expected an overlay, saw none; make one with `rackd block overlay create`",
            file.display()
        );
    };
    let base = Path::new(&info.base_id);
    if !base.is_absolute() {
        bail!(
            "{}: expected the path of the image below, saw {:?}; it is of a rack's cache, use it there",
            file.display(),
            info.base_id
        );
    }
    let image = FileBacking::open(base, Mode::ReadOnly)
        .with_context(|| format!("cannot open {}, the image below {}", base.display(), file.display()))?;
    Overlay::open(file, image, &info.base_id).with_context(|| format!("cannot use {}", file.display()))
}

fn image(path: &Path) -> anyhow::Result<(Arc<dyn Image>, String)> {
    let whole = path.canonicalize().with_context(|| format!("cannot open {}", path.display()))?;
    let name = whole.to_str().with_context(|| format!("{}: expected a path in UTF-8", whole.display()))?;
    let image = FileBacking::open(&whole, Mode::ReadOnly)
        .with_context(|| format!("cannot open {}", path.display()))?;
    Ok((image, name.to_owned()))
}

fn show(file: &Path) -> anyhow::Result<()> {
    let overlay = open(file)?;
    let info = Overlay::peek(file)?;
    let usage = overlay.usage()?;
    let lines = [
        ("image", info.base_id),
        ("size", format!("{} bytes", usage.size)),
        ("blocks", format!("{} bytes each", info.block_size)),
        ("own", format!("{} bytes", usage.allocated)),
        ("discarded", format!("{} bytes", usage.zeroed)),
        ("file", format!("{} bytes on its disk", usage.file_bytes)),
    ];
    let mut out = std::io::stdout().lock();
    for (name, value) in lines {
        writeln!(out, "{name:<10} {value}")?;
    }
    Ok(())
}
