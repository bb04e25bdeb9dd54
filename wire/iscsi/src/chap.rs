//! CHAP (RFC 7143 section 12.1, RFC 1994): challenges, responses and what must be refused.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::text::{Pairs, binary, number, to_hex};

/// A shared secret. Its Debug is blank.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Secret {
        Secret(Zeroizing::new(bytes.into()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Name and secret of one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub secret: Secret,
}

/// What a target wants to see, and what it answers when it is asked to prove itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chap {
    /// What the initiator must know.
    pub initiator: Credentials,
    /// What the target proves itself with (mutual CHAP).
    pub target: Option<Credentials>,
}

/// Hash functions of `CHAP_A` (RFC 7143 section 12.1.3, RFC 7144): the initiator's first that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Md5,
    Sha1,
    Sha256,
}

/// A challenge that was sent.
#[derive(Clone, Debug)]
pub struct Challenge {
    pub algorithm: Algorithm,
    pub identifier: u8,
    pub challenge: Vec<u8>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChapError {
    #[error("CHAP key {0} is missing or malformed")]
    Malformed(&'static str),
    #[error("none of the initiator's hash functions is known")]
    NoAlgorithm,
    #[error("the user name or the secret is wrong")]
    Wrong,
    #[error("the challenge is a copy of ours")]
    Reflected,
    #[error("the initiator wants proof, and the target has no secret for it")]
    NotMutual,
}

impl Algorithm {
    /// Chooses from `CHAP_A`, a list in the order of preference.
    pub fn choose(list: &str) -> Result<Algorithm, ChapError> {
        list.split(',').find_map(|code| Algorithm::from_code(number(code)?)).ok_or(ChapError::NoAlgorithm)
    }

    pub fn code(self) -> u8 {
        match self {
            Algorithm::Md5 => 5,
            Algorithm::Sha1 => 6,
            Algorithm::Sha256 => 7,
        }
    }

    fn from_code(code: u64) -> Option<Algorithm> {
        [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha256].into_iter().find(|a| u64::from(a.code()) == code)
    }

    /// Response value: the hash of identifier, secret and challenge (RFC 1994 section 4.1).
    pub fn response(self, identifier: u8, secret: &Secret, challenge: &[u8]) -> Vec<u8> {
        let parts: [&[u8]; 3] = [&[identifier], &secret.0, challenge];
        match self {
            Algorithm::Md5 => {
                parts.iter().fold(Md5::new(), |hash, part| hash.chain_update(part)).finalize().to_vec()
            }
            Algorithm::Sha1 => {
                parts.iter().fold(Sha1::new(), |hash, part| hash.chain_update(part)).finalize().to_vec()
            }
            Algorithm::Sha256 => {
                parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().to_vec()
            }
        }
    }
}

impl Challenge {
    /// A challenge from 17 random bytes or more: the first is the identifier.
    pub fn new(algorithm: Algorithm, random: &[u8]) -> Challenge {
        let (first, rest) = random.split_first().unwrap_or((&0, &[]));
        Challenge { algorithm, identifier: *first, challenge: rest.to_vec() }
    }

    pub fn push(&self, answer: &mut Pairs) {
        answer.push("CHAP_A", self.algorithm.code().to_string());
        answer.push("CHAP_I", self.identifier.to_string());
        answer.push("CHAP_C", to_hex(&self.challenge));
    }

    /// Judges the initiator's answer, and answers its own challenge if it sends one.
    pub fn judge(&self, chap: &Chap, request: &Pairs, answer: &mut Pairs) -> Result<(), ChapError> {
        let name = request.value("CHAP_N").ok_or(ChapError::Malformed("CHAP_N"))?;
        let response = request
            .value("CHAP_R")
            .and_then(|text| binary(text, MAX_BINARY))
            .ok_or(ChapError::Malformed("CHAP_R"))?;
        let expected = self.algorithm.response(self.identifier, &chap.initiator.secret, &self.challenge);
        let user = same(name.as_bytes(), chap.initiator.user.as_bytes());
        if !(same(&response, &expected) & user) {
            return Err(ChapError::Wrong);
        }
        let (identifier, challenge) = match (request.value("CHAP_I"), request.value("CHAP_C")) {
            (None, None) => return Ok(()),
            (Some(identifier), Some(challenge)) => (identifier, challenge),
            _ => return Err(ChapError::Malformed("CHAP_I")),
        };
        let identifier = number(identifier)
            .and_then(|number| u8::try_from(number).ok())
            .ok_or(ChapError::Malformed("CHAP_I"))?;
        let challenge = binary(challenge, MAX_BINARY).ok_or(ChapError::Malformed("CHAP_C"))?;
        // Section 12.1.4: a peer that sends our challenge back wants us to answer it for it.
        if challenge == self.challenge {
            return Err(ChapError::Reflected);
        }
        let own = chap.target.as_ref().ok_or(ChapError::NotMutual)?;
        // The same secret both ways lets one side's answers be used as the other's.
        if own.secret == chap.initiator.secret {
            return Err(ChapError::NotMutual);
        }
        answer.push("CHAP_N", own.user.clone());
        answer.push("CHAP_R", to_hex(&self.algorithm.response(identifier, &own.secret, &challenge)));
        Ok(())
    }
}

/// Compares without telling by time how much was right.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}

/// RFC 7143 section 12.1.3: at most 1024 bytes.
const MAX_BINARY: usize = 1024;

#[cfg(test)]
mod tests;
