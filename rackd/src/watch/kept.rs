//! The BMCs that inventory told last, with their passwords, on disk: a rackd that restarts while the centre is away goes on
//! looking at them.
//!
//! One file, sealed as a whole by rackd's key (`secrets.key` beside it), for nobody else to read. It is a copy: one that
//! is damaged, or sealed by another key, is told and costs what it is for.

use farrier_proto::inventory::{ListWatchedNodesResponse, WatchedNode};
use farrier_runtime::vault::Vault;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// In rackd's data directory.
pub(super) const FILE: &str = "bmcs.sealed";
/// What it was sealed for.
const CONTEXT: &str = "bmcs";

pub(super) struct Kept {
    path: PathBuf,
    vault: Arc<Vault>,
    /// Of what the file has.
    digest: Option<[u8; 32]>,
}

/// Takes away what was kept, where nobody looks any more.
pub(crate) fn remove(data: &Path) {
    let path = data.join(FILE);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "passwords of BMCs that nobody looks at stay on disk, sealed");
        }
        _ => {}
    }
}

impl Kept {
    /// And what was kept, if anything was.
    pub(super) fn open(path: PathBuf, vault: Arc<Vault>) -> (Self, Vec<WatchedNode>) {
        let read = read(&path, &vault);
        let (nodes, digest) = match read {
            Ok((nodes, digest)) => (nodes, Some(digest)),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "which BMCs to look at is not known until inventory tells");
                }
                (Vec::new(), None)
            }
        };
        (Self { path, vault, digest }, nodes)
    }

    /// Writes these down in place of what was kept, where they are others. Blocking.
    pub(super) fn renew(&mut self, nodes: &[WatchedNode]) -> io::Result<()> {
        let list = ListWatchedNodesResponse { nodes: nodes.to_vec(), next_page_token: String::new() };
        let bytes = Zeroizing::new(list.encode_to_vec());
        forget(list);
        let digest = Sha256::digest(bytes.as_slice()).into();
        if self.digest == Some(digest) {
            return Ok(());
        }
        write(&self.path, &self.vault.seal(CONTEXT, &bytes).map_err(io::Error::other)?)?;
        self.digest = Some(digest);
        Ok(())
    }
}

/// A copy of passwords that nobody needs any more.
fn forget(list: ListWatchedNodesResponse) {
    for node in list.nodes {
        drop((Zeroizing::new(node.bmc_password), Zeroizing::new(node.bmc_next_password)));
    }
}

fn read(path: &Path, vault: &Vault) -> io::Result<(Vec<WatchedNode>, [u8; 32])> {
    let bytes = vault.open(CONTEXT, &std::fs::read(path)?).map_err(io::Error::other)?;
    let list = ListWatchedNodesResponse::decode(bytes.as_slice()).map_err(io::Error::other)?;
    Ok((list.nodes, Sha256::digest(bytes.as_slice()).into()))
}

fn write(path: &Path, sealed: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    // One that a crash left may have been made with other rights.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(sealed)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn node(name: &str, password: &str) -> WatchedNode {
        WatchedNode { node: format!("nodes/{name}"), bmc_password: password.into(), ..WatchedNode::default() }
    }

    #[test]
    fn what_was_told_last_is_read_again_and_no_password_is_on_disk_in_the_clear() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Arc::new(Vault::open_or_create(&dir.path().join("secrets.key")).unwrap());
        let path = dir.path().join(FILE);
        let (mut kept, nodes) = Kept::open(path.clone(), vault.clone());
        assert_eq!(nodes, []);
        kept.renew(&[node("a", "hunter2"), node("b", "x")]).unwrap();
        let told = [node("a", "hunter2"), node("c", "hunter3")];
        kept.renew(&told).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"hunter"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // As it is, it is not written again.
        kept.renew(&told).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let (_, again) = Kept::open(path.clone(), vault);
        assert_eq!(again, told);
        // Of no use to whoever has the file alone.
        let other = Arc::new(Vault::open_or_create(&dir.path().join("other.key")).unwrap());
        assert_eq!(Kept::open(path.clone(), other.clone()).1, []);
        std::fs::write(&path, b"rubbish").unwrap();
        let (mut kept, nodes) = Kept::open(path.clone(), other.clone());
        assert_eq!(nodes, []);
        kept.renew(&told).unwrap();
        assert_eq!(Kept::open(path, other).1, told);
    }
}
