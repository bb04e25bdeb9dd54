//! Room on rackd's disk, which is its machines' disk too: what would fill it is refused before it begins.

use std::io;
use std::path::{Path, PathBuf};

/// Says how many bytes are free where a path is, or will be.
pub(crate) type Probe = fn(&Path) -> io::Result<u64>;

/// There is not enough room.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "{} has {} MiB free: expected {} MiB, and {} MiB more that running machines write to; remove what is not needed there, or give it a larger disk",
    .dir.display(), .free >> 20, .need.div_ceil(1 << 20), RESERVE >> 20
)]
pub(crate) struct NoRoom {
    pub(crate) dir: PathBuf,
    pub(crate) need: u64,
    pub(crate) free: u64,
}

/// Whether `need` more bytes fit into `dir` and leave the machines a reserve.
pub(crate) fn check(probe: Probe, dir: &Path, need: u64) -> io::Result<Result<(), NoRoom>> {
    let free = probe(dir)?;
    let fits = need.saturating_add(RESERVE) <= free;
    Ok(if fits { Ok(()) } else { Err(NoRoom { dir: dir.to_owned(), need, free }) })
}

/// Free bytes of the file system that `path`, or what there is of it, is on.
pub(crate) fn free(path: &Path) -> io::Result<u64> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let seen = rustix::fs::statvfs(there)?;
    Ok(seen.f_bavail.saturating_mul(seen.f_frsize))
}

/// Left to running machines, bytes: enough for minutes of their writes, until somebody has heard of it.
const RESERVE: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_leaves_a_reserve() {
        let probe: Probe = |_| Ok(RESERVE + 100);
        assert!(check(probe, Path::new("/x"), 100).unwrap().is_ok());
        let refused = check(probe, Path::new("/x"), 101).unwrap().unwrap_err();
        assert!(refused.to_string().starts_with("/x has 256 MiB free: expected 1 MiB"), "{refused}");
        assert!(check(probe, Path::new("/x"), u64::MAX).unwrap().is_err());
        // Of a directory that is still to be made.
        assert!(free(&std::env::temp_dir().join("not/there/yet")).unwrap() > 0);
    }
}
