//! Unknown machines on their way through the ramdisk, in memory: after a restart of rackd they ask again.

use super::identity;
use crate::agents::AgentSlot;
use crate::secrets::{Secrets, TokenUse};
use farrier_identity::Identity;
use farrier_netboot::MacAddr;
use farrier_proto::types::Hardware;
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
    /// Its hardware, from when it is being reported.
    said: Option<Hardware>,
}

impl Found {
    /// A machine begins, or begins again; `false`: there are too many.
    pub(super) fn begin(&self, mac: MacAddr, now: Instant) -> bool {
        let mut all = self.lock();
        if !all.contains_key(&mac) && all.len() >= MOST {
            return false;
        }
        let new = || One { since: now, secrets: Secrets::default(), agent: Arc::default(), said: None };
        all.entry(mac).or_insert_with(new).since = now;
        true
    }

    /// Takes out those that began long ago, and says which.
    pub(super) fn forget_old(&self, now: Instant) -> Vec<MacAddr> {
        let mut all = self.lock();
        let old = |one: &One| now.saturating_duration_since(one.since) >= FORGOTTEN;
        let forgotten: Vec<MacAddr> = all.iter().filter(|(_, one)| old(one)).map(|(mac, _)| *mac).collect();
        for mac in &forgotten {
            all.remove(mac);
        }
        forgotten
    }

    /// What it is made of, in place of what it said before; whether nobody reports it yet.
    pub(super) fn say(&self, mac: MacAddr, hardware: Hardware) -> bool {
        let mut all = self.lock();
        let Some(one) = all.get_mut(&mac) else { return false };
        one.said.replace(hardware).is_none()
    }

    /// What it said last.
    pub(super) fn said(&self, mac: MacAddr) -> Option<Hardware> {
        self.lock().get(&mac)?.said.clone()
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
        assert!(found.begin(one, now) && found.begin(two, now));
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
        assert!((0..MOST).all(|n| found.begin(mac(n), now)));
        assert!(!found.begin(mac(MOST), now) && found.forget_old(now).is_empty());
        assert!(found.begin(mac(0), now), "one that is here begins again");
        assert_eq!(found.forget_old(now + FORGOTTEN).len(), MOST, "their addresses are given back");
        assert!(found.begin(mac(MOST), now));
    }

    #[test]
    fn a_machine_that_boots_again_and_again_is_reported_once_as_it_was_last() {
        let (found, mac) = (Found::default(), MacAddr([2, 0, 0, 0, 0, 1]));
        let said = |release: &str| Hardware { kernel_release: release.to_owned(), ..Hardware::default() };
        assert!(!found.say(mac, said("0")), "it did not begin");
        found.begin(mac, Instant::now());
        assert!(found.say(mac, said("1")));
        assert!(!found.say(mac, said("2")), "somebody is at it");
        assert_eq!(found.said(mac), Some(said("2")));
        found.end(mac);
        assert_eq!(found.said(mac), None);
    }
}
