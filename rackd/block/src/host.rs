//! The world of one connection, for the protocol: who may log in, and the media.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use farrier_iscsi::scsi::{InitiatorPort, MediaError, MediaOp, MediaReply, Refusal, TaskAge, Unit};
use farrier_iscsi::{
    Admission, Chap, Denied, Discovered, DiscoveryAccess, Grant, Host, LoginRefused, Now, Refused, Room,
    SessionKind, SessionStart, TaskKey,
};
use farrier_model::Share;
use rand::RngCore as _;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::arrival;
use crate::budget::{Purse, Turn};
use crate::events::Event;
use crate::media::{Medium, changes};
use crate::targets::{Entry, SessionGuard, Targets};

/// What the medium took longer for, and the memory that it holds.
pub(crate) type Completion = (TaskKey, Result<Vec<u8>, Refusal>, Memory);
/// A share of the address's budget and one of the target's; none for what only waits.
type Memory = Option<(Share<IpAddr>, Share<()>)>;

/// Says what became of an operation.
type Finish = Box<dyn FnOnce(&MediaOp, Result<MediaReply, MediaError>) + Send>;

pub(crate) struct ConnectionHost {
    targets: Targets,
    peer: SocketAddr,
    local: SocketAddr,
    portals: Arc<Vec<SocketAddr>>,
    target_port: u16,
    kill: CancellationToken,
    completions: mpsc::UnboundedSender<Completion>,
    admitted: Option<Arc<Entry>>,
    session: Option<SessionGuard>,
    /// What the session draws on.
    purse: Option<Purse>,
    discovery: Option<Share<IpAddr>>,
    /// Nothing of an older session changes the media any more.
    first: bool,
    /// Cancelled when the session is replaced, and when the connection is over however it ends.
    ended: CancellationToken,
    _ends: DropGuard,
}

/// Where a connection came in.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) portals: Arc<Vec<SocketAddr>>,
    pub(crate) target_port: u16,
}

impl ConnectionHost {
    pub(crate) fn new(
        targets: Targets,
        arrival: Arrival,
        kill: CancellationToken,
        // As many as there are tasks of the session: the protocol bounds them.
        completions: mpsc::UnboundedSender<Completion>,
    ) -> ConnectionHost {
        let Arrival { peer, local, portals, target_port } = arrival;
        let ended = kill.child_token();
        ConnectionHost {
            targets,
            peer,
            local,
            portals,
            target_port,
            kill,
            completions,
            admitted: None,
            session: None,
            purse: None,
            discovery: None,
            first: false,
            _ends: ended.clone().drop_guard(),
            ended,
        }
    }

    /// Cancelled when the target goes.
    pub(crate) fn gone(&self) -> Option<CancellationToken> {
        self.session.as_ref().map(|session| session.entry.gone().clone())
    }

    fn is_first(&mut self) -> bool {
        self.first = self.first || self.session.as_ref().is_some_and(SessionGuard::is_first);
        self.first
    }

    fn medium(&self, unit: &Unit) -> Option<&Arc<Medium>> {
        self.session.as_ref()?.entry.medium(unit.lun)
    }

    fn addresses(&self) -> Vec<String> {
        // The portal that was asked first, then the others of the same group. One that listens on every
        // address is reachable where it was reached.
        let mut addresses = vec![format!("{},1", self.local)];
        for portal in self.portals.iter() {
            let mut portal = *portal;
            if portal.ip().is_unspecified() {
                portal.set_ip(self.local.ip());
            }
            let line = format!("{portal},1");
            if !addresses.contains(&line) {
                addresses.push(line);
            }
        }
        addresses
    }
}

impl Host for ConnectionHost {
    fn admit(&mut self, initiator: &str, target: &str) -> Result<Admission, Denied> {
        let entry =
            self.targets.find(target).filter(|entry| entry.admits(initiator)).ok_or(Denied::NotFound)?;
        let admission = Admission { target: Arc::clone(&entry.target), accounts: entry.accounts() };
        self.admitted = Some(entry);
        Ok(admission)
    }

    /// Anybody can call itself by another's name: a target with a secret is shown to who knows that.
    fn discovery_access(&mut self, initiator: &str) -> DiscoveryAccess {
        let mut accounts: Vec<Chap> = Vec::new();
        let visible = self.targets.visible(initiator);
        for chap in visible.iter().flat_map(|entry| entry.accounts()) {
            if !accounts.contains(&chap) {
                accounts.push(chap);
            }
        }
        // Nobody is asked for a secret where there is none to know.
        let anonymous = visible.is_empty() || visible.iter().any(|entry| entry.takes(None));
        DiscoveryAccess { anonymous, accounts }
    }

    fn discover(&mut self, session: &SessionStart) -> Vec<Discovered> {
        let addresses = self.addresses();
        let shown = self.targets.visible(&session.initiator);
        let shown = shown.iter().filter(|entry| entry.takes(session.proved.as_ref()));
        shown
            .map(|entry| entry.target.name.clone())
            .map(|name| Discovered { name, addresses: addresses.clone() })
            .collect()
    }

    fn random(&mut self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }

    fn session(&mut self, start: &SessionStart) -> Result<Grant, Refused> {
        let target_port = self.target_port;
        if matches!(start.kind, SessionKind::Discovery) {
            self.discovery = Some(self.targets.budget().discovery(self.peer.ip()).ok_or(Refused)?);
            let (nexus, tsih) = self.targets.discovery();
            return Ok(Grant { tsih, nexus, target_port });
        }
        let entry = self.admitted.take().ok_or(Refused)?;
        let port = InitiatorPort { name: start.initiator.clone(), isid: start.isid, target_port };
        let proved = start.proved.as_ref();
        let guard = self.targets.open(&entry, port, proved, self.peer, self.kill.clone()).ok_or(Refused)?;
        let grant = Grant { tsih: guard.tsih, nexus: guard.nexus, target_port };
        self.purse = Some(self.targets.budget().purse(self.peer.ip(), &entry.budget));
        self.session = Some(guard);
        Ok(grant)
    }

    fn login_refused(&mut self, refused: &LoginRefused) {
        if self.targets.is_news(self.peer.ip()) {
            tracing::warn!(
                peer = %self.peer,
                initiator = refused.initiator.as_deref(),
                target = refused.target.as_deref(),
                reason = refused.reason,
                "iscsi login refused; more from there within a minute is not logged"
            );
        }
        self.targets.tell(Event::LoginRefused {
            peer: self.peer,
            initiator: refused.initiator.clone(),
            target: refused.target.clone(),
            suspicious: refused.suspicious,
            reason: refused.reason.clone(),
        });
    }

    fn room(&mut self, bytes: usize) -> Option<Room> {
        let memory = self.purse.as_ref()?.memory(bytes)?;
        Some(Box::new(memory))
    }

    fn read(&mut self, unit: &Arc<Unit>, offset: u64, place: &mut [u8]) -> Now<()> {
        if !self.is_first() {
            return Now::Later;
        }
        let Some(medium) = self.medium(unit) else {
            return Now::Failed(MediaError::Read);
        };
        match medium.backing.try_read_at(place, offset) {
            Ok(()) => Now::Done(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Now::Later,
            Err(error) => Now::Failed(medium.read_error(&error)),
        }
    }

    fn run(
        &mut self,
        task: TaskKey,
        unit: &Arc<Unit>,
        age: TaskAge,
        op: &MediaOp,
        data: &[u8],
    ) -> Now<MediaReply> {
        let first = self.is_first();
        let (Some(medium), Some(session), Some(purse)) = (self.medium(unit), &self.session, &self.purse)
        else {
            return Now::Failed(MediaError::Write);
        };
        let settles = matches!(op, MediaOp::Settle);
        let before =
            if settles { Some(medium.running.now()) } else { session.before(medium).filter(|_| !first) };
        let before = before.filter(|before| !medium.running.are_over(*before));
        if before.is_none() {
            if settles {
                return Now::Done(MediaReply::Done);
            }
            let _touch = changes(op).then(|| medium.running.begin());
            match unit.is_current(age).then(|| medium.try_perform(op, data)).flatten() {
                Some(Ok(reply)) => return Now::Done(reply),
                Some(Err(error)) => return Now::Failed(error),
                // It would have to wait, or is aborted already: as if it had not been tried.
                None => {}
            }
        }
        // Held until the answer is made, or dropped with the connection: also by tasks that the initiator aborts.
        let memory = if settles {
            // It has none, and must not fail for want of it: an abort has happened, and is told when it is over.
            None
        } else {
            match purse.memory(held(op, data)) {
                Some(memory) => Some(memory),
                None => return Now::Failed(MediaError::Busy),
            }
        };
        let (medium, unit, purse) = (Arc::clone(medium), Arc::clone(unit), purse.clone());
        let (op, data) = (op.clone(), data.to_vec());
        let (completions, token) = (self.completions.clone(), session.token());
        let (gone, limit) = (session.entry.gone().clone(), self.targets.limits().arrival_timeout);
        // Nobody waits for the answer any more. A sanitize happens all the same, while there is a target.
        let over = if matches!(op, MediaOp::Sanitize { .. }) { gone.clone() } else { self.ended.clone() };
        let missing = arrival::missing(&*medium.backing, &op);
        let finish = {
            let unit = Arc::clone(&unit);
            move |op: &MediaOp, result| {
                // The connection may be gone: then nobody waits for an answer.
                let _ = completions.send((task, unit.finish(op, result), memory));
                drop(token);
            }
        };
        let perform = {
            let medium = Arc::clone(&medium);
            move |op: MediaOp, turn: Turn, finish: Finish| {
                tokio::task::spawn_blocking(move || {
                    let result = touch(&medium, &unit, age, &op, &data, &gone);
                    drop(turn);
                    finish(&op, result);
                });
            }
        };
        if before.is_none()
            && missing.is_none()
            && let Some(turn) = purse.try_turn()
        {
            perform(op, turn, Box::new(finish));
            return Now::Later;
        }
        tokio::spawn(async move {
            if let Some(before) = before {
                tokio::select! {
                    () = medium.running.over(before) => {}
                    () = over.cancelled() => return finish(&op, Err(MediaError::Busy)),
                }
            }
            if settles {
                return finish(&op, Ok(MediaReply::Done));
            }
            if let Some(missing) = missing
                && let Err(error) = arrival::all(missing, &medium, &op, limit, &over).await
            {
                return finish(&op, Err(error));
            }
            let turn = tokio::select! {
                turn = purse.turn() => turn,
                () = over.cancelled() => None,
            };
            match turn {
                Some(turn) => perform(op, turn, Box::new(finish)),
                None => finish(&op, Err(MediaError::Busy)),
            }
        });
        Now::Later
    }
}

/// On a thread that may wait. Begun first and judged then: whoever aborts the task, or replaces its session, either
/// waits for it or is seen here.
fn touch(
    medium: &Medium,
    unit: &Unit,
    age: TaskAge,
    op: &MediaOp,
    data: &[u8],
    gone: &CancellationToken,
) -> Result<MediaReply, MediaError> {
    // It goes on whatever happens to its task (SBC-3 section 4.11.1), and nobody waits for it.
    if matches!(op, MediaOp::Sanitize { .. }) {
        return medium.perform(op, data, &|| gone.is_cancelled());
    }
    // What only looks is nobody's trouble, however long it takes.
    let _touch = changes(op).then(|| medium.running.begin());
    let over = || gone.is_cancelled() || !unit.is_current(age);
    if over() { Err(MediaError::Busy) } else { medium.perform(op, data, &over) }
}

/// Bytes that an operation holds while it waits: its data, and the task itself.
fn held(op: &MediaOp, data: &[u8]) -> usize {
    TASK + if let MediaOp::Read { len, .. } = op { *len } else { data.len() }
}

/// Bytes of an operation without any data.
const TASK: usize = 1024;
