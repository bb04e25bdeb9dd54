//! Decompression that stops at a limit: a bomb is an image that is too large.

use super::receive::Verified;
use super::{ImportError, reading};
use farrier_proto::images::Compression;
use std::fs::File;
use std::io::{self, BufReader, Read};

/// The plain bytes of a file, at most `limit` of them.
pub(super) fn reader(
    file: &Verified,
    compression: Compression,
    limit: u64,
) -> Result<Box<dyn Read>, ImportError> {
    let file = BufReader::with_capacity(INPUT_BUFFER, Own(File::open(file.temp().path()).map_err(reading)?));
    Ok(match compression {
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(file).map_err(reading)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(reading)?;
            Box::new(Capped { inner: decoder, left: limit, limit })
        }
        Compression::Gzip => {
            Box::new(Capped { inner: flate2::bufread::MultiGzDecoder::new(file), left: limit, limit })
        }
        _ => Box::new(Capped { inner: file, left: limit, limit }),
    })
}

/// Reads until the buffer is full or the input ends.
pub(super) fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, ImportError> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(whose_fault(error)),
        }
    }
    Ok(filled)
}

/// A decoder's error is the image's fault, unless our own disk or our own limit made it.
fn whose_fault(error: io::Error) -> ImportError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Cause>()) {
        Some(Cause::OverLimit(limit)) => ImportError::TooLarge { limit: *limit },
        Some(Cause::OwnDisk(kind)) => reading((*kind).into()),
        None => ImportError::BadFormat(format!("cannot decompress: {error}")),
    }
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("more than {0} bytes")]
    OverLimit(u64),
    #[error("own disk: {0}")]
    OwnDisk(io::ErrorKind),
}

/// Marks errors of our own disk, so that they are not blamed on the image.
struct Own(File);

impl Read for Own {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => io::Error::other(Cause::OwnDisk(kind)),
        })
    }
}

struct Capped<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(Cause::OverLimit(self.limit))),
        }
        Ok(n)
    }
}

const INPUT_BUFFER: usize = 256 << 10;
/// 128 MiB of window, what `zstd -d` takes without being asked.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
