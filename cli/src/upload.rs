//! An image on its way to the image service: what it is, and its bytes in pieces.

use crate::failure::Failure;
use farrier_proto::images::upload_image_request::{Header, Part};
use farrier_proto::images::{Compression, ImageFormat, UploadImageRequest};
use futures::Stream;
use indicatif::ProgressBar;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncReadExt as _;

/// Bytes in a piece: the contract's limit.
const PIECE: usize = 1 << 20;
/// QCOW2 starts with this (QEMU docs/interop/qcow2.txt, "magic").
const QCOW2: &[u8] = b"QFI\xfb";
/// gzip (RFC 1952, section 2.3.1: ID1, ID2) and Zstandard (RFC 8878, section 3.1.1: Magic_Number).
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];

/// What a file holds, by its first bytes where they say it, else by its name.
pub fn guess(name: &str, head: &[u8]) -> Result<(ImageFormat, Compression), Failure> {
    let name = name.to_ascii_lowercase();
    let compression = if head.starts_with(ZSTD) {
        Compression::Zstd
    } else if head.starts_with(GZIP) {
        Compression::Gzip
    } else if head.starts_with(XZ) {
        return Err(Failure::usage("the file is compressed with xz, which is not taken")
            .next("`xz -d FILE`, or compress it with zstd; the SHA-256 is that of the file you upload"));
    } else {
        Compression::None
    };
    let inner = [".zst", ".zstd", ".gz"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    // What is inside a compressed file is only seen by the service, so there the name decides. A file that
    // is named qcow2 and is none is sent as such: the service says what is wrong with it.
    let qcow2 = inner.ends_with(".qcow2") || head.starts_with(QCOW2);
    Ok((if qcow2 { ImageFormat::Qcow2 } else { ImageFormat::Raw }, compression))
}

/// Checks that a digest is one, and gives it in lower case.
pub fn sha256(text: &str) -> Result<String, String> {
    match hex::decode(text) {
        Ok(bytes) if bytes.len() == 32 => Ok(text.to_ascii_lowercase()),
        _ => {
            Err("expected 64 hexadecimal digits: the publisher lists it, `sha256sum FILE` computes it"
                .to_owned())
        }
    }
}

/// The first bytes of a file and its size.
pub async fn look(path: &Path) -> Result<(Vec<u8>, u64), Failure> {
    let failed = |error: std::io::Error| Failure::file(path, "read", &error);
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let size = file.metadata().await.map_err(failed)?.len();
    let mut head = Vec::new();
    file.take(16).read_to_end(&mut head).await.map_err(failed)?;
    Ok((head, size))
}

/// Why the file could not be read to its end, if so. The server only sees a stream that ends early.
#[derive(Debug, Clone, Default)]
pub struct ReadError(Arc<Mutex<Option<String>>>);

impl ReadError {
    pub fn take(&self) -> Option<String> {
        self.0.lock().ok().and_then(|mut error| error.take())
    }

    fn set(&self, error: &std::io::Error) {
        if let Ok(mut held) = self.0.lock() {
            *held = Some(error.to_string());
        }
    }
}

/// The messages of an upload: the header, then the file in pieces.
pub fn messages(
    header: Header,
    file: tokio::fs::File,
    bar: ProgressBar,
    error: ReadError,
) -> impl Stream<Item = UploadImageRequest> + Send + 'static {
    let first = futures::stream::iter([UploadImageRequest { part: Some(Part::Header(header)) }]);
    let rest = futures::stream::unfold((file, bar, error), |(mut file, bar, error)| async move {
        let mut piece = Vec::with_capacity(PIECE);
        // Fills the piece as far as the file goes: short reads would make small messages.
        match (&mut file).take(PIECE as u64).read_to_end(&mut piece).await {
            Ok(0) => None,
            Ok(read) => {
                bar.inc(read as u64);
                Some((UploadImageRequest { part: Some(Part::Data(piece)) }, (file, bar, error)))
            }
            Err(failed) => {
                error.set(&failed);
                None
            }
        }
    });
    futures::StreamExt::chain(first, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;

    #[test]
    fn what_a_file_holds_is_seen() {
        for (name, head, format, compression) in [
            ("u.img", QCOW2, ImageFormat::Qcow2, Compression::None),
            ("u.img", b"\xeb\x63\x90\x00".as_slice(), ImageFormat::Raw, Compression::None),
            ("u.qcow2.zst", ZSTD, ImageFormat::Qcow2, Compression::Zstd),
            ("u.raw.gz", GZIP, ImageFormat::Raw, Compression::Gzip),
            ("U.QCOW2", b"".as_slice(), ImageFormat::Qcow2, Compression::None),
        ] {
            assert_eq!(guess(name, head).unwrap(), (format, compression), "{name}");
        }
        assert!(guess("u.raw.xz", XZ).is_err());
    }

    #[test]
    fn a_digest_is_64_digits() {
        assert_eq!(sha256(&"AB".repeat(32)), Ok("ab".repeat(32)));
        for bad in ["", "ab", &"zz".repeat(32), &"ab".repeat(33)] {
            assert!(sha256(bad).unwrap_err().contains("sha256sum"), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_file_goes_in_pieces_of_a_mebibyte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, vec![7u8; (PIECE * 2) + 5]).unwrap();
        let file = tokio::fs::File::open(&path).await.unwrap();
        let sizes: Vec<_> = messages(Header::default(), file, ProgressBar::hidden(), ReadError::default())
            .map(|m| match m.part {
                Some(Part::Data(data)) => data.len(),
                _ => 0,
            })
            .collect()
            .await;
        assert_eq!(sizes, vec![0, PIECE, PIECE, 5]);
    }
}
