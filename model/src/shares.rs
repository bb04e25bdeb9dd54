//! Fair shares of a bounded thing, such as a server's connections.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who has how many of a thing there is only so much of. While there is plenty everybody takes what he needs;
/// once it is crowded, nobody has more than his share. So one peer cannot keep the others out, and many
/// clients behind one address are not refused for nothing.
#[derive(Debug, Clone)]
pub struct Shares<K: Hash + Eq> {
    taken: Arc<Mutex<Taken<K>>>,
    crowded: usize,
    share: usize,
}

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    each: HashMap<K, usize>,
}

/// Some of the thing; dropping it gives it back.
#[derive(Debug)]
pub struct Share<K: Hash + Eq> {
    taken: Arc<Mutex<Taken<K>>>,
    key: K,
    count: usize,
}

impl<K: Hash + Eq + Clone> Shares<K> {
    /// From `crowded` taken ones on, nobody gets more than `share`.
    #[must_use]
    pub fn new(crowded: usize, share: usize) -> Self {
        Self { taken: Arc::new(Mutex::new(Taken { all: 0, each: HashMap::new() })), crowded, share }
    }

    /// One more for `key`, unless it is crowded and he has his share.
    #[must_use]
    pub fn take(&self, key: K) -> Option<Share<K>> {
        self.take_many(key, 1)
    }

    /// `count` at once, such as bytes, unless it is crowded and that is more than his share. Whoever has none gets
    /// what he asks for: the caller keeps that small, and everybody gets on.
    #[must_use]
    pub fn take_many(&self, key: K, count: usize) -> Option<Share<K>> {
        let mut taken = lock(&self.taken);
        let has = taken.each.get(&key).copied().unwrap_or(0);
        if has > 0 && taken.all >= self.crowded && has.saturating_add(count) > self.share {
            return None;
        }
        taken.all = taken.all.saturating_add(count);
        taken.each.insert(key.clone(), has.saturating_add(count));
        Some(Share { taken: Arc::clone(&self.taken), key, count })
    }
}

impl<K: Hash + Eq> Drop for Share<K> {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all = taken.all.saturating_sub(self.count);
        let left = taken.each.get_mut(&self.key).map(|has| {
            *has = has.saturating_sub(self.count);
            *has
        });
        if left == Some(0) {
            taken.each.remove(&self.key);
        }
    }
}

/// A panic while it was held left numbers, which are still numbers.
fn lock<K>(taken: &Mutex<Taken<K>>) -> MutexGuard<'_, Taken<K>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greedy_are_refused_once_it_is_crowded_and_the_others_are_not() {
        let shares = Shares::new(8, 2);
        let mut greedy: Vec<_> = (0..20).map_while(|_| shares.take("greedy")).collect();
        assert_eq!(greedy.len(), 8);
        let others: Vec<_> = ["a", "a", "a", "b"].map(|key| shares.take(key)).into();
        assert_eq!(others.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false, true]);
        // Eleven are out; nobody has more until fewer than eight are.
        greedy.truncate(4);
        assert!(shares.take("greedy").is_some());
        drop((greedy, others));
        assert!(lock(&shares.taken).each.is_empty());
    }

    #[test]
    fn many_at_once_are_counted_as_many() {
        let shares = Shares::new(100, 20);
        let _greedy = [shares.take_many("greedy", 90), shares.take_many("greedy", 90)].map(Option::unwrap);
        assert!(shares.take_many("greedy", 1).is_none());
        // The first is never refused; the second only beyond the share.
        let first = shares.take_many("other", 15).unwrap();
        assert!(shares.take_many("other", 6).is_none() && shares.take_many("other", 5).is_some());
        drop(first);
        assert!(shares.take_many("other", 50).is_some());
    }
}
