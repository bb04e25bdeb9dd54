//! Fencing tokens: a number that grows with each reservation of a node. Its rack refuses an older one than it has seen.

use prost_types::Timestamp;

/// The token after `last`: the time in milliseconds, or one more where that does not grow. So a node that is enrolled
/// again under the name of one that was deleted has tokens that its rack has not seen, and so has a restored backup.
pub(super) fn next(last: i64, now: Timestamp) -> i64 {
    let ms = now.seconds.saturating_mul(1000).saturating_add(i64::from(now.nanos / 1_000_000));
    last.saturating_add(1).max(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_grow_whatever_the_clock_does_and_begin_behind_all_earlier_ones() {
        let at = |seconds, nanos| Timestamp { seconds, nanos };
        assert_eq!(next(0, at(1_700_000_000, 7_999_999)), 1_700_000_000_007);
        assert_eq!(next(1_700_000_000_007, at(1_700_000_000, 7_000_000)), 1_700_000_000_008);
        assert_eq!(next(1_700_000_000_009, at(1_600_000_000, 0)), 1_700_000_000_010);
        assert_eq!(next(i64::MAX, at(0, 0)), i64::MAX);
    }
}
