//! Secrets at rest: AES-256-GCM with a key that is kept elsewhere ([`KeySource`]). A copied database gives nothing away.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::path::Path;
use zeroize::Zeroizing;

use crate::key::{self, KeyError, KeySource};

const NONCE_BYTES: usize = 12;

/// Seals and opens secrets.
pub struct Vault {
    key: LessSafeKey,
}

/// Why a secret could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("a stored secret cannot be opened: is this the key that sealed it?")]
    Open,
    #[error("expected the key of the stored secrets at {at}, saw no file; {}", restore(at))]
    Lost { at: KeySource },
    #[error("expected the key that sealed {context} in {at}, saw another one; {}", restore(at))]
    Foreign { at: KeySource, context: String },
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
        Self::new(&key::made(path)?)
    }

    fn new(key: &[u8]) -> Result<Self, VaultError> {
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| VaultError::Open)?;
        Ok(Self { key: LessSafeKey::new(key) })
    }

    /// For a store that may have secrets: `sealed` is one of them and its context. A key that does not open it is
    /// told now, not when it is needed; and none is made where another is missing.
    pub async fn open_beside(at: &KeySource, sealed: Option<(String, Vec<u8>)>) -> Result<Self, VaultError> {
        let Some((context, sealed)) = sealed else { return Self::new(&at.key(true).await?) };
        if matches!(at, KeySource::File(path) if !path.exists()) {
            return Err(VaultError::Lost { at: at.clone() });
        }
        let vault = Self::new(&at.key(false).await?)?;
        match vault.open(&context, &sealed) {
            Ok(_) => Ok(vault),
            Err(_) => Err(VaultError::Foreign { at: at.clone(), context }),
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

fn restore(at: &KeySource) -> String {
    format!("{}; without it the secrets have to be given again", at.restore())
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

    #[tokio::test]
    async fn a_key_that_a_program_prints_opens_what_it_sealed_and_another_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let kms = |name: &str, key: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, key).unwrap();
            KeySource::of("unused".into(), Some(&format!("cat {}", path.display())))
        };
        let (ours, other) = (kms("ours", &"5a".repeat(32)), kms("other", &"a5".repeat(32)));
        let sealed = Vault::open_beside(&ours, None).await.unwrap().seal("nodes/a/bmc", b"hunter2").unwrap();
        let secret = || Some(("nodes/a/bmc".to_owned(), sealed.clone()));
        let vault = Vault::open_beside(&ours, secret()).await.unwrap();
        assert_eq!(vault.open("nodes/a/bmc", &sealed).unwrap().as_slice(), b"hunter2");
        let foreign = Vault::open_beside(&other, secret()).await.unwrap_err();
        assert!(matches!(&foreign, VaultError::Foreign { .. }), "{foreign}");
        let lost = Vault::open_beside(&dir.path().join("gone").into(), secret()).await.unwrap_err();
        assert!(
            matches!(&lost, VaultError::Lost { .. }) && lost.to_string().contains("bring back"),
            "{lost}"
        );
    }
}
