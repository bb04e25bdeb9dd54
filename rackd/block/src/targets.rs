//! The registry of targets and sessions.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use farrier_model::Seldom;

use farrier_iscsi::scsi::{InitiatorPort, Nexus};
use farrier_iscsi::{Chap, Target};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::budget::{Budget, TargetBudget};
use crate::events::{Event, SessionInfo};
use crate::limits::Limits;
use crate::media::Medium;
use crate::running::Before;
use crate::spec::{AddError, TargetSpec, check_accounts};
use crate::trouble::Trouble;

/// A handle to all targets of a server.
#[derive(Debug, Clone)]
pub struct Targets(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    targets: Mutex<BTreeMap<String, Arc<Entry>>>,
    /// Taken away, and something of them may still be at work.
    leaving: Mutex<Vec<Arc<Entry>>>,
    events: broadcast::Sender<Event>,
    nexus: AtomicU64,
    tsih: AtomicU16,
    /// Portals that were opened: each is a target port of every target.
    ports: AtomicU16,
    sessions: AtomicUsize,
    budget: Budget,
    refused: Seldom,
}

/// A target that is there.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) target: Arc<Target>,
    /// In the order of the target's units.
    pub(crate) media: Vec<Arc<Medium>>,
    accounts: Mutex<Vec<Chap>>,
    pub(crate) budget: TargetBudget,
    initiators: Vec<String>,
    sessions: Mutex<BTreeMap<u64, Open>>,
    /// Cancelled when the target goes.
    gone: CancellationToken,
    /// Sessions, and I/O that outlives them.
    tracker: TaskTracker,
}

/// A session that is there.
#[derive(Debug)]
struct Open {
    info: SessionInfo,
    proved: Option<Chap>,
    nexus: Nexus,
    kill: CancellationToken,
}

/// Held by a session as long as it lasts.
#[derive(Debug)]
pub(crate) struct SessionGuard {
    targets: Targets,
    pub(crate) entry: Arc<Entry>,
    pub(crate) nexus: u64,
    pub(crate) tsih: u16,
    /// What sessions before this one had under way, in the order of the media: it comes first.
    before: Vec<Before>,
    token: TaskTrackerToken,
}

impl Targets {
    pub fn new(limits: Limits) -> Targets {
        let budget = Budget::new(&limits);
        Targets(Arc::new(Shared {
            budget,
            refused: Seldom::default(),
            limits,
            targets: Mutex::default(),
            leaving: Mutex::default(),
            events: broadcast::channel(EVENTS).0,
            nexus: AtomicU64::new(1),
            tsih: AtomicU16::new(1),
            ports: AtomicU16::new(1),
            sessions: AtomicUsize::new(0),
        }))
    }

    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.0.budget
    }

    pub fn add(&self, spec: TargetSpec) -> Result<(), AddError> {
        let (target, backings) = spec.build(self.0.limits.portals.max(1))?;
        let troubles =
            target.units.iter().map(|unit| Trouble::new(&spec.name, unit.lun, self.0.events.clone()));
        let media = backings.into_iter().zip(troubles);
        let media = media.map(|(backing, trouble)| Arc::new(Medium::new(backing, trouble))).collect();
        let entry = Entry {
            target,
            media,
            accounts: Mutex::new(spec.accounts),
            budget: TargetBudget::new(&self.0.limits),
            initiators: spec.initiators,
            sessions: Mutex::default(),
            gone: CancellationToken::new(),
            tracker: TaskTracker::new(),
        };
        let mut targets = self.all();
        if targets.contains_key(&spec.name) {
            return Err(AddError::Exists(spec.name));
        }
        targets.insert(spec.name, Arc::new(entry));
        Ok(())
    }

    /// Takes a target away: no login finds it any more, its sessions end, and when this is over nothing of
    /// theirs touches the media. False: there was none.
    ///
    /// CANCEL-SAFETY: the target is gone at once; only the waiting is lost, and who removes it again waits.
    pub async fn remove(&self, name: &str) -> bool {
        // Held over both: another one who removes it finds it here or there.
        let (named, was_there) = {
            let mut leaving = self.leaving();
            let found = self.all().remove(name);
            let was_there = found.is_some();
            if let Some(entry) = found {
                entry.gone.cancel();
                entry.tracker.close();
                leaving.push(entry);
            }
            let named: Vec<_> = leaving.iter().filter(|entry| entry.target.name == name).cloned().collect();
            (named, was_there)
        };
        for entry in named {
            entry.tracker.wait().await;
        }
        self.leaving().retain(|entry| !entry.tracker.is_empty());
        was_there
    }

    /// Whose secrets are taken from now on: sessions that proved another end, and so does a login that is under way. At
    /// least one: nobody opens a target by taking secrets away. False: there is no such target.
    pub fn set_accounts(&self, name: &str, accounts: Vec<Chap>) -> Result<bool, AddError> {
        check_accounts(&accounts)?;
        if accounts.is_empty() {
            return Err(AddError::NoAccount(name.to_owned()));
        }
        let Some(entry) = self.find(name) else { return Ok(false) };
        // In this order: a session that begins sees the new ones, or is seen here.
        *entry.locked_accounts() = accounts.clone();
        let known = |open: &Open| open.proved.as_ref().is_some_and(|proved| accounts.contains(proved));
        self.end_sessions(&entry, &mut entry.sessions(), |open| !known(open));
        Ok(true)
    }

    pub fn names(&self) -> Vec<String> {
        self.all().keys().cloned().collect()
    }

    /// Those that an initiator of this name may log in to.
    pub fn names_for(&self, initiator: &str) -> Vec<String> {
        self.visible(initiator).iter().map(|entry| entry.target.name.clone()).collect()
    }

    /// Those that may log in to a target. None: all may, or there is no such target.
    pub fn initiators_of(&self, name: &str) -> Vec<String> {
        self.find(name).map(|entry| entry.initiators.clone()).unwrap_or_default()
    }

    pub fn sessions(&self) -> Vec<SessionInfo> {
        let entries: Vec<Arc<Entry>> = self.all().values().cloned().collect();
        entries
            .iter()
            .flat_map(|entry| entry.sessions().values().map(|open| open.info.clone()).collect::<Vec<_>>())
            .collect()
    }

    /// A backing of this target has another size: initiators are told.
    pub fn resized(&self, name: &str) {
        let Some(entry) = self.find(name) else { return };
        for (unit, medium) in entry.target.units.iter().zip(&entry.media) {
            let blocks = medium.backing.size() / u64::from(unit.geometry().block_size.max(1));
            if unit.geometry().blocks != blocks {
                unit.resize(blocks);
            }
        }
    }

    /// What happens from now on. A receiver that is slow loses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    /// Whether the log should hear of what this address is refused.
    pub(crate) fn is_news(&self, peer: IpAddr) -> bool {
        self.0.refused.due(peer, Instant::now())
    }

    pub(crate) fn tell(&self, event: Event) {
        // Nobody listens: nobody wants to know.
        let _ = self.0.events.send(event);
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Entry>> {
        self.all().get(name).cloned()
    }

    /// Targets that an initiator may log in to.
    pub(crate) fn visible(&self, initiator: &str) -> Vec<Arc<Entry>> {
        self.all().values().filter(|entry| entry.admits(initiator)).cloned().collect()
    }

    /// The next target port, for a portal that was opened.
    pub(crate) fn next_port(&self) -> u16 {
        let port = self.0.ports.fetch_add(1, Ordering::Relaxed);
        (port.max(1) - 1) % self.0.limits.portals.max(1) + 1
    }

    /// Begins a session, and ends one of the same initiator port before (RFC 7143 section 6.3.5).
    pub(crate) fn open(
        &self,
        entry: &Arc<Entry>,
        port: InitiatorPort,
        proved: Option<&Chap>,
        peer: SocketAddr,
        kill: CancellationToken,
    ) -> Option<SessionGuard> {
        // In this order: who removes the target waits for the token, or is seen here.
        let token = entry.tracker.token();
        if entry.gone.is_cancelled() {
            return None;
        }
        let mut sessions = entry.sessions();
        if !entry.takes(proved) {
            return None;
        }
        self.end_sessions(entry, &mut sessions, |open| open.nexus.port == port);
        let limits = &self.0.limits;
        let of_initiator = sessions.values().filter(|open| open.nexus.port.name == port.name).count();
        if sessions.len() >= limits.sessions_per_target || of_initiator >= limits.sessions_per_initiator {
            return None;
        }
        let id = self.0.nexus.fetch_add(1, Ordering::Relaxed);
        let info = SessionInfo {
            target: entry.target.name.clone(),
            initiator: port.name.clone(),
            user: proved.map(|chap| chap.initiator.user.clone()),
            peer,
            since: SystemTime::now(),
        };
        let proved = proved.cloned();
        sessions.insert(id, Open { info: info.clone(), proved, nexus: Nexus { id, port }, kill });
        drop(sessions);
        self.0.sessions.fetch_add(1, Ordering::Relaxed);
        self.tell(Event::SessionStarted(info));
        // Zero means a new session (RFC 7143 section 11.12.6).
        let tsih = self.0.tsih.fetch_add(1, Ordering::Relaxed).max(1);
        let before = entry.media.iter().map(|medium| medium.running.now()).collect();
        Some(SessionGuard { targets: self.clone(), entry: Arc::clone(entry), nexus: id, tsih, before, token })
    }

    fn end_sessions(&self, entry: &Entry, sessions: &mut BTreeMap<u64, Open>, which: impl Fn(&Open) -> bool) {
        let old: Vec<u64> = sessions.iter().filter(|(_, open)| which(open)).map(|(id, _)| *id).collect();
        for open in old.iter().filter_map(|id| sessions.remove(id)) {
            // Its reservations must not meet a new session's commands.
            entry.target.units.iter().for_each(|unit| unit.detach(&open.nexus));
            open.kill.cancel();
            self.ended(open.info);
        }
    }

    /// A number for a session that has no target.
    pub(crate) fn discovery(&self) -> (u64, u16) {
        (self.0.nexus.fetch_add(1, Ordering::Relaxed), self.0.tsih.fetch_add(1, Ordering::Relaxed).max(1))
    }

    fn ended(&self, info: SessionInfo) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
        self.tell(Event::SessionEnded(info));
    }

    fn leaving(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        self.0.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Entry>>> {
        self.0.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    pub(crate) fn admits(&self, initiator: &str) -> bool {
        self.initiators.is_empty() || self.initiators.iter().any(|known| known == initiator)
    }

    pub(crate) fn accounts(&self) -> Vec<Chap> {
        self.locked_accounts().clone()
    }

    /// Whether who proved this may log in now, or be shown the target.
    pub(crate) fn takes(&self, proved: Option<&Chap>) -> bool {
        let accounts = self.locked_accounts();
        accounts.is_empty() || proved.is_some_and(|proved| accounts.contains(proved))
    }

    fn locked_accounts(&self) -> MutexGuard<'_, Vec<Chap>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    pub(crate) fn medium(&self, lun: u16) -> Option<&Arc<Medium>> {
        let at = self.target.units.iter().position(|unit| unit.lun == lun)?;
        self.media.get(at)
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<u64, Open>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionGuard {
    /// Whether nothing of an older session touches the media any more.
    pub(crate) fn is_first(&self) -> bool {
        let mut media = self.entry.media.iter().zip(&self.before);
        media.all(|(medium, before)| medium.running.are_over(*before))
    }

    /// What an older session may still do to this medium.
    pub(crate) fn before(&self, medium: &Arc<Medium>) -> Option<Before> {
        let at = self.entry.media.iter().position(|known| Arc::ptr_eq(known, medium))?;
        self.before.get(at).copied()
    }

    /// For work that may last longer than the session.
    pub(crate) fn token(&self) -> TaskTrackerToken {
        self.token.clone()
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        // A session that was replaced is out of the list already.
        let open = self.entry.sessions().remove(&self.nexus);
        if let Some(open) = open {
            self.targets.ended(open.info);
        }
    }
}

/// Events that wait for a slow listener.
const EVENTS: usize = 1024;
