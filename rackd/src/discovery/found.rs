//! Unknown machines on their way through the ramdisk, in memory: after a restart of rackd they ask again.

use super::identity;
use crate::agents::AgentSlot;
use crate::secrets::{Secrets, TokenUse};
use farrier_identity::Identity;
use farrier_netboot::MacAddr;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct Found(Mutex<HashMap<MacAddr, One>>);

struct One {
    since: Instant,
    /// Boot tokens, by their digests.
    secrets: Secrets,
    agent: Arc<AgentSlot>,
}

impl Found {
    /// A machine begins, or begins again; `false`: there are too many. And those that are forgotten for it.
    pub(super) fn begin(&self, mac: MacAddr, now: Instant) -> (bool, Vec<MacAddr>) {
        let mut all = self.lock();
        let old = |one: &One| now.saturating_duration_since(one.since) >= FORGOTTEN;
        let forgotten: Vec<MacAddr> =
            all.iter().filter(|(known, one)| **known != mac && old(one)).map(|(known, _)| *known).collect();
        for known in &forgotten {
            all.remove(known);
        }
        if !all.contains_key(&mac) && all.len() >= MOST {
            return (false, forgotten);
        }
        let new = || One { since: now, secrets: Secrets::default(), agent: Arc::default() };
        all.entry(mac).or_insert_with(new).since = now;
        (true, forgotten)
    }

    pub(super) fn new_token(&self, mac: MacAddr) -> Option<String> {
        Some(self.lock().get_mut(&mac)?.secrets.new_boot_token())
    }

    /// Whose boot this token is of, and what its use comes to.
    pub(crate) fn use_token(&self, token: &str, key: &str) -> Option<(MacAddr, TokenUse)> {
        self.lock().iter_mut().find_map(|(mac, one)| match one.secrets.use_boot_token(token, key) {
            TokenUse::Unknown => None,
            used => Some((*mac, used)),
        })
    }

    pub(super) fn agent(&self, mac: MacAddr) -> Option<Arc<AgentSlot>> {
        self.lock().get(&mac).map(|one| Arc::clone(&one.agent))
    }

    /// Where the agent with this certificate sits.
    pub(crate) fn agent_of(&self, peer: &Identity) -> Option<Arc<AgentSlot>> {
        self.lock().iter().find(|(mac, _)| identity(**mac) == *peer).map(|(_, one)| Arc::clone(&one.agent))
    }

    pub(super) fn end(&self, mac: MacAddr) {
        self.lock().remove(&mac);
    }

    /// A poisoned lock still guards whole entries.
    fn lock(&self) -> MutexGuard<'_, HashMap<MacAddr, One>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At once: a few racks that were just cabled. Strangers cannot take more memory, nor more addresses of the provisioning
/// network, than this.
const MOST: usize = 64;
/// One that got no further than its script.
const FORGOTTEN: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_one_machine_and_its_agent_is_found_by_its_certificate() {
        let (found, now) = (Found::default(), Instant::now());
        let (one, two) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        assert!(found.begin(one, now).0 && found.begin(two, now).0);
        let token = found.new_token(one).unwrap();
        assert_eq!(found.use_token("guess", "k"), None);
        assert_eq!(found.use_token(&token, "k"), Some((one, TokenUse::First)));
        assert_eq!(found.use_token(&token, "k"), Some((one, TokenUse::Again)));
        assert_eq!(found.use_token(&token, "other"), Some((one, TokenUse::UsedByAnother)));
        assert!(found.agent_of(&identity(two)).is_some());
        assert!(found.agent_of(&Identity::Node("discovered".into())).is_none());
        found.end(one);
        assert_eq!((found.use_token(&token, "k"), found.new_token(one)), (None, None));
    }

    #[test]
    fn a_flood_is_bounded_and_the_forgotten_make_room() {
        let (found, now) = (Found::default(), Instant::now());
        let mac = |n: usize| {
            let [a, b] = u16::try_from(n).unwrap().to_be_bytes();
            MacAddr([2, 0, 0, 0, a, b])
        };
        assert!((0..MOST).all(|n| found.begin(mac(n), now).0));
        assert_eq!(found.begin(mac(MOST), now), (false, Vec::new()));
        assert!(found.begin(mac(0), now).0, "one that is here begins again");
        let (begun, forgotten) = found.begin(mac(MOST), now + FORGOTTEN);
        assert!(begun && forgotten.len() == MOST, "their addresses are given back");
    }
}
