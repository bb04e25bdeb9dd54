//! Sending an image: a file with its digest, in pieces.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use farrier_proto::images::upload_image_request::{Header, Part};
use farrier_proto::images::{Compression, Image, ImageFormat, UploadImageRequest};
use sha2::{Digest as _, Sha256};

/// A file that becomes an image.
#[derive(Debug, Clone)]
pub struct ImageFile {
    pub path: PathBuf,
    /// SHA-256 of the file as it is, lower case hex.
    pub sha256: String,
    pub format: ImageFormat,
    pub compression: Compression,
}

impl ImageFile {
    /// A raw disk, compressed with zstd or not, told apart by the name's end. Blocking.
    pub fn raw(path: &Path) -> Result<Self> {
        let zstd = path.extension().is_some_and(|end| end == "zst");
        Ok(Self {
            path: path.to_owned(),
            sha256: sha256(path)?,
            format: ImageFormat::Raw,
            compression: if zstd { Compression::Zstd } else { Compression::None },
        })
    }

    /// The messages of `UploadImage`, read while they are sent. Calls `sent` with the bytes so far.
    pub(super) fn messages(
        &self,
        name: &str,
        mut sent: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<impl futures::Stream<Item = UploadImageRequest> + Send + 'static> {
        let mut file = std::fs::File::open(&self.path)?;
        let size = file.metadata()?.len();
        let image = Image {
            name: format!("images/{name}"),
            sha256: self.sha256.clone(),
            format: self.format.into(),
            compression: self.compression.into(),
            architecture: "x86_64".to_owned(),
            ..Image::default()
        };
        let header = Header {
            image: Some(image),
            file_bytes: i64::try_from(size)?,
            request_id: uuid::Uuid::new_v4().to_string(),
            ..Header::default()
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            if sender.blocking_send(Part::Header(header)).is_err() {
                return;
            }
            let mut done = 0_u64;
            let mut buffer = vec![0; PIECE];
            // A file that cannot be read ends early: the server says that it is truncated.
            while let Ok(n @ 1..) = file.read(&mut buffer) {
                let data = buffer.get(..n).unwrap_or_default().to_vec();
                // A server that says no has closed the stream: its answer tells why.
                if sender.blocking_send(Part::Data(data)).is_err() {
                    return;
                }
                done += n as u64;
                sent(done, size);
            }
        });
        Ok(futures::stream::unfold(receiver, |mut receiver| async move {
            let part = receiver.recv().await?;
            Some((UploadImageRequest { part: Some(part) }, receiver))
        }))
    }
}

/// `path` compressed with zstd beside it, made once. Blocking, seconds.
pub fn compress(path: &Path) -> Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(".zst");
    let target = PathBuf::from(name);
    if target.exists() {
        return Ok(target);
    }
    let dir = path.parent().context("a file without a directory")?;
    let mut new = tempfile::NamedTempFile::new_in(dir)?;
    let mut encoder = zstd::Encoder::new(&mut new, LEVEL)?;
    std::io::copy(&mut std::fs::File::open(path)?, &mut encoder)?;
    encoder.finish()?.flush()?;
    new.persist(&target)?;
    Ok(target)
}

fn sha256(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut digest = Sha256::new();
    std::io::copy(&mut file, &mut digest)?;
    Ok(hex::encode(digest.finalize()))
}

/// The most that the API takes in one message.
const PIECE: usize = 1 << 20;
/// Quick: the file crosses a loopback.
const LEVEL: i32 = 3;
