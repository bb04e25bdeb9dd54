//! Secrets at rest: AES-256-GCM with a key from a file. A copied database gives nothing away.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// Seals and opens secrets.
pub struct Vault {
    key: LessSafeKey,
}

/// Why a secret could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("cannot read or make the key file {path}")]
    KeyFile { path: PathBuf, source: std::io::Error },
    #[error("{path}: expected {KEY_BYTES} bytes, saw {seen}")]
    KeyLength { path: PathBuf, seen: usize },
    #[error("a stored secret cannot be opened: is this the key file that sealed it?")]
    Open,
    #[error(
        "expected the key of the stored secrets at {}, saw no file; {}", path.display(), restore(path)
    )]
    Lost { path: PathBuf },
    #[error("expected the key that sealed {context} in {}, saw another one; {}", path.display(), restore(path))]
    Foreign { path: PathBuf, context: String },
    #[error("the system's random generator failed")]
    Random,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    /// Reads the key file, or makes one (mode 0600) where there is none.
    pub fn open_or_create(path: &Path) -> Result<Self, VaultError> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let file_error = |source| VaultError::KeyFile { path: path.to_owned(), source };
        if !path.exists() {
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir).map_err(file_error)?;
            }
            let mut key = Zeroizing::new([0u8; KEY_BYTES]);
            SystemRandom::new().fill(key.as_mut()).map_err(|_| VaultError::Random)?;
            // Written aside and linked into place: two replicas starting at once agree on one key.
            let tmp = path.with_extension(format!("{}.new", std::process::id()));
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&tmp)
                .map_err(file_error)?;
            file.write_all(key.as_ref()).map_err(file_error)?;
            file.sync_all().map_err(file_error)?;
            let linked = std::fs::hard_link(&tmp, path);
            std::fs::remove_file(&tmp).map_err(file_error)?;
            match linked {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(file_error(e)),
                _ => {}
            }
        }
        let bytes = Zeroizing::new(std::fs::read(path).map_err(file_error)?);
        let length = || VaultError::KeyLength { path: path.to_owned(), seen: bytes.len() };
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| length())?;
        Ok(Self { key: LessSafeKey::new(key) })
    }

    /// The same for a store that has secrets: `sealed` is one of them and its context. A key that does not open it is
    /// told now, not when it is needed; and none is made where another is missing.
    pub fn open_beside(path: &Path, sealed: Option<(String, Vec<u8>)>) -> Result<Self, VaultError> {
        let Some((context, sealed)) = sealed else { return Self::open_or_create(path) };
        if !path.exists() {
            return Err(VaultError::Lost { path: path.to_owned() });
        }
        let vault = Self::open_or_create(path)?;
        match vault.open(&context, &sealed) {
            Ok(_) => Ok(vault),
            Err(_) => Err(VaultError::Foreign { path: path.to_owned(), context }),
        }
    }

    /// Seals `secret` for one place: `context` (for example `nodes/n1/bmc`) must be the same at opening,
    /// so that a sealed secret cannot be moved to another row.
    pub fn seal(&self, context: &str, secret: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0u8; NONCE_BYTES];
        SystemRandom::new().fill(&mut nonce).map_err(|_| VaultError::Random)?;
        let mut sealed = secret.to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| VaultError::Random)?;
        let mut out = nonce.to_vec();
        out.append(&mut sealed);
        Ok(out)
    }

    /// Opens what [`Vault::seal`] made.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let (nonce, body) = sealed.split_at_checked(NONCE_BYTES).ok_or(VaultError::Open)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| VaultError::Open)?;
        let mut body = Zeroizing::new(body.to_vec());
        let len = self
            .key
            .open_in_place(nonce, Aad::from(context.as_bytes()), &mut body)
            .map_err(|_| VaultError::Open)?
            .len();
        body.truncate(len);
        Ok(body)
    }
}

fn restore(path: &Path) -> String {
    format!(
        "bring back the file that was {} when they were stored; without it the secrets have to be given again",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_only_where_it_was_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open_or_create(&dir.path().join("key")).unwrap();
        let sealed = vault.seal("nodes/a/bmc", b"hunter2").unwrap();
        assert!(!sealed.windows(7).any(|w| w == b"hunter2"));
        assert_eq!(vault.open("nodes/a/bmc", &sealed).unwrap().as_slice(), b"hunter2");
        assert!(vault.open("nodes/b/bmc", &sealed).is_err());
        let other = Vault::open_or_create(&dir.path().join("other")).unwrap();
        assert!(other.open("nodes/a/bmc", &sealed).is_err());
        assert!(vault.open("nodes/a/bmc", &sealed[..5]).is_err());
    }

    #[test]
    fn the_key_file_is_private_and_kept() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let sealed = Vault::open_or_create(&path).unwrap().seal("c", b"s").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Vault::open_or_create(&path).unwrap().open("c", &sealed).unwrap().as_slice(), b"s");
    }
}
