//! A listener and a BMC whose events and answers a test tells, by the clock of the test.

use super::*;
use async_trait::async_trait;
use farrier_bmc::{BmcNotice, Events, Power, PowerState};
use std::sync::Mutex;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

type Told = mpsc::Sender<Result<BmcNotice, BmcError>>;

/// What a test has of the BMC.
#[derive(Default)]
struct Fake {
    /// When it was looked at.
    looks: Mutex<Vec<Instant>>,
    /// The stream's other end, once it is listened to.
    told: Mutex<Option<Told>>,
    refuses: Mutex<bool>,
    /// It tells each look as an event.
    echoes: bool,
}

fn refused() -> BmcError {
    BmcError::WrongPassword { addr: ([192, 0, 2, 1], 443).into(), user: "u".into() }
}

fn notice(id: &str) -> BmcNotice {
    BmcNotice { message_id: id.to_owned(), message: String::new() }
}

const EVENT: &str = "ResourceEvent.1.3.ResourcePoweredOff";

#[async_trait]
impl Events for Fake {
    async fn events(&self, _: Deadline) -> Result<EventStream, BmcError> {
        let (told, notices) = mpsc::channel(16);
        *self.told.lock().unwrap() = Some(told);
        Ok(EventStream::new(notices, tokio::spawn(std::future::pending())))
    }
}

#[async_trait]
impl Power for Fake {
    async fn power_status(&self, _: Deadline) -> Result<PowerState, BmcError> {
        self.looks.lock().unwrap().push(Instant::now());
        if self.echoes {
            self.told.lock().unwrap().as_ref().unwrap().try_send(Ok(notice(EVENT))).unwrap();
        }
        if *self.refuses.lock().unwrap() { Err(refused()) } else { Ok(PowerState::On) }
    }

    async fn power_on(&self, _: Deadline) -> Result<(), BmcError> {
        unreachable!("a listener looks")
    }

    async fn power_off(&self, _: Deadline) -> Result<(), BmcError> {
        unreachable!("a listener looks")
    }

    async fn power_soft(&self, _: Deadline) -> Result<(), BmcError> {
        unreachable!("a listener looks")
    }

    async fn power_cycle(&self, _: Deadline) -> Result<(), BmcError> {
        unreachable!("a listener looks")
    }

    async fn power_reset(&self, _: Deadline) -> Result<(), BmcError> {
        unreachable!("a listener looks")
    }
}

struct Listened {
    fake: Arc<Fake>,
    /// Whether a task has the BMC.
    busy: watch::Sender<bool>,
    seen: mpsc::Receiver<Sighting>,
    running: AbortOnDropHandle<Ended>,
    begin: Instant,
}

impl Listened {
    fn new(fake: Fake, busy: bool) -> Self {
        let (fake, (busy, is_busy)) = (Arc::new(fake), watch::channel(busy));
        let (told, seen) = mpsc::channel(1024);
        let bmc = Bmc::new("redfish").with_power(fake.clone()).with_events(fake.clone());
        let free: Free = Box::new(move || {
            let mut is_busy = is_busy.clone();
            Box::pin(async move { drop(is_busy.wait_for(|busy| !busy).await) })
        });
        let listener = Listener { node: "nodes/a".to_owned(), bmc, told, free };
        let running = AbortOnDropHandle::new(tokio::spawn(listener.run()));
        Self { fake, busy, seen, running, begin: Instant::now() }
    }

    async fn stream(&self) -> Told {
        loop {
            if let Some(told) = self.fake.told.lock().unwrap().clone() {
                return told;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn tells(&self, id: &str) {
        self.stream().await.send(Ok(notice(id))).await.unwrap();
    }

    /// Seconds from the beginning to each look.
    fn looks(&self) -> Vec<u64> {
        let looks = self.fake.looks.lock().unwrap();
        looks.iter().map(|at| at.duration_since(self.begin).as_secs()).collect()
    }
}

/// By the clock of the test: nobody waits.
async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_is_a_look_at_once_and_another_for_power_that_lags() {
    let mut listened = Listened::new(Fake::default(), false);
    pass(10).await;
    listened.tells(EVENT).await;
    pass(60).await;
    assert_eq!(listened.looks(), [10, 15]);
    assert_eq!(listened.seen.recv().await.unwrap().node, "nodes/a");
    // What the BMC itself does is none.
    for id in ["TaskEvent.1.0.TaskStarted", "IDRAC.2.8.USR0030", "Base.1.8.Success"] {
        listened.tells(id).await;
    }
    pass(60).await;
    assert_eq!(listened.looks().len(), 2);
    // What nobody knows may be.
    listened.tells("").await;
    pass(1).await;
    assert_eq!(listened.looks().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn looks_are_bounded_however_many_events_come() {
    let listened = Listened::new(Fake::default(), false);
    let stream = listened.stream().await;
    let end = Instant::now() + Duration::from_secs(600);
    while Instant::now() < end {
        stream.send(Ok(notice(EVENT))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let looks = listened.looks();
    assert_eq!(looks[..8], [0, 1, 2, 3, 4, 5, 6, 7], "a start of dozens is followed");
    assert!((20..=29).contains(&looks.len()), "{looks:?}");
}

#[tokio::test(start_paused = true)]
async fn a_look_that_causes_an_event_does_not_go_on_at_pace() {
    let listened = Listened::new(Fake { echoes: true, ..Fake::default() }, false);
    listened.tells(EVENT).await;
    pass(3600).await;
    let looks = listened.looks().len();
    assert!(looks <= 8 + 3600 / 30, "{looks}");
}

#[tokio::test(start_paused = true)]
async fn a_task_has_the_bmc_for_itself() {
    let listened = Listened::new(Fake::default(), true);
    pass(60).await;
    assert!(listened.fake.told.lock().unwrap().is_none(), "it is not asked for a stream");
    listened.busy.send_replace(false);
    listened.stream().await;
    listened.busy.send_replace(true);
    listened.tells(EVENT).await;
    pass(40).await;
    assert!(listened.looks().is_empty());
    listened.busy.send_replace(false);
    pass(1).await;
    assert_eq!(listened.looks(), [100], "when it has ended");
}

#[tokio::test(start_paused = true)]
async fn a_refused_password_ends_it() {
    let listened = Listened::new(Fake::default(), false);
    listened.tells(EVENT).await;
    pass(1).await;
    *listened.fake.refuses.lock().unwrap() = true;
    for _ in 0..5 {
        // It is gone, perhaps.
        let _gone = listened.stream().await.send(Ok(notice(EVENT))).await;
        pass(1).await;
    }
    assert_eq!(listened.looks().len(), 2, "once is enough");
    assert_eq!(listened.running.await.unwrap().why, Why::Refused);
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_its_stream_and_when_its_time_is_over() {
    let broken = || Err(BmcError::ShuttingDown);
    let listened = Listened::new(Fake::default(), false);
    listened.stream().await.send(broken()).await.unwrap();
    assert_eq!(listened.running.await.unwrap().why, Why::Failed);

    let listened = Listened::new(Fake::default(), false);
    pass(GOOD.as_secs() + 1).await;
    listened.stream().await.send(broken()).await.unwrap();
    assert_eq!(listened.running.await.unwrap().why, Why::Lasted);

    let listened = Listened::new(Fake::default(), false);
    let begin = Instant::now();
    assert_eq!(listened.running.await.unwrap().why, Why::Lasted);
    assert!((LIFE.mul_f64(0.74)..LIFE.mul_f64(1.26)).contains(&begin.elapsed()));
}
