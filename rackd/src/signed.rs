//! Signed, expiring URLs of image bytes: what a ramdisk is given instead of an account.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Signs and checks. The key is rackd's own and is kept with its data, so that a URL outlives a restart.
#[derive(Clone)]
pub(crate) struct Signer {
    key: [u8; 32],
}

impl Signer {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// Path and query for the raw disk of `manifest`, good for `valid`.
    pub(crate) fn path(&self, manifest: &str, valid: Duration) -> String {
        let expires = unix_now() + valid.as_secs();
        format!(
            "/images/{manifest}?expires={expires}&signature={}",
            hex::encode(self.mac(manifest, expires).finalize().into_bytes())
        )
    }

    /// Whether the signature is ours and not yet expired.
    pub(crate) fn check(&self, manifest: &str, expires: u64, signature: &str) -> bool {
        let Ok(signature) = hex::decode(signature) else { return false };
        // verify_slice compares in constant time.
        expires > unix_now() && self.mac(manifest, expires).verify_slice(&signature).is_ok()
    }

    fn mac(&self, manifest: &str, expires: u64) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("invariant: any key length is accepted");
        mac.update(manifest.as_bytes());
        mac.update(b"|");
        mac.update(&expires.to_le_bytes());
        mac
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_unexpired_signatures_pass() {
        let signer = Signer::new([1; 32]);
        let path = signer.path("abc", Duration::from_secs(60));
        let query = path.split_once("?expires=").unwrap().1;
        let (expires, signature) = query.split_once("&signature=").unwrap();
        let expires: u64 = expires.parse().unwrap();
        assert!(signer.check("abc", expires, signature));
        assert!(!signer.check("abd", expires, signature));
        assert!(!signer.check("abc", expires + 1, signature));
        assert!(!Signer::new([2; 32]).check("abc", expires, signature));
        let old = hex::encode(signer.mac("abc", 1).finalize().into_bytes());
        assert!(!signer.check("abc", 1, &old));
    }
}
