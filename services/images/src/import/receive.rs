//! Taking the bytes of an upload to a temporary file, and checking that they are what was promised.

use super::{ImportError, writing};
use crate::disks::{Disks, Temp};
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use tokio::sync::mpsc;

/// What the uploader promises.
#[derive(Debug, Clone)]
pub(crate) struct Promise {
    pub(crate) file_bytes: u64,
    /// Lower case hex.
    pub(crate) sha256: String,
}

/// A file that has the promised size and digest: the only kind that is ever parsed.
#[derive(Debug)]
pub(crate) struct Verified(Temp);

impl Verified {
    pub(crate) fn temp(&self) -> &Temp {
        &self.0
    }

    pub(crate) fn into_temp(self) -> Temp {
        self.0
    }
}

/// Takes pieces until the sender is dropped. Blocking; the channel's bound is the back-pressure.
pub(crate) fn receive(
    disks: &Disks,
    promise: &Promise,
    mut pieces: mpsc::Receiver<Vec<u8>>,
) -> Result<Verified, ImportError> {
    let temp = disks.temp().map_err(writing)?;
    let declared = promise.file_bytes;
    let mut hash = Sha256::new();
    let mut seen: u64 = 0;
    while let Some(piece) = pieces.blocking_recv() {
        seen = seen.saturating_add(piece.len() as u64);
        if seen > declared {
            return Err(ImportError::TooLong { declared });
        }
        hash.update(&piece);
        temp.file().write_all(&piece).map_err(writing)?;
    }
    if seen < declared {
        return Err(ImportError::Truncated { declared, seen });
    }
    let digest = hex::encode(hash.finalize());
    if digest != promise.sha256 {
        return Err(ImportError::Checksum { expected: promise.sha256.clone(), seen: digest });
    }
    Ok(Verified(temp))
}

#[cfg(test)]
impl Verified {
    /// For tests of what comes after.
    pub(crate) fn trusting(disks: &Disks, content: &[u8]) -> Self {
        let temp = disks.temp().unwrap();
        temp.file().write_all(content).unwrap();
        Self(temp)
    }
}
