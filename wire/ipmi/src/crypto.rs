//! HMAC, key derivation and AES-CBC for suites 3 and 17 (§13.28 to §13.32).

use aes::Aes128;
use cbc::cipher::{Block, BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::{CipherSuite, MAX_KEY, Secret};

/// AES block and initialisation vector.
pub(crate) const BLOCK: usize = 16;

/// K\[UID\] or K\[G\]: 20 bytes, zero padded (§13.31). HMAC pads short keys with zeroes itself, so the
/// padded and the bare key give the same MAC; longer secrets are refused by [`Key20::new`].
#[derive(Clone)]
pub(crate) struct Key20(Zeroizing<[u8; MAX_KEY]>);

impl Key20 {
    /// `None` if the secret is longer than 20 bytes.
    pub(crate) fn new(secret: &Secret) -> Option<Self> {
        let bytes = secret.expose();
        let mut key = Zeroizing::new([0; MAX_KEY]);
        key.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self(key))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// The whole HMAC (20 or 32 bytes) of the parts in order.
pub(crate) fn hmac(suite: CipherSuite, key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    match suite {
        CipherSuite::Suite3 => {
            let mut mac = keyed::<Hmac<Sha1>, 64>(key);
            parts.iter().for_each(|part| mac.update(part));
            Zeroizing::new(mac.finalize().into_bytes().to_vec())
        }
        CipherSuite::Suite17 => {
            let mut mac = keyed::<Hmac<Sha256>, 64>(key);
            parts.iter().for_each(|part| mac.update(part));
            Zeroizing::new(mac.finalize().into_bytes().to_vec())
        }
    }
}

/// Whether `seen` is the HMAC cut to `length` bytes. Constant time in the content.
pub(crate) fn verify(suite: CipherSuite, key: &[u8], parts: &[&[u8]], length: usize, seen: &[u8]) -> bool {
    if seen.len() != length || length == 0 {
        return false;
    }
    match suite {
        CipherSuite::Suite3 => {
            let mut mac = keyed::<Hmac<Sha1>, 64>(key);
            parts.iter().for_each(|part| mac.update(part));
            mac.verify_truncated_left(seen).is_ok()
        }
        CipherSuite::Suite17 => {
            let mut mac = keyed::<Hmac<Sha256>, 64>(key);
            parts.iter().for_each(|part| mac.update(part));
            mac.verify_truncated_left(seen).is_ok()
        }
    }
}

/// A key of at most one hash block is the block, zero filled (RFC 2104 §2), which makes this
/// infallible. All our keys are 20 or 32 bytes.
fn keyed<M, const N: usize>(key: &[u8]) -> M
where
    M: KeyInit,
    hmac::digest::generic_array::GenericArray<u8, M::KeySize>: From<[u8; N]>,
{
    let mut block = [0_u8; N];
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let mut array: hmac::digest::generic_array::GenericArray<u8, M::KeySize> = block.into();
    block.zeroize();
    let mac = M::new(&array);
    array.as_mut_slice().zeroize();
    mac
}

/// What both ends derive from the session integrity key (§13.32).
#[derive(Clone)]
pub(crate) struct SessionKeys {
    pub(crate) suite: CipherSuite,
    /// K1: integrity.
    k1: Zeroizing<Vec<u8>>,
    /// First 16 bytes of K2: confidentiality (§13.29).
    aes: Zeroizing<[u8; BLOCK]>,
}

impl SessionKeys {
    /// The constants are 20 bytes long for both suites: ipmitool, FreeIPMI and OpenBMC agree on
    /// that also for SHA-256, where §13.32's "20 bytes" could be read as "hash length".
    pub(crate) fn derive(suite: CipherSuite, sik: &[u8]) -> Self {
        let k1 = hmac(suite, sik, &[&[0x01; 20]]);
        let k2 = hmac(suite, sik, &[&[0x02; 20]]);
        let mut aes = Zeroizing::new([0_u8; BLOCK]);
        aes.iter_mut().zip(k2.iter()).for_each(|(to, from)| *to = *from);
        Self { suite, k1, aes }
    }

    pub(crate) fn mac(&self, bytes: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut mac = hmac(self.suite, &self.k1, &[bytes]);
        mac.truncate(self.suite.mac_len());
        mac
    }

    pub(crate) fn verify(&self, bytes: &[u8], mac: &[u8]) -> bool {
        verify(self.suite, &self.k1, &[bytes], self.suite.mac_len(), mac)
    }

    /// Encrypts whole blocks in place.
    pub(crate) fn encrypt(&self, iv: &[u8; BLOCK], blocks: &mut [u8]) {
        let mut cipher = cbc::Encryptor::<Aes128>::new(&(*self.aes).into(), &(*iv).into());
        for chunk in blocks.chunks_exact_mut(BLOCK) {
            cipher.encrypt_block_mut(Block::<Aes128>::from_mut_slice(chunk));
        }
    }

    /// Decrypts whole blocks in place.
    pub(crate) fn decrypt(&self, iv: &[u8; BLOCK], blocks: &mut [u8]) {
        let mut cipher = cbc::Decryptor::<Aes128>::new(&(*self.aes).into(), &(*iv).into());
        for chunk in blocks.chunks_exact_mut(BLOCK) {
            cipher.decrypt_block_mut(Block::<Aes128>::from_mut_slice(chunk));
        }
    }
}

impl std::fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionKeys({:?}, ..)", self.suite)
    }
}

#[cfg(test)]
mod tests {
    use super::hmac;
    use crate::CipherSuite;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// RFC 2202 §3 test case 2 and RFC 4231 §4.3 (test case 2).
    #[test]
    fn hmac_matches_the_rfc_vectors() {
        let parts: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
        assert_eq!(
            *hmac(CipherSuite::Suite3, b"Jefe", &parts),
            hex("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")
        );
        assert_eq!(
            *hmac(CipherSuite::Suite17, b"Jefe", &parts),
            hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        );
    }
}
