//! What a machine without a disk of its own boots from: an iSCSI target, in words that fit into an iPXE script.

use std::fmt;
use std::net::SocketAddrV4;
use std::str::FromStr;

/// An iSCSI disk to boot from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct San {
    /// The target's portal.
    pub portal: SocketAddrV4,
    /// The target's name.
    pub target: IscsiName,
    /// Logical unit number.
    pub lun: u16,
    /// The name the machine logs in with.
    pub initiator: IscsiName,
    /// CHAP name of the machine.
    pub user: ChapWord,
    /// CHAP secret of the machine.
    pub secret: ChapWord,
}

/// A name of the `iqn` type (RFC 7143 section 4.2.7.4), in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IscsiName(String);

/// A CHAP name or secret that needs no quoting in a script: 1 to 64 letters, digits and `-`. `Debug` is blank.
#[derive(Clone, PartialEq, Eq)]
pub struct ChapWord(String);

/// Text that is not what it should be. It is not repeated: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SanError {
    /// Not an iSCSI name.
    #[error("expected an iSCSI name such as iqn.2026-11.dev.farrier:r1, at most 223 of a-z 0-9 . : -")]
    Name,
    /// Not a word.
    #[error("expected a CHAP name or secret of 1 to 64 letters, digits and dashes")]
    Word,
}

impl FromStr for IscsiName {
    type Err = SanError;

    fn from_str(text: &str) -> Result<Self, SanError> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".:-".contains(&b);
        let named = text.starts_with("iqn.") && text.len() <= 223 && text.bytes().all(good);
        if named { Ok(Self(text.to_owned())) } else { Err(SanError::Name) }
    }
}

impl fmt::Display for IscsiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ChapWord {
    type Err = SanError;

    fn from_str(text: &str) -> Result<Self, SanError> {
        let plain =
            (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if plain { Ok(Self(text.to_owned())) } else { Err(SanError::Word) }
    }
}

impl ChapWord {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ChapWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChapWord")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_would_mean_something_to_a_script_do_not_exist() {
        for bad in ["", "a b", "a\nchain x", "${mac}", "a|b", "ä", &"a".repeat(65)] {
            assert_eq!(bad.parse::<ChapWord>().err(), Some(SanError::Word), "{bad:?}");
        }
        for bad in
            ["", "eui.0123", "iqn.A", "iqn.2026-11.x:a b", "iqn.x\n", &format!("iqn.{}", "a".repeat(220))]
        {
            assert_eq!(bad.parse::<IscsiName>().err(), Some(SanError::Name), "{bad:?}");
        }
        let secret: ChapWord = "abc123".parse().unwrap();
        assert_eq!(format!("{secret:?}"), "ChapWord");
    }
}
