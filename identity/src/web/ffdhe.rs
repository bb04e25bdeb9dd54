//! Key exchange for firmware whose TLS has no elliptic curves, such as Debian 12's OVMF: finite-field Diffie-Hellman in ffdhe2048
//! (RFC 7919 appendix A.1), beside an RSA certificate. rustls has the messages, and nobody's arithmetic for them.
//!
//! An exponent is good for one handshake. The arithmetic does not take the same time for each; who measures that learns of a
//! session in which boot files are read, which anybody may read.

use ::ring::rand::{SecureRandom as _, SystemRandom};
use num_bigint::BigUint;
use rustls::crypto::{
    ActiveKeyExchange, CipherSuiteCommon, CryptoProvider, KeyExchangeAlgorithm, SharedSecret,
    SupportedKxGroup,
};
use rustls::ffdhe_groups::{FFDHE2048, FfdheGroup};
use rustls::{
    CipherSuite, Error, NamedGroup, PeerMisbehaved, SupportedCipherSuite, Tls12CipherSuite, crypto::ring,
};
use std::sync::LazyLock;

/// What `provider` has, and after that what such firmware speaks.
pub(super) fn with_ffdhe(mut provider: CryptoProvider) -> CryptoProvider {
    provider.cipher_suites.extend(SUITES.iter().map(SupportedCipherSuite::Tls12));
    provider.kx_groups.push(&Ffdhe2048);
    provider
}

/// Those of RFC 5288 §3 with DHE and RSA: as ring's with ECDHE, but for how keys are agreed on.
static SUITES: LazyLock<Vec<Tls12CipherSuite>> = LazyLock::new(|| {
    let suites = [
        (
            ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            CipherSuite::TLS_DHE_RSA_WITH_AES_256_GCM_SHA384,
        ),
        (
            ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::TLS_DHE_RSA_WITH_AES_128_GCM_SHA256,
        ),
    ];
    let like = |(like, suite)| {
        let SupportedCipherSuite::Tls12(like) = like else { return None };
        let common = CipherSuiteCommon {
            suite,
            hash_provider: like.common.hash_provider,
            confidentiality_limit: like.common.confidentiality_limit,
        };
        let (prf_provider, sign, aead_alg) = (like.prf_provider, like.sign, like.aead_alg);
        Some(Tls12CipherSuite { common, prf_provider, kx: KeyExchangeAlgorithm::DHE, sign, aead_alg })
    };
    suites.into_iter().filter_map(like).collect()
});

#[derive(Debug)]
struct Ffdhe2048;

impl SupportedKxGroup for Ffdhe2048 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = [0; SECRET];
        SystemRandom::new().fill(&mut secret).map_err(|_| Error::FailedToGetRandomBytes)?;
        let secret = BigUint::from_bytes_be(&secret);
        let public = padded(&BigUint::from_bytes_be(FFDHE2048.g).modpow(&secret, &PRIME));
        Ok(Box::new(Exchange { secret, public }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        Some(FFDHE2048)
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::FFDHE2048
    }
}

struct Exchange {
    secret: BigUint,
    public: Vec<u8>,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, theirs: &[u8]) -> Result<SharedSecret, Error> {
        let wrong = || Error::from(PeerMisbehaved::InvalidKeyShare);
        if theirs.len() > FFDHE2048.p.len() {
            return Err(wrong());
        }
        let (theirs, one) = (BigUint::from_bytes_be(theirs), BigUint::from(1_u8));
        // RFC 7919 §5.1: within 1 and p - 1, both excluded. No other value is of a small subgroup: p is a safe prime.
        if theirs <= one || theirs >= &*PRIME - &one {
            return Err(wrong());
        }
        Ok(SharedSecret::from(padded(&theirs.modpow(&self.secret, &PRIME))))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::FFDHE2048
    }
}

/// As long as the prime (RFC 8446 §4.2.8.1); rustls takes off what TLS 1.2 wants off.
fn padded(number: &BigUint) -> Vec<u8> {
    let bytes = number.to_bytes_be();
    let mut out = vec![0; FFDHE2048.p.len().saturating_sub(bytes.len())];
    out.extend(bytes);
    out
}

static PRIME: LazyLock<BigUint> = LazyLock::new(|| BigUint::from_bytes_be(FFDHE2048.p));
/// Octets of an exponent: RFC 7919 §5.2 wants 225 bits, twice the strength of the group.
const SECRET: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_have_the_same_secret_and_each_time_another() {
        let agreed = || {
            let (a, b) = (Ffdhe2048.start().unwrap(), Ffdhe2048.start().unwrap());
            let (for_a, for_b) = (b.pub_key().to_vec(), a.pub_key().to_vec());
            assert_eq!((for_a.len(), for_b.len()), (256, 256));
            let secret = a.complete(&for_a).unwrap().secret_bytes().to_vec();
            assert_eq!(b.complete(&for_b).unwrap().secret_bytes(), secret);
            secret
        };
        let (first, second) = (agreed(), agreed());
        assert!(first.len() == 256 && first != second);
    }

    #[test]
    fn what_is_no_element_of_the_group_is_refused() {
        let less = |by: u8| padded(&(&*PRIME - BigUint::from(by)));
        for theirs in [&[][..], &[0], &[1], &less(1)[..], &less(0)[..], &[1; 257], &[0xff; 256]] {
            assert!(Ffdhe2048.start().unwrap().complete(theirs).is_err(), "{theirs:?}");
        }
        assert!(Ffdhe2048.start().unwrap().complete(&less(2)).is_ok());
        assert_eq!(SUITES.len(), 2);
    }
}
