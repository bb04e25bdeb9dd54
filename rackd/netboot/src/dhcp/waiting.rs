//! Answers that wait for the disk: nobody is told of a lease that a crash could undo.
//!
//! One write is under way at a time; what comes in meanwhile is the next one. So the disk's pace decides how many leases
//! go into a write, not how many machines can be served.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::outlet::Answer;
use crate::lease::Record;
use crate::{ClientKey, Leases};

/// Begins to write records to disk; over when they are there.
type Commit = Box<dyn Fn(Vec<Record>) -> JoinHandle<io::Result<()>> + Send + Sync>;

pub(crate) struct Waiting {
    /// `None`: there is no disk to wait for.
    commit: Option<Commit>,
    records: Vec<Record>,
    /// The last of them of each client and of each address.
    of_client: HashMap<ClientKey, usize>,
    of_address: HashMap<(String, Ipv4Addr), usize>,
    /// A client that asks again while its answer waits is answered once, in the transaction that it began last.
    replies: HashMap<ClientKey, Answer>,
    under_way: Option<UnderWay>,
    /// When the next write may begin. One machine alone never waits for that.
    due: Option<Instant>,
    /// What is on disk is to be written again, though nobody waits for it.
    anew: bool,
}

struct UnderWay {
    write: JoinHandle<io::Result<()>>,
    answers: Vec<Answer>,
    since: Instant,
}

/// What comes of an answer that was to wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// There is no disk to wait for.
    Now(Option<Answer>),
    Waits,
    /// So many wait already: it is told nothing, and asks again.
    Full(Option<Answer>),
}

/// Leases that are not on disk, and who is not told of them.
#[derive(Debug)]
pub(super) struct NotWritten {
    pub(super) error: io::Error,
    pub(super) answers: Vec<Answer>,
}

impl Waiting {
    pub(crate) fn new(leases: Leases) -> Self {
        let commit = |leases: Leases| Box::new(move |records| leases.commit(records)) as Commit;
        Self::committing(leases.durable().then(|| commit(leases)))
    }

    fn committing(commit: Option<Commit>) -> Self {
        Self {
            commit,
            records: Vec::new(),
            of_client: HashMap::new(),
            of_address: HashMap::new(),
            replies: HashMap::new(),
            under_way: None,
            due: None,
            anew: false,
        }
    }

    /// A record to be written, and what is to be said then.
    #[must_use]
    pub(super) fn add(&mut self, record: Record, answer: Option<Answer>) -> Added {
        if self.commit.is_none() {
            return Added::Now(answer);
        }
        let client = record.client.clone();
        if !self.keep(record) {
            return Added::Full(answer);
        }
        if let Some(answer) = answer {
            self.replies.insert(client, answer);
        }
        Added::Waits
    }

    /// How long the disk has not answered, when that is longer than any that works takes.
    pub(super) fn hangs(&self, now: Instant) -> Option<Duration> {
        let under_way = self.under_way.as_ref()?;
        let taken = now.saturating_duration_since(under_way.since);
        (taken >= HANGS && !under_way.write.is_finished()).then_some(taken)
    }

    /// Whether a record waits now. One that says the same as another is no second one: in a storm machines ask again
    /// before they are answered, and that takes no room from those that did not ask yet.
    fn keep(&mut self, record: Record) -> bool {
        let (client, address) = (record.client.clone(), (record.network.clone(), record.ip));
        let last = self.of_client.get(&client).filter(|at| self.of_address.get(&address) == Some(*at));
        if let Some(same) = last.and_then(|at| self.records.get_mut(*at))
            && same.state == record.state
        {
            *same = record;
            return true;
        }
        // A disk that stands still: machines ask again, memory does not come again.
        if self.records.len() >= MOST {
            return false;
        }
        self.of_client.insert(client, self.records.len());
        self.of_address.insert(address, self.records.len());
        self.records.push(record);
        true
    }

    /// The leases were changed by something else than a machine: the next write is begun also without one. A disk that
    /// hangs keeps nobody from an answer that needs none.
    pub(super) fn write_anew(&mut self) {
        self.anew = self.commit.is_some();
        self.begin();
    }

    /// Something is to be written that nobody waits for; with what gathers until [`Self::begin`].
    pub(crate) fn write_beside(&mut self) {
        self.anew = self.commit.is_some();
    }

    fn has_work(&self) -> bool {
        self.anew || !self.records.is_empty()
    }

    /// Begins a write, if there is something to write, none under way, and the last one long enough ago.
    pub(crate) fn begin(&mut self) {
        let now = Instant::now();
        let has_work = self.has_work();
        let Some(commit) = self.commit.as_ref().filter(|_| self.under_way.is_none()) else { return };
        if !has_work || self.due > Some(now) {
            return;
        }
        self.anew = false;
        let records = std::mem::take(&mut self.records);
        self.due = Some(now + gather(records.len()));
        let write = commit(records);
        self.of_client.clear();
        self.of_address.clear();
        let answers = self.replies.drain().map(|(_, answer)| answer).collect();
        self.under_way = Some(UnderWay { write, answers, since: now });
    }

    /// Over when a write is, of leases that nobody waits for; never without one.
    pub(crate) async fn written_beside(&mut self) {
        // Leases of reservations tell themselves what does not get to the disk.
        let _ = self.committed().await;
    }

    /// The answers of the next write that is on disk; never without one. Nothing is lost when the future is dropped
    /// before.
    pub(super) async fn committed(&mut self) -> Result<Vec<Answer>, NotWritten> {
        if self.under_way.is_none() && self.has_work() {
            if let Some(due) = self.due {
                tokio::time::sleep_until(due.into()).await;
            }
            self.begin();
        }
        let Some(under_way) = &mut self.under_way else { return std::future::pending().await };
        let done = (&mut under_way.write).await;
        let answers = self.under_way.take().map(|under_way| under_way.answers).unwrap_or_default();
        match done.map_err(io::Error::other).flatten() {
            Ok(()) => {
                self.begin();
                Ok(answers)
            }
            Err(error) => {
                self.due = Some(Instant::now() + AFTER_ERROR);
                Err(NotWritten { error, answers })
            }
        }
    }
}

/// Records that wait, at most: twice what a row of racks asks for at once.
const MOST: usize = 8192;
/// How far apart two writes begin at least, by what went into the first: in a storm a sync is dear, and ten milliseconds are
/// nothing to a firmware; where few ask at a time, each waits the less.
fn gather(records: usize) -> Duration {
    Duration::from_millis(if records < MANY { 5 } else { 10 })
}

/// Records of a write in a storm: some eight hundred machines a second.
const MANY: usize = 4;
/// A disk that is full or broken is not asked at every packet.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// A disk that took so long for some kilobytes does not work.
const HANGS: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::SystemTime;

    use dhcproto::v4::MessageType;
    use tokio::sync::oneshot;

    use super::super::{Reply, Request, pxe::BootFile, tests::discover};
    use super::*;
    use crate::lease::State;
    use crate::{MacAddr, Segment};

    /// A disk that is done with each write when the test says so.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<Vec<Write>>>);

    /// How many records, and who waits for them.
    type Write = (usize, oneshot::Sender<io::Result<()>>);

    impl Disk {
        fn waiting(&self) -> Waiting {
            let disk = self.clone();
            Waiting::committing(Some(Box::new(move |records| {
                let (done, wait) = oneshot::channel();
                disk.0.lock().unwrap().push((records.len(), done));
                tokio::spawn(async move { wait.await.map_err(io::Error::other).flatten() })
            })))
        }

        /// How many records are being written.
        fn writes(&self) -> Vec<usize> {
            self.0.lock().unwrap().iter().map(|(records, _)| *records).collect()
        }

        fn finishes(&self, outcome: io::Result<()>) {
            let (_, done) = self.0.lock().unwrap().remove(0);
            done.send(outcome).unwrap();
        }
    }

    fn record(n: u16, ip: Ipv4Addr) -> Record {
        let [a, b] = n.to_be_bytes();
        let mac = MacAddr([2, 0, 0, 0, a, b]);
        let (network, client) = ("lab".to_owned(), ClientKey::Mac(mac));
        Record { network, ip, client, mac, state: State::Bound, until: SystemTime::now() }
    }

    fn ip(n: u16) -> Ipv4Addr {
        let [a, b] = n.to_be_bytes();
        Ipv4Addr::new(10, 1, a, b)
    }

    fn answer(n: u16, xid: u32) -> Answer {
        let request = Request { mac: record(n, ip(n)).mac, ..discover(xid) };
        let segment = Segment::new("lab", "br0", Ipv4Addr::new(10, 1, 0, 1), 16);
        let reply = Reply::lease(&request, &segment, MessageType::Ack, ip(n), "", &BootFile::Nothing);
        Answer { reply, mac: request.mac, node: None, told: Vec::new() }
    }

    /// One client asks, and would be told.
    fn ask(waiting: &mut Waiting, n: u16, xid: u32) {
        let added = waiting.add(record(n, ip(n)), Some(answer(n, xid)));
        assert_eq!(added, Added::Waits, "nobody is told at once");
        waiting.begin();
    }

    fn pending(waiting: &mut Waiting) -> bool {
        futures::FutureExt::now_or_never(waiting.committed()).is_none()
    }

    #[tokio::test]
    async fn nobody_is_told_before_the_disk_has_it() {
        let disk = Disk::default();
        let mut waiting = disk.waiting();
        ask(&mut waiting, 1, 1);
        assert_eq!(disk.writes(), [1]);
        // While that is written others ask, one of them twice.
        for (n, xid) in [(2, 2), (3, 3), (3, 3), (3, 4)] {
            ask(&mut waiting, n, xid);
        }
        tokio::task::yield_now().await;
        assert!(pending(&mut waiting) && disk.writes() == [1], "one write at a time");
        disk.finishes(Ok(()));
        let told = waiting.committed().await.unwrap();
        assert_eq!(told.iter().map(|answer| answer.reply.message.yiaddr()).collect::<Vec<_>>(), [ip(1)]);
        assert!(pending(&mut waiting), "the next write has begun, and nobody of it is told");
        let next = tokio::spawn(async move { (waiting.committed().await, waiting) });
        while disk.writes().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!((disk.writes(), next.is_finished()), (vec![2], false));
        disk.finishes(Ok(()));
        let (told, mut waiting) = next.await.unwrap();
        let replies = told.unwrap().into_iter().map(|answer| answer.reply.message);
        let mut told: Vec<_> = replies.map(|message| (message.yiaddr(), message.xid())).collect();
        told.sort_unstable();
        assert_eq!(told, [(ip(2), 2), (ip(3), 4)], "one answer a client");
        assert!(pending(&mut waiting));
    }

    #[tokio::test]
    async fn nobody_is_told_of_what_the_disk_did_not_take() {
        let disk = Disk::default();
        let mut waiting = disk.waiting();
        ask(&mut waiting, 1, 1);
        disk.finishes(Err(io::Error::other("full")));
        let lost = waiting.committed().await.unwrap_err();
        assert_eq!((lost.answers, lost.error.to_string().as_str()), (vec![answer(1, 1)], "full"));
        ask(&mut waiting, 1, 2);
        assert_eq!(disk.writes(), [] as [usize; 0], "a disk that fails is not asked at every packet");
        let next = tokio::spawn(async move { waiting.committed().await });
        while disk.writes().is_empty() {
            tokio::task::yield_now().await;
        }
        disk.finishes(Ok(()));
        assert_eq!(next.await.unwrap().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_disk_that_does_not_answer_is_known_by_it() {
        let disk = Disk::default();
        let mut waiting = disk.waiting();
        let begun = Instant::now();
        assert_eq!(waiting.hangs(begun + HANGS * 2), None, "nothing is written");
        ask(&mut waiting, 1, 1);
        assert_eq!(waiting.hangs(begun), None);
        assert!(waiting.hangs(begun + HANGS * 2).is_some());
        disk.finishes(Ok(()));
        waiting.committed().await.unwrap();
        assert_eq!(waiting.hangs(begun + HANGS * 2), None);
    }

    #[tokio::test]
    async fn leases_are_written_anew_without_anybody_who_asks() {
        let disk = Disk::default();
        let mut waiting = disk.waiting();
        waiting.write_anew();
        assert_eq!(disk.writes(), [0]);
        // Asked for again while the disk hangs: one write more, when it is done.
        waiting.write_anew();
        assert!(pending(&mut waiting) && disk.writes() == [0]);
        disk.finishes(Ok(()));
        assert_eq!(waiting.committed().await.unwrap(), []);
        let next = tokio::spawn(async move { waiting.committed().await });
        while disk.writes().is_empty() {
            tokio::task::yield_now().await;
        }
        disk.finishes(Ok(()));
        assert_eq!(next.await.unwrap().unwrap(), []);
        let mut in_memory = Waiting::committing(None);
        in_memory.write_anew();
        assert!(pending(&mut in_memory));
    }

    #[tokio::test]
    async fn under_overload_who_asks_again_takes_no_room() {
        let disk = Disk::default();
        let mut waiting = disk.waiting();
        ask(&mut waiting, 0, 0);
        // One client asks as often as there is room for all.
        for xid in 1..=u32::try_from(MOST).unwrap() {
            ask(&mut waiting, 1, xid);
        }
        assert_eq!(waiting.records.len(), 1);
        for n in 2..=u16::try_from(MOST).unwrap() {
            ask(&mut waiting, n, 0);
        }
        assert_eq!(waiting.records.len(), MOST);
        let before = waiting.replies.len();
        let last = waiting.add(record(u16::MAX, ip(u16::MAX)), Some(answer(u16::MAX, 0)));
        assert_eq!(last, Added::Full(Some(answer(u16::MAX, 0))));
        assert_eq!(
            (waiting.records.len(), waiting.replies.len()),
            (MOST, before),
            "there is no room for more"
        );
    }

    #[tokio::test]
    async fn in_a_storm_writes_are_further_apart() {
        let far: Vec<_> = [0, 1, MANY - 1, MANY, MOST].map(|records| gather(records).as_millis()).into();
        assert_eq!(far, [5, 5, 5, 10, 10]);
        let disk = Disk::default();
        for (machines, most) in [(1, 5), (MANY, 10)] {
            let mut waiting = disk.waiting();
            for n in 0..u16::try_from(machines).unwrap() {
                assert_eq!(waiting.add(record(n, ip(n)), None), Added::Waits);
            }
            let begun = Instant::now();
            waiting.begin();
            let (due, now) = (waiting.due.unwrap(), Instant::now());
            let most = Duration::from_millis(most);
            assert!((begun + most..=now + most).contains(&due), "{machines}");
        }
    }

    #[test]
    fn what_differs_is_kept_in_its_order() {
        let mut waiting = Waiting::committing(None);
        let declined = |n, ip| Record { state: State::Declined, ..record(n, ip) };
        for record in
            [record(1, ip(1)), record(1, ip(2)), record(1, ip(1)), record(1, ip(1)), declined(1, ip(1))]
        {
            assert!(waiting.keep(record));
        }
        // Another client's between two of one address.
        for n in [2, 3, 2] {
            assert!(waiting.keep(record(n, ip(9))));
        }
        let kept: Vec<_> = waiting.records.iter().map(|r| (r.mac.0[5], r.ip.octets()[3])).collect();
        assert_eq!(kept, [(1, 1), (1, 2), (1, 1), (1, 1), (2, 9), (3, 9), (2, 9)]);
    }
}
