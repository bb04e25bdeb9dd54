//! Unknown machines on their way through the ramdisk. Of those that were given its script the disk knows too (`boots.rs`); whoever
//! only asked before a restart of rackd asks again.

use super::files::MOST;
use super::identity;
use crate::agents::AgentSlot;
use crate::secrets::{BootToken, Secrets, TokenUse};
use farrier_identity::Identity;
use farrier_netboot::MacAddr;
use farrier_proto::types::Hardware;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct Found {
    all: Mutex<HashMap<MacAddr, One>>,
}

struct One {
    /// The provisioning networks where it has an address, or is to have one: where it asked last is the last one.
    networks: Vec<String>,
    since: Instant,
    /// It was given its script: whoever only asks for an address gets no further than that.
    fetched: bool,
    /// It is a node's, or may be: it goes on to its disk.
    goes_on: bool,
    /// Boot tokens, by their digests.
    secrets: Secrets,
    /// `None`: it has had its last order.
    agent: Option<Arc<AgentSlot>>,
    /// Its hardware, from when it is being reported.
    said: Option<Hardware>,
}

/// What is kept of one on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Boot {
    networks: Vec<String>,
    tokens: Vec<BootToken>,
}

/// What comes of a machine that asks to begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begun {
    Yes,
    /// In the place of one that asked and did nothing since.
    InPlaceOf(MacAddr),
    TooMany,
}

impl Found {
    /// Those that were under way when this rackd ended. What they said of themselves they say again.
    pub(super) fn load(&self, boots: impl IntoIterator<Item = (MacAddr, Boot)>, now: Instant) {
        let mut all = self.lock();
        for (mac, boot) in boots.into_iter().take(MOST) {
            let mut one = One { networks: boot.networks, fetched: true, ..One::new(now) };
            one.secrets.boot_tokens = boot.tokens;
            all.insert(mac, one);
        }
    }

    /// What is to be kept of one, if anything: it was given its script. One that goes on to its disk goes through the ramdisk once
    /// more after a restart of rackd.
    pub(super) fn boot(&self, mac: MacAddr) -> Option<Boot> {
        let all = self.lock();
        let one = all.get(&mac).filter(|one| one.fetched && !one.goes_on)?;
        Some(Boot { networks: one.networks.clone(), tokens: one.secrets.boot_tokens.clone() })
    }

    /// All of them, in the order of their addresses.
    pub(super) fn ports(&self) -> Vec<MacAddr> {
        let mut ports: Vec<_> = self.lock().keys().copied().collect();
        ports.sort_unstable_by_key(|mac| mac.0);
        ports
    }

    /// A machine begins, or begins again, in a network that has so many addresses. Each takes one, and nodes need some too:
    /// they have half of them, at most.
    pub(super) fn begin(&self, mac: MacAddr, place: (&str, u32), now: Instant) -> Begun {
        enter(&mut self.lock(), mac, place, now)
    }

    /// It asks in another network; `None`: it is not there any more. What it has elsewhere is left to it.
    pub(super) fn moved(&self, mac: MacAddr, place: (&str, u32), now: Instant) -> Option<Begun> {
        let mut all = self.lock();
        all.contains_key(&mac).then(|| enter(&mut all, mac, place, now))
    }

    /// It has no address in this network.
    pub(super) fn not_served(&self, mac: MacAddr, network: &str) {
        if let Some(one) = self.lock().get_mut(&mac) {
            one.networks.retain(|other| other != network);
        }
    }

    /// Where it asked.
    pub(super) fn networks(&self, mac: MacAddr) -> Vec<String> {
        self.lock().get(&mac).map(|one| one.networks.clone()).unwrap_or_default()
    }

    /// Where it asked last.
    pub(super) fn network(&self, mac: MacAddr) -> Option<String> {
        self.lock().get(&mac).and_then(|one| one.networks.last().cloned())
    }

    /// It was given its script.
    pub(super) fn fetched(&self, mac: MacAddr, now: Instant) {
        if let Some(one) = self.lock().get_mut(&mac) {
            one.fetched = true;
            // How long a machine goes on to its disk is counted from when it was told to: firmware may fetch that at each start.
            if !one.goes_on {
                one.since = now;
            }
        }
    }

    /// Takes out those that began long ago, and says which. One that is being told stays: with the centre away that takes as
    /// long as it is, and what it said is here.
    pub(super) fn forget_old(&self, now: Instant) -> Vec<MacAddr> {
        let mut all = self.lock();
        let patience = |one: &One| match one {
            One { goes_on: true, .. } => GOES_ON,
            One { fetched: true, .. } => FORGOTTEN,
            _ => ONLY_ASKED,
        };
        let old = |one: &One| one.said.is_none() && now.saturating_duration_since(one.since) >= patience(one);
        let forgotten: Vec<MacAddr> = all.iter().filter(|(_, one)| old(one)).map(|(mac, _)| *mac).collect();
        for mac in &forgotten {
            all.remove(mac);
        }
        forgotten
    }

    /// What it is made of, in place of what it said before; whether nobody reports it yet.
    pub(super) fn say(&self, mac: MacAddr, hardware: Hardware) -> bool {
        let mut all = self.lock();
        let Some(one) = all.get_mut(&mac).filter(|one| !one.goes_on) else { return false };
        one.said.replace(hardware).is_none()
    }

    /// It is a node's, or may be: from now on it has its own disk to boot, no token of it is good, and nobody tells of it.
    pub(super) fn go_on(&self, mac: MacAddr, now: Instant) {
        if let Some(one) = self.lock().get_mut(&mac) {
            (one.goes_on, one.since, one.said) = (true, now, None);
            one.secrets.boot_tokens.clear();
        }
    }

    pub(super) fn goes_on(&self, mac: MacAddr) -> bool {
        self.lock().get(&mac).is_some_and(|one| one.goes_on)
    }

    /// Its agent is not known any more.
    pub(super) fn dismiss(&self, mac: MacAddr) {
        if let Some(one) = self.lock().get_mut(&mac) {
            one.agent = None;
        }
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
            used => {
                // It is in its script.
                one.fetched = true;
                Some((*mac, used))
            }
        })
    }

    pub(super) fn agent(&self, mac: MacAddr) -> Option<Arc<AgentSlot>> {
        self.lock().get(&mac)?.agent.clone()
    }

    /// Whose agent has this certificate, and where it sits.
    pub(crate) fn agent_of(&self, peer: &Identity) -> Option<(MacAddr, Arc<AgentSlot>)> {
        let all = self.lock();
        let (mac, one) = all.iter().find(|(mac, _)| identity(**mac) == *peer)?;
        Some((*mac, one.agent.clone()?))
    }

    pub(super) fn end(&self, mac: MacAddr) {
        self.lock().remove(&mac);
    }

    /// A poisoned lock still guards whole entries.
    fn lock(&self) -> MutexGuard<'_, HashMap<MacAddr, One>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl One {
    fn new(now: Instant) -> Self {
        Self {
            networks: Vec::new(),
            since: now,
            fetched: false,
            goes_on: false,
            secrets: Secrets::default(),
            agent: Some(Arc::default()),
            said: None,
        }
    }
}

fn enter(
    all: &mut HashMap<MacAddr, One>,
    mac: MacAddr,
    (network, addresses): (&str, u32),
    now: Instant,
) -> Begun {
    let half = usize::try_from(addresses / 2).unwrap_or(MOST).clamp(1, MOST);
    let age = |one: &One| now.saturating_duration_since(one.since);
    let is_in = |one: &One| one.networks.iter().any(|other| other == network);
    let crowded = !all.contains_key(&mac) && all.len() >= MOST;
    let beside = |one: &One| crowded || is_in(one);
    let mut begun = Begun::Yes;
    if !all.get(&mac).is_some_and(is_in) && all.values().filter(|one| beside(one)).count() >= half {
        let is_idle = |one: &One| match one {
            One { goes_on: true, .. } => age(one) >= FORGOTTEN,
            One { fetched, .. } => !fetched && age(one) >= SHOWS_UP,
        };
        let idle = all.iter().filter(|(_, one)| beside(one) && is_idle(one));
        let Some(oldest) = idle.min_by_key(|(_, one)| one.since).map(|(mac, _)| *mac) else {
            return Begun::TooMany;
        };
        all.remove(&oldest);
        begun = Begun::InPlaceOf(oldest);
    }
    // One that only asks, again and again, does not stay for it.
    let one = all.entry(mac).or_insert_with(|| One::new(now));
    one.networks.retain(|other| other != network);
    one.networks.push(network.to_owned());
    begun
}

/// One that got no further than its script.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// One that is a node's, or may be: as long as somebody needs who reads in the node's history what to do. Then it is told of again.
const GOES_ON: Duration = Duration::from_secs(6 * 3600);
/// One that did not even fetch that: firmware that found nothing tries again for some minutes.
const ONLY_ASKED: Duration = Duration::from_secs(600);
/// From an address to the script it is seconds, two minutes where PXE has to time out first.
const SHOWS_UP: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: (&str, u32) = ("row-1", 5000);

    #[test]
    fn a_token_is_of_one_machine_and_its_agent_is_found_by_its_certificate() {
        let (found, now) = (Found::default(), Instant::now());
        let (one, two) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        assert_eq!((found.begin(one, ROW, now), found.begin(two, ROW, now)), (Begun::Yes, Begun::Yes));
        let token = found.new_token(one).unwrap();
        assert_eq!(found.use_token("guess", "k"), None);
        assert_eq!(found.use_token(&token, "k"), Some((one, TokenUse::First)));
        assert_eq!(found.use_token(&token, "k"), Some((one, TokenUse::Again)));
        assert_eq!(found.use_token(&token, "other"), Some((one, TokenUse::UsedByAnother)));
        assert_eq!(found.agent_of(&identity(two)).map(|(mac, _)| mac), Some(two));
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
        assert!((0..MOST).all(|n| found.begin(mac(n), ROW, now) == Begun::Yes));
        assert_eq!(found.begin(mac(MOST), ROW, now), Begun::TooMany);
        assert!(found.forget_old(now).is_empty());
        assert_eq!(found.begin(mac(0), ROW, now), Begun::Yes, "one that is here begins again");
        found.fetched(mac(0), now);
        let later = now + SHOWS_UP;
        let Begun::InPlaceOf(gone) = found.begin(mac(MOST), ROW, later) else { panic!("no place") };
        assert_ne!(gone, mac(0), "who fetched its script stays");
        for mac in (0..MOST).map(mac).filter(|mac| *mac != gone) {
            assert_eq!(found.begin(mac, ROW, now + ONLY_ASKED / 2), Begun::Yes);
        }
        assert_eq!(found.forget_old(now + ONLY_ASKED).len(), MOST - 2, "asking again keeps no place");
        assert_eq!(found.forget_old(now + FORGOTTEN).len(), 2, "their addresses are given back");
        assert_eq!(found.begin(mac(MOST), ROW, later), Begun::Yes);
    }

    #[test]
    fn one_that_is_being_told_while_the_centre_is_away_is_not_forgotten() {
        let (found, now) = (Found::default(), Instant::now());
        let (told, silent) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        for mac in [told, silent] {
            assert_eq!(found.begin(mac, ROW, now), Begun::Yes);
            found.fetched(mac, now);
        }
        assert!(found.say(told, Hardware::default()), "nobody tells of it yet");
        assert_eq!(found.forget_old(now + FORGOTTEN * 2), [silent]);
        assert!(found.said(told).is_some());
    }

    #[test]
    fn one_that_is_a_nodes_is_told_of_once_and_has_its_disk_to_boot_for_hours() {
        let (found, now) = (Found::default(), Instant::now());
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        found.begin(mac, ROW, now);
        let token = found.new_token(mac).unwrap();
        found.fetched(mac, now);
        assert!(found.say(mac, Hardware::default()) && found.agent_of(&identity(mac)).is_some());
        found.go_on(mac, now);
        assert!(found.goes_on(mac) && found.boot(mac).is_none());
        assert_eq!(found.use_token(&token, "k"), None, "a ramdisk that stays is told that nobody knows it");
        assert!(!found.say(mac, Hardware::default()), "nobody tells of it again");
        assert!(found.agent_of(&identity(mac)).is_some(), "it has its last order still to come");
        found.dismiss(mac);
        assert!(found.agent_of(&identity(mac)).is_none());
        assert_eq!(found.begin(mac, ROW, now), Begun::Yes);
        assert!(found.goes_on(mac), "it asks to boot, and is what it was");
        assert!(found.forget_old(now + FORGOTTEN * 2).is_empty());
        assert_eq!(found.forget_old(now + GOES_ON), [mac]);
    }

    #[test]
    fn nodes_have_half_of_the_addresses_to_themselves() {
        let (found, now) = (Found::default(), Instant::now());
        let begun = |network: &str, first: u8| {
            let all = (first..first + 9).map(|n| MacAddr([2, 0, 0, 0, 0, n]));
            all.filter(|mac| found.begin(*mac, (network, 9), now) == Begun::Yes).count()
        };
        assert_eq!((begun("row-1", 0), begun("row-2", 100)), (4, 4), "in each network by itself");
        let moved = |n: u8, network| found.moved(MacAddr([2, 0, 0, 0, 0, n]), (network, 9), now);
        assert_eq!(moved(0, "row-2"), Some(Begun::TooMany), "nor by asking in one after the other");
        assert_eq!(moved(0, "row-3"), Some(Begun::Yes));
        assert_eq!(moved(200, "row-3"), None, "it never began");
        assert_eq!((begun("row-1", 50), begun("row-3", 150)), (0, 3), "it has one in both");
        found.not_served(MacAddr([2, 0, 0, 0, 0, 0]), "row-1");
        assert_eq!(begun("row-1", 50), 1);
    }

    #[test]
    fn a_machine_that_boots_again_and_again_is_reported_once_as_it_was_last() {
        let (found, mac) = (Found::default(), MacAddr([2, 0, 0, 0, 0, 1]));
        let said = |release: &str| Hardware { kernel_release: release.to_owned(), ..Hardware::default() };
        assert!(!found.say(mac, said("0")), "it did not begin");
        found.begin(mac, ROW, Instant::now());
        assert!(found.say(mac, said("1")));
        assert!(!found.say(mac, said("2")), "somebody is at it");
        assert_eq!(found.said(mac), Some(said("2")));
        found.end(mac);
        assert_eq!(found.said(mac), None);
    }
}
