//! `Content-Range` of an answer (RFC 9110 section 14.4).

/// First and last byte, and the size of all: `bytes 0-4095/8192`, or `bytes 0-4095/*` where that is not told.
pub(super) fn parse(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((first.parse().ok()?, last.parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_byte_ranges_with_whole_numbers_are_read() {
        assert_eq!(parse("bytes 0-4095/8192"), Some((0, 4095, Some(8192))));
        assert_eq!(parse("bytes 1-2/*"), Some((1, 2, None)));
        for bad in [
            "",
            "bytes */8192",
            "bytes 0-/8192",
            "octets 0-1/2",
            "bytes 0-1",
            "bytes 0-1/99999999999999999999",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
