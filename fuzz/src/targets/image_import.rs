//! An uploaded file as an image: raw, qcow2, zstd, gzip. Everything after the checksum.
//!
//! The reader of qcow2's tables is somebody else's; `convert` turns its panics into BAD_FORMAT. A panic
//! anywhere else ends this target.

use crate::disks::{self, Disks};
use crate::import::{Declared, convert, receive};
use farrier_proto::images::{Compression, ImageFormat};
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;
use tokio_util::sync::CancellationToken;

static BENCH: LazyLock<(tempfile::TempDir, Disks)> = LazyLock::new(|| {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let disks = Disks::open(dir.path().into()).unwrap();
    (dir, disks)
});
/// The disk below changes: two chunks, the second cut short.
static BASE: LazyLock<String> = LazyLock::new(|| {
    let disk = vec![7; (4 << 20) + 1024];
    let promise =
        receive::Promise { file_bytes: disk.len() as u64, sha256: hex::encode(Sha256::digest(&disk)) };
    let (tx, rx) = tokio::sync::mpsc::channel(1);
    tx.try_send(disk).unwrap();
    drop(tx);
    let file = receive::receive(&BENCH.1, &promise, rx).expect("the promise is kept");
    let (format, compression) = (ImageFormat::Raw, Compression::None);
    let declared = Declared { format, compression, max_bytes: MAX, base: String::new() };
    let cut = convert(&BENCH.1, file, declared, &CancellationToken::new()).expect("a disk");
    let digest = disks::manifest_digest(&cut.manifest);
    BENCH.1.publish(cut.raw, &cut.manifest).unwrap();
    digest
});
const MAX: u64 = 8 << 20;

pub fn run(data: &[u8]) {
    let ([mode], data) = crate::head::<1>(data);
    let format = match mode & 9 {
        0 => ImageFormat::Qcow2,
        1 => ImageFormat::Raw,
        _ => ImageFormat::Changes,
    };
    let compression = match mode >> 1 & 3 {
        1 => Compression::Zstd,
        2 => Compression::Gzip,
        _ => Compression::None,
    };
    let promise =
        receive::Promise { file_bytes: data.len() as u64, sha256: hex::encode(Sha256::digest(data)) };
    let (tx, rx) = tokio::sync::mpsc::channel(1);
    tx.try_send(data.to_vec()).unwrap();
    drop(tx);
    let file = receive::receive(&BENCH.1, &promise, rx).expect("the promise is kept");
    let declared = Declared { format, compression, max_bytes: MAX, base: BASE.clone() };
    match convert(&BENCH.1, file, declared, &CancellationToken::new()) {
        Ok(cut) => {
            let size = cut.manifest.size_bytes as u64;
            assert!(size <= MAX + 511 && cut.stored_bytes <= size);
            let chunks = size.div_ceil(cut.manifest.chunk_bytes as u64);
            assert_eq!(cut.manifest.digests.len() as u64, chunks * 32);
        }
        Err(error) => drop(error.to_string()),
    }
}
