//! Session sequence numbers already seen (§6.12.14): late is fine, twice is not.

/// A sliding window over the peer's session sequence numbers.
///
/// The specification asks for 16 back and 16 ahead. We look 64 back, because a lossy network
/// reorders, and any distance ahead, because after a burst of loss the peer is far ahead and the
/// MAC has proved that it is the peer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Window {
    highest: u32,
    /// Bit n: `highest - n` was seen.
    seen: u64,
}

impl Window {
    /// Records `sequence`; false if it was seen before, is too old, or is 0 (never valid in a
    /// session).
    ///
    /// **Invariant:** called only after the MAC was verified, or a forger could move the window.
    pub(crate) fn accept(&mut self, sequence: u32) -> bool {
        if sequence == 0 {
            return false;
        }
        if sequence > self.highest {
            let ahead = sequence - self.highest;
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = sequence;
            return true;
        }
        let bit = 1_u64.checked_shl(self.highest - sequence).unwrap_or(0);
        if bit == 0 || self.seen & bit != 0 {
            return false;
        }
        self.seen |= bit;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Window;

    #[test]
    fn late_is_accepted_once_and_very_late_never() {
        let mut window = Window::default();
        assert!(!window.accept(0));
        assert!(window.accept(1));
        assert!(window.accept(3));
        assert!(window.accept(2));
        assert!(!window.accept(2));
        assert!(window.accept(100));
        assert!(!window.accept(36));
        assert!(window.accept(37));
        assert!(window.accept(u32::MAX));
        assert!(!window.accept(u32::MAX));
    }
}
