//! The cipher suites we speak (§22.15.2, Table 22-20).

use std::fmt;

/// A cipher suite with authentication, integrity and confidentiality. There is no variant for
/// suites without all three: suite 0 accepts any password, 1, 2, 15 and 16 send in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CipherSuite {
    /// RAKP-HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128.
    Suite3,
    /// RAKP-HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128.
    Suite17,
}

/// Algorithm numbers as Open Session carries them: authentication (Table 13-17), integrity
/// (Table 13-18), confidentiality (Table 13-19).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Algorithms {
    /// Authentication algorithm number.
    pub authentication: u8,
    /// Integrity algorithm number.
    pub integrity: u8,
    /// Confidentiality algorithm number.
    pub confidentiality: u8,
}

impl CipherSuite {
    /// Strongest first: the order in which a client tries them.
    pub const PREFERENCE: [Self; 2] = [Self::Suite17, Self::Suite3];

    /// The cipher suite ID people type after `ipmitool -C`.
    #[must_use]
    pub fn id(self) -> u8 {
        match self {
            Self::Suite3 => 3,
            Self::Suite17 => 17,
        }
    }

    /// `None` for every suite we refuse to speak.
    #[must_use]
    pub fn from_id(id: u8) -> Option<Self> {
        Self::PREFERENCE.into_iter().find(|suite| suite.id() == id)
    }

    /// The numbers for Open Session.
    #[must_use]
    pub fn algorithms(self) -> Algorithms {
        match self {
            Self::Suite3 => Algorithms { authentication: 1, integrity: 1, confidentiality: 1 },
            Self::Suite17 => Algorithms { authentication: 3, integrity: 4, confidentiality: 1 },
        }
    }

    /// The suite made of exactly these algorithms.
    #[must_use]
    pub fn from_algorithms(algorithms: Algorithms) -> Option<Self> {
        Self::PREFERENCE.into_iter().find(|suite| suite.algorithms() == algorithms)
    }

    /// Bytes of the full HMAC: RAKP 2 and 3 carry it whole.
    pub(crate) fn digest_len(self) -> usize {
        match self {
            Self::Suite3 => 20,
            Self::Suite17 => 32,
        }
    }

    /// Bytes of the truncated HMAC: RAKP 4 and every packet of the session carry this much.
    pub(crate) fn mac_len(self) -> usize {
        match self {
            Self::Suite3 => 12,
            Self::Suite17 => 16,
        }
    }
}

impl fmt::Display for CipherSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::{Algorithms, CipherSuite};

    #[test]
    fn suite_zero_and_the_clear_text_suites_do_not_exist() {
        for id in [0, 1, 2, 15, 16] {
            assert_eq!(CipherSuite::from_id(id), None);
        }
        let none = Algorithms { authentication: 0, integrity: 0, confidentiality: 0 };
        assert_eq!(CipherSuite::from_algorithms(none), None);
    }
}
