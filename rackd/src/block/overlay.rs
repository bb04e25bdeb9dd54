//! `rackd block overlay`: copy-on-write disks over an image, by hand. `rackd block serve` serves them like raw files.

use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use farrier_block::{FileBacking, Image, Mode, Overlay, OverlayError, OverlayOptions};
use farrier_model::size::exact;

/// Commands for disks that nobody serves at the moment: one that is served is in use.
#[derive(Debug, Subcommand)]
pub enum OverlayCommand {
    /// Make a disk that reads from an image what was not written to it. Takes no time and no space.
    Create {
        /// The overlay's file, which must not exist.
        file: PathBuf,
        /// The raw image below; it must not change from now on.
        #[arg(long)]
        base: PathBuf,
        /// Size of the disk, 40GiB for example or bytes; left out: as the image.
        #[arg(long, value_parser = farrier_model::size::parse)]
        size: Option<i64>,
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
        /// Its new size, 40GiB for example or bytes.
        #[arg(value_parser = farrier_model::size::parse)]
        size: i64,
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
            if file.exists() {
                bail!("{}: expected no such file, saw one; it is not overwritten", file.display());
            }
            let size = size.map(u64::try_from).transpose()?;
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
        OverlayCommand::Resize { file, size } => Ok(open(&file)?.resize(u64::try_from(size)?)?),
        OverlayCommand::Export { file, raw } => {
            let overlay = open(&file)?;
            let mut options = std::fs::OpenOptions::new();
            if raw.exists() {
                bail!("{}: expected no such file, saw one; it is not overwritten", raw.display());
            }
            // Under its name when it is whole.
            let mut part = raw.clone().into_os_string();
            part.push(".part");
            let made = options.write(true).create_new(true).open(&part);
            let mut out = Sparse(made.with_context(|| {
                format!(
                    "cannot make {}: if it is of an export that was broken off, remove it",
                    Path::new(&part).display()
                )
            })?);
            overlay.export(&mut out)?;
            out.0.set_len(overlay.usage()?.size)?;
            out.0.sync_all()?;
            Ok(std::fs::rename(&part, &raw)?)
        }
    }
}

/// A file in which zeros are holes.
struct Sparse(std::fs::File);

impl std::io::Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let piece = bytes.get(..PIECE).unwrap_or(bytes);
        if piece.iter().all(|byte| *byte == 0) {
            self.0.seek_relative(i64::try_from(piece.len()).unwrap_or(0))?;
            Ok(piece.len())
        } else {
            self.0.write(piece)
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Opens one that was made here: it names its image by its path.
pub(super) fn open(file: &Path) -> anyhow::Result<Arc<Overlay>> {
    let info = match Overlay::peek(file) {
        Ok(info) => info,
        Err(OverlayError::Damaged(why)) => bail!(
            "{}: expected an overlay, saw none ({why}); make one with `rackd block overlay create`",
            file.display()
        ),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let base = Path::new(&info.base_id);
    if !base.is_absolute() {
        bail!(
            "{}: expected the path of the image below, saw {:?}; it is of a rack's cache, use it there",
            file.display(),
            info.base_id
        );
    }
    let image = FileBacking::open_locked(base, Mode::ReadOnly)
        .with_context(|| format!("cannot open {}, the image below {}", base.display(), file.display()))?;
    Overlay::open(file, image, &info.base_id).with_context(|| format!("cannot use {}", file.display()))
}

fn image(path: &Path) -> anyhow::Result<(Arc<dyn Image>, String)> {
    let whole = path.canonicalize().with_context(|| format!("cannot open {}", path.display()))?;
    let name = whole.to_str().with_context(|| format!("{}: expected a path in UTF-8", whole.display()))?;
    let image = FileBacking::open_locked(&whole, Mode::ReadOnly)
        .with_context(|| format!("cannot open {}", path.display()))?;
    if Overlay::peek(&whole).is_ok() {
        bail!(
            "{}: expected a raw image, saw an overlay; `rackd block overlay export` makes one of it",
            path.display()
        );
    }
    Ok((image, name.to_owned()))
}

fn show(file: &Path) -> anyhow::Result<()> {
    let overlay = open(file)?;
    let info = Overlay::peek(file)?;
    let usage = overlay.usage()?;
    let lines = [
        ("image", info.base_id),
        ("size", exact(usage.size)),
        ("blocks", format!("{} bytes each", info.block_size)),
        ("own", exact(usage.allocated)),
        ("discarded", exact(usage.zeroed)),
        ("file", format!("{} on its disk", exact(usage.file_bytes))),
    ];
    let mut out = std::io::stdout().lock();
    for (name, value) in lines {
        writeln!(out, "{name:<10} {value}")?;
    }
    Ok(())
}

/// Written or left out at once.
const PIECE: usize = 64 << 10;
