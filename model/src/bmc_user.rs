//! Names of accounts that Farrier makes on BMCs: what IPMI, Redfish and vendors all take.

/// What a rackd calls it in its status that it can give a BMC another account.
pub const ROTATE_TO_ACCOUNT: &str = "rotate-to-account";

/// Whether an account may be called so: a letter, then letters, digits, `-`, `_` or `.`, 16 at most (IPMI 2.0 §22.28 has so many
/// bytes; some Redfish services take no other characters).
#[must_use]
pub fn is_account(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 16
        && bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// For whoever was refused.
pub const EXPECTED: &str = "expected a letter and at most 15 letters, digits, dashes, underscores or dots";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_every_bmc_takes() {
        for name in ["a", "farrier-2", "A_b.c", "sixteen-letters1"] {
            assert!(is_account(name), "{name}");
        }
        for name in ["", "2nd", "-x", "a b", "a\0", "ärger", "seventeen-letters"] {
            assert!(!is_account(name), "{name}");
        }
    }
}
