//! The key of a BMC itself (Kg, IPMI 2.0 section 13.31) as people write it, for a login with two keys.

/// Kg has so many bytes; shorter ones end in zeroes.
const BYTES: usize = 20;
/// Before a key in hexadecimal digits, since one may have bytes that are no text.
const HEX: &str = "0x";

/// Text of 1 to 20 bytes, or `0x` and up to 40 hexadecimal digits; `0x` alone is no key. `None`: it is neither.
#[must_use]
pub fn parse(text: &str) -> Option<Vec<u8>> {
    let bytes = match text.strip_prefix(HEX) {
        Some(digits) => hex(digits)?,
        None if text.is_empty() => return None,
        None => text.as_bytes().to_vec(),
    };
    (bytes.len() <= BYTES).then_some(bytes)
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let nibbles: Option<Vec<u8>> =
        digits.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let nibbles = nibbles?;
    let (pairs, []) = nibbles.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_key_is_text_or_digits_of_twenty_bytes_at_most() {
        assert_eq!(parse("bmc-key"), Some(b"bmc-key".to_vec()));
        assert_eq!(parse("0xFf00a1"), Some(vec![0xFF, 0, 0xA1]));
        assert_eq!(parse("0x"), Some(Vec::new()), "no key");
        assert!(
            parse("exactly-twenty-bytes").is_some() && parse(&format!("0x{}", "0f".repeat(20))).is_some()
        );
        for bad in ["", "0xf", "0xgg", "one-and-twenty-bytes!", "0x+f", &format!("0x{}", "00".repeat(21))] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
