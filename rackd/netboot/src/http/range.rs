//! `Range` headers (RFC 9110 §14), one range at a time.

/// What part of a file is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it (200).
    Whole,
    /// Bytes from `start` to `end`, both inclusive (206).
    Some {
        /// First byte.
        start: u64,
        /// Last byte.
        end: u64,
    },
    /// Nothing that exists (416).
    Unsatisfiable,
}

/// Reads a `Range` header for a file of `size` bytes. What we do not understand, and several ranges at once, is
/// ignored as RFC 9110 §14.2 allows: the answer is then the whole file.
pub(super) fn part(header: Option<&str>, size: u64) -> Part {
    let Some((first, last)) =
        header.and_then(|h| h.trim().strip_prefix("bytes=")).and_then(|spec| spec.split_once('-'))
    else {
        return Part::Whole;
    };
    let number = |text: &str| -> Option<u64> {
        let text = text.trim();
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
    };
    let (start, end) = match (first.trim(), last.trim()) {
        ("", _) => match number(last) {
            Some(0) => return Part::Unsatisfiable,
            Some(suffix) => (size.saturating_sub(suffix), u64::MAX),
            None => return Part::Whole,
        },
        (_, "") => match number(first) {
            Some(start) => (start, u64::MAX),
            None => return Part::Whole,
        },
        _ => match (number(first), number(last)) {
            (Some(start), Some(end)) if start <= end => (start, end),
            _ => return Part::Whole,
        },
    };
    if start >= size { Part::Unsatisfiable } else { Part::Some { start, end: end.min(size - 1) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let some = |start, end| Part::Some { start, end };
        for (header, expect) in [
            ("bytes=0-0", some(0, 0)),
            ("bytes=2-4", some(2, 4)),
            ("bytes=2-", some(2, 9)),
            ("bytes=2-400", some(2, 9)),
            ("bytes=-3", some(7, 9)),
            ("bytes=-30", some(0, 9)),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=10-", Part::Unsatisfiable),
            ("bytes=4-2", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes=99999999999999999999-", Part::Whole),
        ] {
            assert_eq!(part(Some(header), 10), expect, "{header}");
        }
        assert_eq!(part(None, 10), Part::Whole);
        assert_eq!(part(Some("bytes=0-"), 0), Part::Unsatisfiable);
    }
}
