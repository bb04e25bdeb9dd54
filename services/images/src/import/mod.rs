//! How an uploaded file becomes a disk: receive → verify → decompress → read its format → cut.
//!
//! All of it is blocking code for a thread of its own. A file is parsed only as a [`receive::Verified`], so
//! nothing looks into bytes whose digest was not checked. Start with [`convert`].

mod changes;
mod cut;
mod decompress;
mod qcow2;
pub(crate) mod receive;

use crate::disks::{Disks, Temp};
pub(crate) use cut::Cut;
use farrier_model::chunks::CHUNK_BYTES;
use farrier_proto::images::{Compression, ImageFormat};
use receive::Verified;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio_util::sync::CancellationToken;

/// What a file is said to be, and how large it may become.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    pub(crate) format: ImageFormat,
    pub(crate) compression: Compression,
    /// Most bytes that may come out of decompression, and largest disk.
    pub(crate) max_bytes: u64,
    /// Manifest of the disk that [`ImageFormat::Changes`] are changes of.
    pub(crate) base: String,
}

/// Why a file did not become a disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error("more bytes came than the {declared} that were declared")]
    TooLong { declared: u64 },
    #[error("{seen} of {declared} bytes came")]
    Truncated { declared: u64, seen: u64 },
    #[error("expected a file with SHA-256 {expected}, saw {seen}")]
    Checksum { expected: String, seen: String },
    #[error("{0}")]
    BadFormat(String),
    #[error("expected the disk {0:.64} here, of which these are changes; saw none: send all of it")]
    NoBase(String),
    #[error("the image is larger than the {limit} bytes taken here")]
    TooLarge { limit: u64 },
    #[error("the caller went away")]
    Cancelled,
    #[error("{doing}")]
    Disk {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Makes a raw disk of a verified file. Blocking: for minutes, and no input panics it.
pub(crate) fn convert(
    disks: &Disks,
    file: Verified,
    declared: Declared,
    cancel: &CancellationToken,
) -> Result<Cut, ImportError> {
    // The qcow2 reader is somebody else's code on a stranger's bytes: a panic there is a bad image.
    catch_unwind(AssertUnwindSafe(|| pipeline(disks, file, &declared, cancel))).unwrap_or_else(|_| {
        tracing::error!(format = ?declared.format, "the image reader panicked: refused the image");
        Err(ImportError::BadFormat("the image cannot be read".to_owned()))
    })
}

fn pipeline(
    disks: &Disks,
    file: Verified,
    declared: &Declared,
    cancel: &CancellationToken,
) -> Result<Cut, ImportError> {
    let out = disks.temp().map_err(writing)?;
    let Declared { format, compression, max_bytes, ref base } = *declared;
    match format {
        ImageFormat::Changes => {
            let manifest = disks.manifest(base).map_err(reading)?;
            let manifest = manifest.ok_or_else(|| ImportError::NoBase(base.clone()))?;
            let base = changes::Base { file: disks.raw(base).map_err(reading)?, manifest };
            // Numbers between the chunks.
            let most = max_bytes.saturating_add((max_bytes / CHUNK_BYTES + 3) * 8);
            let mut told = decompress::reader(&file, compression, most)?;
            cut::cut(&mut changes::Changes::open(&mut *told, base, max_bytes)?, out, max_bytes, cancel)
        }
        ImageFormat::Qcow2 => {
            let plain = match compression {
                Compression::Zstd | Compression::Gzip => unpack(disks, &file, declared, cancel)?,
                _ => file.into_temp(),
            };
            cut::cut(&mut qcow2::Disk::open(plain.file(), max_bytes)?, out, max_bytes, cancel)
        }
        _ => cut::cut(
            &mut cut::Sequential(decompress::reader(&file, compression, max_bytes)?),
            out,
            max_bytes,
            cancel,
        ),
    }
}

/// A decompressed copy of the file, for formats that are read at random.
fn unpack(
    disks: &Disks,
    file: &Verified,
    declared: &Declared,
    cancel: &CancellationToken,
) -> Result<Temp, ImportError> {
    use std::io::Write as _;
    let temp = disks.temp().map_err(writing)?;
    let mut reader = decompress::reader(file, declared.compression, declared.max_bytes)?;
    let mut buffer = vec![0; UNPACK_BUFFER];
    loop {
        if cancel.is_cancelled() {
            return Err(ImportError::Cancelled);
        }
        let n = decompress::fill(&mut *reader, &mut buffer)?;
        let piece = buffer.get(..n).unwrap_or_default();
        if piece.is_empty() {
            return Ok(temp);
        }
        temp.file().write_all(piece).map_err(writing)?;
    }
}

pub(crate) fn writing(source: io::Error) -> ImportError {
    ImportError::Disk { doing: "cannot write to the data directory", source }
}

pub(crate) fn reading(source: io::Error) -> ImportError {
    ImportError::Disk { doing: "cannot read the data directory", source }
}

const UNPACK_BUFFER: usize = 1 << 20;

#[cfg(test)]
mod tests;
