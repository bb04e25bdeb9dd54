//! The rack's image cache: each image crosses the link from the centre once, verified while it streams,
//! resumable at any chunk.

use farrier_proto::images::image_service_client::ImageServiceClient;
use farrier_proto::images::{GetManifestRequest, ReadChunksRequest};
use farrier_proto::types::ChunkManifest;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tonic::transport::Channel;

/// Progress is synced to disk after this many new chunks: a killed rackd fetches at most these again.
const SYNC_EVERY: usize = 16;
/// Without a byte of what was asked for: a link that is slow brings some, one that is cut none.
const IDLE: Duration = Duration::from_secs(60);
/// The largest chunk we are ready to hold, bytes.
const MAX_CHUNK: i64 = 64 << 20;

pub(crate) struct ImageCache {
    dir: PathBuf,
    images: ImageServiceClient<Channel>,
    /// One fetch an image at a time: the others wait for it and find it done.
    fetches: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

/// A whole image in the cache.
#[derive(Debug, Clone)]
pub(crate) struct CachedImage {
    pub(crate) manifest: ChunkManifest,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    #[error("the images service did not answer: {0}")]
    Unreachable(tonic::Status),
    #[error("the images service refused {image}: {message}")]
    Refused { image: String, message: String },
    #[error(
        "{what}: expected SHA-256 {expected}, saw {seen}; the image or the link is damaged, import it again"
    )]
    Checksum { what: String, expected: String, seen: String },
    #[error("the manifest of {image} is malformed: {why}")]
    Manifest { image: String, why: &'static str },
    #[error("the image cache at {path} cannot be used")]
    Disk { path: PathBuf, source: std::io::Error },
}

impl CacheError {
    pub(crate) fn is_transient(&self) -> bool {
        // A full disk may be emptied.
        matches!(self, CacheError::Unreachable(_) | CacheError::Disk { .. })
    }
}

impl ImageCache {
    pub(crate) fn new(dir: PathBuf, images: Channel) -> Self {
        Self {
            dir,
            images: ImageServiceClient::new(images).max_decoding_message_size(16 << 20),
            fetches: Mutex::default(),
        }
    }

    /// The raw disk of a complete image, or `None`.
    pub(crate) fn path(&self, manifest_sha256: &str) -> Option<PathBuf> {
        // Only a digest names a file: nothing from the wire becomes a path.
        let plain = manifest_sha256.len() == 64 && manifest_sha256.bytes().all(|b| b.is_ascii_hexdigit());
        let path = self.dir.join(format!("{manifest_sha256}.raw"));
        (plain && path.exists()).then_some(path)
    }

    /// Makes sure that the image is here. `progress` gets (done, total) in chunks' bytes.
    pub(crate) async fn ensure(
        &self,
        image: &str,
        manifest_sha256: &str,
        progress: impl Fn(i64, i64),
    ) -> Result<CachedImage, CacheError> {
        let lock = self.fetches.lock().await.entry(manifest_sha256.to_owned()).or_default().clone();
        let _turn = lock.lock().await;
        if let Some(path) = self.path(manifest_sha256) {
            let bytes = read(&path.with_extension("manifest")).await?;
            let manifest = check_manifest(image, manifest_sha256, &bytes)?;
            return Ok(CachedImage { manifest });
        }
        self.fetch(image, manifest_sha256, progress).await
    }

    async fn fetch(
        &self,
        image: &str,
        digest: &str,
        progress: impl Fn(i64, i64),
    ) -> Result<CachedImage, CacheError> {
        let mut client = self.images.clone();
        let request = GetManifestRequest { name: image.to_owned(), manifest_sha256: digest.to_owned() };
        let asked = tokio::time::timeout(IDLE, client.get_manifest(request)).await;
        let manifest = asked.map_err(|_| silent(image))?.map_err(|s| refused(image, s))?.into_inner();
        let manifest = check_manifest(image, digest, &manifest.encode_to_vec())?;

        let part = self.dir.join(format!("{digest}.part"));
        let done_path = self.dir.join(format!("{digest}.done"));
        let disk_error = |path: &Path| {
            let path = path.to_owned();
            move |source| CacheError::Disk { path, source }
        };
        tokio::fs::create_dir_all(&self.dir).await.map_err(disk_error(&self.dir))?;
        let begun = part.exists();
        let file = {
            let path = part.clone();
            let size = u64::try_from(manifest.size_bytes).unwrap_or(0);
            blocking(move || {
                let file = std::fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(path)?;
                file.set_len(size)?;
                Ok(file)
            })
            .await
            .map_err(disk_error(&part))?
        };
        let file = Arc::new(file);

        let digests: Vec<&[u8]> = manifest.digests.chunks_exact(32).collect();
        let wanted: Vec<usize> =
            digests.iter().enumerate().filter(|(_, d)| d.iter().any(|b| *b != 0)).map(|(i, _)| i).collect();
        // Chunks before this one are whole on disk: written in order, synced before the number was.
        let first = match begun {
            true => {
                tokio::fs::read_to_string(&done_path).await.ok().and_then(|text| text.trim().parse().ok())
            }
            // Its number without its file: somebody emptied the cache.
            false => None,
        }
        .unwrap_or(0);
        let total = i64::try_from(wanted.len()).unwrap_or(0) * manifest.chunk_bytes;
        let mut fetched = wanted.iter().filter(|i| **i < first).count();
        progress(i64::try_from(fetched).unwrap_or(0) * manifest.chunk_bytes, total);

        let request = ReadChunksRequest {
            manifest_sha256: digest.to_owned(),
            first_chunk: i64::try_from(first).unwrap_or(0),
        };
        let asked = tokio::time::timeout(IDLE, client.read_chunks(request)).await;
        let mut stream = asked.map_err(|_| silent(image))?.map_err(|s| refused(image, s))?.into_inner();
        let mut unsynced = 0;
        for index in wanted.iter().copied().filter(|i| *i >= first) {
            let expected = digests.get(index).copied().unwrap_or_default();
            let len = chunk_len(&manifest, index);
            let mut chunk: Vec<u8> = Vec::with_capacity(len);
            while chunk.len() < len {
                let piece = tokio::time::timeout(IDLE, stream.message()).await.map_err(|_| silent(image))?;
                let piece = piece.map_err(|s| refused(image, s))?.ok_or_else(|| {
                    CacheError::Unreachable(tonic::Status::unavailable(format!(
                        "the stream of {image} ended early"
                    )))
                })?;
                if usize::try_from(piece.chunk) != Ok(index)
                    || usize::try_from(piece.offset) != Ok(chunk.len())
                    || chunk.len() + piece.data.len() > len
                {
                    return Err(CacheError::Manifest {
                        image: image.to_owned(),
                        why: "its chunks came out of order",
                    });
                }
                chunk.extend_from_slice(&piece.data);
            }
            let seen = Sha256::digest(&chunk);
            if seen.as_slice() != expected {
                return Err(CacheError::Checksum {
                    what: format!("chunk {index} of {image}"),
                    expected: hex::encode(expected),
                    seen: hex::encode(seen),
                });
            }
            let offset = u64::try_from(index).unwrap_or(0) * u64::try_from(manifest.chunk_bytes).unwrap_or(0);
            unsynced += 1;
            let sync = unsynced >= SYNC_EVERY;
            blocking({
                let file = file.clone();
                move || {
                    file.write_all_at(&chunk, offset)?;
                    if sync { file.sync_data() } else { Ok(()) }
                }
            })
            .await
            .map_err(disk_error(&part))?;
            fetched += 1;
            if sync {
                unsynced = 0;
                write_atomic(&done_path, (index + 1).to_string().into_bytes()).await?;
            }
            progress(i64::try_from(fetched).unwrap_or(0) * manifest.chunk_bytes, total);
        }
        let whole = self.dir.join(format!("{digest}.raw"));
        write_atomic(&whole.with_extension("manifest"), manifest.encode_to_vec()).await?;
        blocking({
            let (part, whole) = (part.clone(), whole.clone());
            move || {
                file.sync_all()?;
                std::fs::rename(part, whole)
            }
        })
        .await
        .map_err(disk_error(&whole))?;
        let _ = tokio::fs::remove_file(&done_path).await;
        Ok(CachedImage { manifest })
    }
}

fn silent(image: &str) -> CacheError {
    let text = format!("nothing of {image} for {}s", IDLE.as_secs());
    CacheError::Unreachable(tonic::Status::deadline_exceeded(text))
}

fn refused(image: &str, status: tonic::Status) -> CacheError {
    use tonic::Code;
    match status.code() {
        Code::NotFound | Code::FailedPrecondition | Code::PermissionDenied | Code::InvalidArgument => {
            CacheError::Refused { image: image.to_owned(), message: status.message().to_owned() }
        }
        _ => CacheError::Unreachable(status),
    }
}

fn check_manifest(image: &str, digest: &str, bytes: &[u8]) -> Result<ChunkManifest, CacheError> {
    let bad = |why| CacheError::Manifest { image: image.to_owned(), why };
    let manifest = ChunkManifest::decode(bytes).map_err(|_| bad("it cannot be decoded"))?;
    let sane = manifest.chunk_bytes > 0
        && manifest.chunk_bytes <= MAX_CHUNK
        && manifest.size_bytes >= 0
        && usize::try_from(manifest.size_bytes.div_euclid(manifest.chunk_bytes)).is_ok_and(|whole| {
            manifest.digests.len() / 32 >= whole && manifest.digests.len() / 32 <= whole + 1
        })
        && manifest.digests.len() % 32 == 0;
    if !sane {
        return Err(bad("its sizes and digests do not fit together"));
    }
    let size = u64::try_from(manifest.size_bytes).unwrap_or(0);
    let chunk = u64::try_from(manifest.chunk_bytes).unwrap_or(0);
    let seen = hex::encode(
        Sha256::new()
            .chain_update(farrier_model::chunks::manifest_preimage_header(size, chunk))
            .chain_update(&manifest.digests)
            .finalize(),
    );
    if seen != digest {
        return Err(CacheError::Checksum {
            what: format!("the manifest of {image}"),
            expected: digest.to_owned(),
            seen,
        });
    }
    Ok(manifest)
}

fn chunk_len(manifest: &ChunkManifest, index: usize) -> usize {
    let start = i64::try_from(index).unwrap_or(0).saturating_mul(manifest.chunk_bytes);
    usize::try_from((manifest.size_bytes - start).clamp(0, manifest.chunk_bytes)).unwrap_or(0)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

async fn read(path: &Path) -> Result<Vec<u8>, CacheError> {
    tokio::fs::read(path).await.map_err(|source| CacheError::Disk { path: path.to_owned(), source })
}

async fn write_atomic(path: &Path, bytes: Vec<u8>) -> Result<(), CacheError> {
    let target = path.to_owned();
    blocking(move || {
        use std::io::Write as _;
        let tmp = target.with_extension("tmp");
        let mut file = std::fs::File::create(&tmp)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(tmp, target)
    })
    .await
    .map_err(|source| CacheError::Disk { path: path.to_owned(), source })
}
