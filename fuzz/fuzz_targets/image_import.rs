//! An uploaded file as an image: raw, qcow2, zstd, gzip. Everything after the checksum.
//!
//! The reader of qcow2's tables is somebody else's; `convert` turns its panics into BAD_FORMAT. A panic
//! anywhere else ends this target.
#![no_main]
#![allow(dead_code, unreachable_pub, clippy::all)]

#[path = "../../services/images/src/disks.rs"]
mod disks;
#[path = "../../services/images/src/import/mod.rs"]
mod import;

use disks::Disks;
use farrier_proto::images::{Compression, ImageFormat};
use import::{Declared, convert, receive};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;
use tokio_util::sync::CancellationToken;

static BENCH: LazyLock<(tempfile::TempDir, Disks)> = LazyLock::new(|| {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let disks = Disks::open(dir.path().into()).unwrap();
    (dir, disks)
});
const MAX: u64 = 8 << 20;

fuzz_target!(
    init: {
        if std::env::var_os("FUZZ_READER_PANICS").is_none() {
            std::panic::set_hook(Box::new(|_| {}));
        }
    },
    |data: &[u8]| {
        let ([mode], data) = farrier_fuzz::head::<1>(data);
        let format = if mode & 1 == 0 { ImageFormat::Qcow2 } else { ImageFormat::Raw };
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
        let declared = Declared { format, compression, max_bytes: MAX };
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
);
