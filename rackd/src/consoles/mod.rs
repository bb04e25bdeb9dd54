//! Serial consoles: of each node one line to its BMC, shared by all who are attached, and a log.
//!
//! A **desk** is a node's console while it is open: it has the line, opens it again when the BMC loses it, and keeps
//! the log. A **seat** is somebody at a desk: all seats read, one of them types. A **keeper** has a desk open for the
//! log's sake, sits nowhere, and takes the console from nobody.

mod desk;
mod keep;
mod lines;
mod log;
mod seat;
mod secrets;
mod way;

pub(crate) use log::{LogLine, Query};
pub(crate) use seat::{Input, Mode, Output, Seat};

use crate::bmc::{Access, Bmcs};
use crate::config::LogWhen;
use desk::{Desk, driver_of};
use farrier_bmc::{Bmc, BmcError, ConsoleLine, Deadline};
use keep::Kept;
use log::Log;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use way::ByAccess;

/// Opening a line: two sessions at worst, of a BMC that takes five seconds for each answer. One that is dead is given up sooner.
const OPEN: Duration = Duration::from_secs(75);

/// For closing one: its BMC may have gone, and its log be on a slow disk.
const LEAVE: Duration = Duration::from_secs(10);

/// Why somebody cannot sit down.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    #[error("{node}: {writer} types there already: look on with --read-only, or take over with --steal")]
    Taken { node: String, writer: String },
    #[error(transparent)]
    Bmc(#[from] BmcError),
}

/// Locked while a line is opened: those who come together wait for one line.
type Slot = Arc<tokio::sync::Mutex<Place>>;

/// A node's.
#[derive(Default)]
struct Place {
    open: Option<Open>,
    /// When a line was not to be had last, by which way, and why.
    failed: Option<(Instant, Access, BmcError)>,
    /// Of what the watch was last told of its BMC.
    words: Option<[u8; 32]>,
}

/// A desk, and which BMC's it is.
struct Open {
    desk: Arc<Desk>,
    /// What its lost line is opened again by.
    access: watch::Sender<Access>,
    leave: CancellationToken,
}

impl Place {
    /// The desk at this BMC. One at another BMC is closed: a node whose BMC is corrected must not type into the machine that it
    /// was taken for before. What opens a line next waits until that one is given back: it may be the same BMC by another name.
    async fn desk_at(&mut self, access: &Access) -> Option<&Arc<Desk>> {
        if let Some(open) = self.open.take_if(|open| !open.is_at(access)) {
            open.desk.moved();
            open.leave.cancel();
            if tokio::time::timeout(LEAVE, open.desk.closed()).await.is_err() {
                tracing::warn!("a console that was left does not close; another is opened beside it");
            }
        }
        Some(&self.open.as_ref()?.desk)
    }

    /// The BMC has another password, say, from now on: a line that is lost is opened again by the newer words.
    fn renew(&self, access: &Access) {
        if let Some(open) = self.open.as_ref().filter(|open| open.is_at(access)) {
            open.access.send_replace(access.clone());
        }
    }

    /// As [`Place::renew`], once for each time that the watch is told something else than before: what it goes on being told may be
    /// older than what somebody came with since.
    fn hear(&mut self, words: [u8; 32], access: &Access) {
        if self.words.replace(words).is_none_or(|before| before != words) {
            self.renew(access);
        }
    }

    /// Whether somebody has a desk open at another BMC.
    fn is_elsewhere(&self, access: &Access) -> bool {
        self.open.as_ref().is_some_and(|open| !open.is_at(access) && open.desk.is_open())
    }

    /// What came of a try by the same way that has ended since then: who waited for it need not wait for another. Somebody with
    /// another password, or who knows another address, may well have a line.
    fn failed_since(&self, asked: Instant, access: &Access) -> Option<BmcError> {
        let (_, _, error) = self.failed.as_ref().filter(|(at, by, _)| *at > asked && by == access)?;
        // Another may be there to take it over.
        (!matches!(error, BmcError::ConsoleTaken { .. })).then(|| error.clone())
    }

    fn remember<T>(&mut self, access: Access, outcome: Result<T, BmcError>) -> Result<T, BmcError> {
        self.failed = outcome.as_ref().err().map(|error| (Instant::now(), access, error.clone()));
        outcome
    }
}

impl Open {
    fn is_at(&self, access: &Access) -> bool {
        self.access.borrow().is_same_machine(access)
    }
}

/// All consoles of one rackd.
pub(crate) struct Consoles {
    dir: PathBuf,
    /// By node, as many as were ever asked for: nodes of one rack.
    slots: Mutex<HashMap<String, Slot>>,
    always: Mutex<HashMap<String, Kept>>,
    when: LogWhen,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Consoles {
    pub(crate) fn new(dir: PathBuf, when: LogWhen, stop: CancellationToken, tasks: TaskTracker) -> Self {
        Self { dir, slots: Mutex::default(), always: Mutex::default(), when, stop, tasks }
    }

    /// Sits down at `node`'s console; `id` is its name without the collection.
    pub(crate) async fn attach(
        &self,
        bmcs: &Arc<Bmcs>,
        id: &str,
        access: Access,
        mode: Mode,
        actor: &str,
    ) -> Result<Seat, AttachError> {
        let (slot, asked) = (self.slot(id), Instant::now());
        let mut place = slot.lock().await;
        place.renew(&access);
        if let Some(desk) = place.desk_at(&access).await
            && let Some(seat) = Desk::sit(desk, mode, actor)
        {
            return seat;
        }
        if let Some(error) = place.failed_since(asked, &access) {
            return Err(error.into());
        }
        let deadline = Deadline::after(OPEN);
        let opened = async {
            let bmc = bmcs.console(id, access.clone(), deadline).await?;
            let line = bmc.open_console(mode == Mode::Steal, deadline).await?;
            Ok((bmc, line))
        };
        let opened = opened.await;
        let (bmc, line) = place.remember(access.clone(), opened)?;
        let desk = Desk::new(id, driver_of(&bmc));
        // Before its task starts: a desk without a seat closes.
        let seat = Desk::sit(&desk, mode, actor).unwrap_or(Err(AttachError::Bmc(BmcError::ShuttingDown)));
        place.open = Some(self.open(desk, (bmcs, id, access), bmc, line));
        seat
    }

    fn open(
        &self,
        desk: Arc<Desk>,
        (bmcs, id, access): (&Arc<Bmcs>, &str, Access),
        bmc: Bmc,
        line: ConsoleLine,
    ) -> Open {
        let (log, leave) = (Log::new(self.dir.join(id)), self.stop.child_token());
        let (access, newest) = watch::channel(access);
        let way = ByAccess { bmcs: Arc::clone(bmcs), node: id.to_owned(), access: newest };
        self.tasks.spawn(Desk::run(Arc::clone(&desk), bmc, line, way, log, leave.clone()));
        Open { desk, access, leave }
    }

    /// The log of `id`'s console, oldest first; `None`: there never was one.
    pub(crate) async fn read_log(&self, id: &str, query: Query) -> std::io::Result<Option<Vec<LogLine>>> {
        // Locked: a line is being opened, of a BMC that may be dead, and nothing was said on it yet. Who wants the log
        // then does not wait for that.
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        let unfinished = slot.and_then(|slot| slot.try_lock().ok()?.open.as_ref()?.desk.unfinished());
        let dir = self.dir.join(id);
        let read = tokio::task::spawn_blocking(move || log::read(&dir, &query, unfinished));
        read.await.map_err(std::io::Error::other)?
    }

    /// Whoever has `id`'s console open comes to its BMC by this from now on. It does not wait for a line that is being opened.
    pub(crate) fn renew(&self, id: &str, access: Access) {
        self.tell(id, move |place| place.renew(&access));
    }

    /// The same of what the watch is told, if that is new.
    pub(crate) fn hear(&self, id: &str, words: [u8; 32], access: Access) {
        self.tell(id, move |place| place.hear(words, &access));
    }

    fn tell(&self, id: &str, what: impl FnOnce(&mut Place) + Send + 'static) {
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        let Some(slot) = slot else { return };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            if let Some(mut place) = stop.run_until_cancelled(slot.lock()).await {
                what(&mut place);
            }
        });
    }

    /// Whether anybody ever asked for `id`'s console.
    pub(crate) fn is_known(&self, id: &str) -> bool {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }

    fn slot(&self, id: &str) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(id.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::Keys;
    use farrier_proto::rack::Machine;
    use tokio::sync::mpsc;
    use zeroize::Zeroizing;

    async fn access(address: &str, password: &str) -> Access {
        let machine = Machine {
            bmc_driver: "ipmi".into(),
            bmc_address: address.into(),
            bmc_user: "admin".into(),
            ..Machine::default()
        };
        let keys = Keys { password: Zeroizing::new(password.into()), ..Keys::default() };
        Access::of(&machine, &keys).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_desk_at_another_bmc_is_left_and_one_with_another_password_is_not() {
        let (desk, leave) = (Desk::new("n1", "ipmi"), CancellationToken::new());
        let mut ann = Desk::sit(&desk, Mode::Write, "ann").unwrap().unwrap();
        let old = access("192.0.2.7", "old").await;
        let (sender, by) = watch::channel(old.clone());
        let open = Open { desk, access: sender, leave: leave.clone() };
        let mut place = Place { open: Some(open), ..Place::default() };
        let by = || by.borrow().clone();
        let new = access("192.0.2.7", "new").await;
        assert!(place.desk_at(&new).await.is_some() && !leave.is_cancelled());
        assert_eq!(by(), old, "a keeper comes by what it was told long ago, and changes nothing");
        // The desk may be older than the first that the watch is told; what it is told again may be older than the desk.
        for (words, heard, wanted) in [(1, &new, &new), (1, &old, &new)] {
            place.hear([words; 32], heard);
            assert_eq!(by(), *wanted);
        }
        let newest = access("192.0.2.7", "newest").await;
        place.hear([2; 32], &newest);
        assert_eq!(by(), newest, "its next line is opened by the newest words");
        place.renew(&access("192.0.2.8", "other").await);
        assert_eq!(by(), newest, "another BMC's password is none of this one's");
        let elsewhere = access("192.0.2.8", "old").await;
        assert!(place.is_elsewhere(&elsewhere), "a keeper leaves it alone");
        assert!(place.desk_at(&elsewhere).await.is_none() && !place.is_elsewhere(&elsewhere));
        assert!(leave.is_cancelled() && place.open.is_none());
        let mut last = None;
        while let Ok(output) = ann.output.try_recv() {
            last = Some(output);
        }
        assert!(matches!(last, Some(Output::Moved)), "{last:?}");
        assert!(Desk::sit(&ann.desk, Mode::ReadOnly, "bob").is_none(), "it has closed");
    }

    /// There is no way back to a BMC that was left.
    struct NoWay;

    #[async_trait::async_trait]
    impl way::Way for NoWay {
        async fn bmc(&self, _: Deadline) -> Result<Bmc, BmcError> {
            Err(BmcError::ShuttingDown)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_opens_a_line_at_another_bmc_before_the_old_one_is_given_back() {
        let (dir, leave) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let desk = Desk::new("n1", "ipmi");
        let _ann = Desk::sit(&desk, Mode::Write, "ann").unwrap().unwrap();
        // A driver that takes its time for giving the console back.
        let ((told, events), (input, _typed)) = (mpsc::channel(1), mpsc::channel(1));
        let (given_back, may_go) = (CancellationToken::new(), CancellationToken::new());
        let line = ConsoleLine { events, input, given_back: given_back.clone() };
        let (left, goes) = (CancellationToken::new(), may_go.clone());
        let noticed = left.clone();
        tokio::spawn(async move {
            told.closed().await;
            noticed.cancel();
            goes.cancelled().await;
            given_back.cancel();
        });
        let log = Log::new(dir.path().join("n1"));
        tokio::spawn(Desk::run(Arc::clone(&desk), Bmc::new("ipmi"), line, NoWay, log, leave.clone()));
        let open = Open { desk, access: watch::channel(access("192.0.2.7", "x").await).0, leave };
        let mut place = Place { open: Some(open), ..Place::default() };
        let elsewhere = access("192.0.2.8", "x").await;
        let mut waits = std::pin::pin!(place.desk_at(&elsewhere));
        tokio::select! {
            biased;
            () = left.cancelled() => {}
            _ = &mut waits => panic!("the old line is not given back yet"),
        }
        assert!(futures::poll!(&mut waits).is_pending());
        may_go.cancel();
        assert!(waits.await.is_none());
    }

    #[tokio::test]
    async fn who_comes_with_another_address_or_password_does_not_wait_for_what_the_old_one_came_to() {
        let (mut place, asked) = (Place::default(), Instant::now());
        let old = access("192.0.2.7", "wrong").await;
        let failed = Err::<(), _>(BmcError::NoTurn { addr: old.ipmi.addr });
        assert!(place.remember(old.clone(), failed).is_err());
        assert!(place.failed_since(asked, &old).is_some());
        for new in [access("192.0.2.7", "right").await, access("192.0.2.8", "wrong").await] {
            assert!(place.failed_since(asked, &new).is_none());
        }
        assert!(place.failed_since(Instant::now(), &old).is_none(), "an older failure is nobody's answer");
    }
}
