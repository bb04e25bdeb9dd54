//! What a task keeps secret, journaled sealed.

use farrier_runtime::vault::{Vault, VaultError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::bmc::Keys;

/// Secrets and one-time proofs of one task. Its `Debug` is blank.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Secrets {
    pub(crate) bmc_password: String,
    /// One that the BMC may have instead, or gets.
    #[serde(default)]
    pub(crate) bmc_next_password: String,
    /// The BMC's own key.
    #[serde(default)]
    pub(crate) bmc_kg: String,
    /// cloud-init user data, as given: people put passwords into it.
    #[serde(default)]
    pub(crate) user_data: Vec<u8>,
    /// Tokens that boot scripts carry, by their digests, with the key that used each.
    pub(crate) boot_tokens: Vec<BootToken>,
    /// What a ramdisk proves itself with to the image's iSCSI target, made for this operation.
    #[serde(default)]
    pub(crate) chap_secret: String,
    /// Where the BMC reads firmware from.
    #[serde(default)]
    pub(crate) firmware_url: String,
    /// In the URL of the machine's boot CD.
    #[serde(default)]
    pub(crate) media_key: String,
    /// In the phone-home URL of the deployed system.
    pub(crate) phone_secret: String,
    /// The deployed system has called.
    pub(crate) phoned: bool,
}

/// A one-time token, valid for one boot of one machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BootToken {
    pub(crate) digest: String,
    /// SHA-256 of the public key that used it.
    pub(crate) used_by: Option<String>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        self.bmc_password.zeroize();
        self.bmc_next_password.zeroize();
        self.bmc_kg.zeroize();
        self.phone_secret.zeroize();
        self.media_key.zeroize();
        self.firmware_url.zeroize();
        self.chap_secret.zeroize();
        self.user_data.zeroize();
    }
}

impl Secrets {
    /// What opens the machine's BMC.
    pub(crate) fn bmc_keys(&self) -> Keys {
        let copy = |text: &String| Zeroizing::new(text.clone());
        Keys {
            password: copy(&self.bmc_password),
            next: copy(&self.bmc_next_password),
            kg: copy(&self.bmc_kg),
        }
    }

    pub(crate) fn set_bmc_keys(&mut self, keys: &Keys) {
        self.bmc_password.clone_from(&keys.password);
        self.bmc_next_password.clone_from(&keys.next);
        self.bmc_kg.clone_from(&keys.kg);
    }

    pub(crate) fn seal(&self, vault: &Vault, task: &str) -> Result<Vec<u8>, VaultError> {
        let bytes = serde_json::to_vec(self).map_err(|_| VaultError::Open)?;
        vault.seal(&context(task), &bytes)
    }

    pub(crate) fn open(vault: &Vault, task: &str, sealed: &[u8]) -> Result<Self, VaultError> {
        serde_json::from_slice(&vault.open(&context(task), sealed)?).map_err(|_| VaultError::Open)
    }

    /// Makes a boot token, keeps its digest, returns the token. Old unused tokens stay good for the boot
    /// that may be reading them now; a handful is enough.
    pub(crate) fn new_boot_token(&mut self) -> String {
        const KEPT: usize = 8;
        let token = random_token();
        self.boot_tokens.push(BootToken { digest: digest(&token), used_by: None });
        let surplus = self.boot_tokens.len().saturating_sub(KEPT);
        self.boot_tokens.drain(..surplus);
        token
    }

    /// Whether the one that is served is nobody's to use any more.
    pub(crate) fn is_newest_boot_token_used(&self) -> bool {
        self.boot_tokens.last().is_some_and(|token| token.used_by.is_some())
    }

    /// Uses a token. The same key may use it again: its answer may have been lost.
    pub(crate) fn use_boot_token(&mut self, token: &str, key: &str) -> TokenUse {
        let outcome = self.look_at_boot_token(token, key);
        if outcome == TokenUse::First {
            let digest = digest(token);
            if let Some(known) = self.boot_tokens.iter_mut().find(|t| t.digest == digest) {
                known.used_by = Some(key.to_owned());
            }
        }
        outcome
    }

    /// What a use would come to.
    pub(crate) fn look_at_boot_token(&self, token: &str, key: &str) -> TokenUse {
        let digest = digest(token);
        // Digests of 256-bit random tokens: comparing them leaks nothing useful about a token.
        match self.boot_tokens.iter().find(|t| t.digest == digest).map(|known| &known.used_by) {
            None => TokenUse::Unknown,
            Some(Some(by)) if by != key => TokenUse::UsedByAnother,
            Some(Some(_)) => TokenUse::Again,
            Some(None) => TokenUse::First,
        }
    }
}

/// What became of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenUse {
    First,
    Again,
    UsedByAnother,
    Unknown,
}

fn context(task: &str) -> String {
    format!("tasks/{task}")
}

/// 128 random bits, hexadecimal: firmware keeps CHAP secrets in fields of 32 characters, and RFC 7143 section 12.1.4
/// wants 96 bits at least.
pub(crate) fn random_chap_secret() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

/// 128 random bits, hexadecimal: some BMCs take short URLs only.
pub(crate) fn random_media_key() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

/// 256 random bits, hexadecimal.
pub(crate) fn random_token() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

fn digest(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_works_for_one_key_only() {
        let mut secrets = Secrets::default();
        let token = secrets.new_boot_token();
        assert_eq!(secrets.use_boot_token("other", "k1"), TokenUse::Unknown);
        assert!(!secrets.is_newest_boot_token_used());
        assert_eq!(secrets.use_boot_token(&token, "k1"), TokenUse::First);
        assert!(secrets.is_newest_boot_token_used());
        assert_eq!(secrets.use_boot_token(&token, "k1"), TokenUse::Again);
        assert_eq!(secrets.use_boot_token(&token, "k2"), TokenUse::UsedByAnother);
        secrets.new_boot_token();
        assert!(!secrets.is_newest_boot_token_used());
    }

    #[test]
    fn secrets_round_trip_sealed_and_debug_is_blank() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open_or_create(&dir.path().join("key")).unwrap();
        let mut secrets = Secrets::default();
        secrets.bmc_password = "hunter2".into();
        let sealed = secrets.seal(&vault, "t").unwrap();
        assert_eq!(Secrets::open(&vault, "t", &sealed).unwrap().bmc_password, "hunter2");
        assert!(Secrets::open(&vault, "other", &sealed).is_err());
        assert_eq!(format!("{secrets:?}"), "Secrets");
    }
}
