//! The connections to all BMCs of a hub: how many there are at a time, and those that no request is on. Of these the newest stay
//! open, since the next request often comes soon; the oldest gives way, so that nobody waits for one that is unused. Each costs some
//! 50 KiB: BMCs that are looked at once a minute would cost more by connections than by all else, so that a look ends its own.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::http::Open;
use super::tuning::Tuning;

/// One of these for a hub.
pub(crate) struct Connections {
    places: Arc<Semaphore>,
    /// The newest is the last.
    unused: Mutex<VecDeque<(Owner, Open)>>,
    most_unused: usize,
    owners: AtomicU64,
}

/// Who has one connection at most that no request is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner(u64);

impl Connections {
    pub(crate) fn new(tuning: &Tuning) -> Self {
        Self {
            places: Arc::new(Semaphore::new(tuning.max_connections)),
            unused: Mutex::default(),
            most_unused: tuning.max_unused,
            owners: AtomicU64::new(0),
        }
    }

    pub(super) fn new_owner(&self) -> Owner {
        Owner(self.owners.fetch_add(1, Ordering::Relaxed))
    }

    /// For one connection more; `None`: there is none until the limit.
    pub(super) async fn place(&self, limit: Instant) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        let oldest = self.unused().pop_front();
        drop(oldest);
        // It is never closed.
        timeout_at(limit, Arc::clone(&self.places).acquire_owned()).await.ok()?.ok()
    }

    /// Leaves a connection open, and closes the one that has been unused for the longest where there are too many, or where
    /// somebody may wait for its place.
    pub(super) fn leave(&self, owner: Owner, open: Open) {
        let mut unused = self.unused();
        unused.push_back((owner, open));
        let crowded = unused.len() > self.most_unused || self.places.available_permits() == 0;
        let oldest = if crowded { unused.pop_front() } else { None };
        drop(unused);
        drop(oldest);
    }

    /// The owner's, unless it has given way.
    pub(super) fn take(&self, owner: Owner) -> Option<Open> {
        let mut unused = self.unused();
        let at = unused.iter().rposition(|(whose, _)| *whose == owner)?;
        unused.remove(at).map(|(_, open)| open)
    }

    pub(super) fn has(&self, owner: Owner) -> bool {
        self.unused().iter().any(|(whose, _)| *whose == owner)
    }

    /// The list stays consistent even if a holder panicked: every change is one call.
    fn unused(&self) -> MutexGuard<'_, VecDeque<(Owner, Open)>> {
        self.unused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use async_trait::async_trait;
    use http::Request;
    use http_body_util::Full;

    use super::super::http::Http;
    use super::*;
    use crate::redfish::{Dial, DialError, RedfishAddress, RedfishHub, Stream, scripted};
    use crate::{Bmc, Deadline, PowerState};

    /// Counts connections that are made.
    struct Counting(Arc<dyn Dial>, Arc<AtomicUsize>);

    #[async_trait]
    impl Dial for Counting {
        async fn dial(&self, address: &RedfishAddress) -> Result<Box<dyn Stream>, DialError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.dial(address).await
        }
    }

    async fn ask(bmc: &Bmc) {
        let seen = bmc.power_status(Deadline::after(Duration::from_secs(60))).await;
        assert_eq!(seen, Ok(PowerState::On));
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_bmcs_that_were_asked_the_newest_stay_connected_for_a_while_and_a_look_leaves_none() {
        let dial = scripted::dial(Duration::ZERO, |request| {
            let body = match request {
                "GET /redfish/v1/" => scripted::ROOT,
                "GET /S" => r#"{"Members": [{"@odata.id": "/S/1"}]}"#,
                _ => r#"{"@odata.id": "/S/1", "PowerState": "On"}"#,
            };
            Some((200, body.to_owned()))
        });
        let tuning = Tuning { max_unused: 8, ..Tuning::default() };
        let made = Arc::new(AtomicUsize::new(0));
        let hub = RedfishHub::with(Arc::new(Counting(dial, Arc::clone(&made))), tuning);
        let made = || made.load(Ordering::Relaxed);
        let open = || tuning.max_connections - hub.connections().places.available_permits();
        let of = |n: u8| hub.bmc(RedfishAddress { addr: ([192, 0, 2, n], 80).into(), ..scripted::address() });
        let bmcs: Vec<_> = (0..32).map(of).collect();
        for bmc in &bmcs {
            ask(bmc).await;
        }
        assert_eq!((made(), open()), (32, 8), "one connection for all requests of a call");
        for bmc in &bmcs[24..] {
            ask(bmc).await;
        }
        assert_eq!((made(), open()), (32, 8), "the newest are used again");
        // Its own gave way, and now the oldest of the newest does.
        ask(&bmcs[0]).await;
        ask(&bmcs[25]).await;
        assert_eq!((made(), open()), (33, 8));
        ask(&bmcs[24]).await;
        assert_eq!((made(), open()), (34, 8));
        // All at once: each has its own while it needs it.
        futures::future::join_all(bmcs.iter().map(ask)).await;
        assert_eq!(open(), 8);
        tokio::time::sleep(tuning.idle_disconnect + Duration::from_secs(1)).await;
        assert_eq!(open(), 0);
        // A look uses what is there, and ends it.
        ask(&bmcs[0]).await;
        let before = made();
        bmcs[0].look(Deadline::after(Duration::from_secs(60))).await.unwrap();
        assert_eq!((made(), open()), (before, 0));
        hub.shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_place_that_an_unused_connection_has() {
        let took = Duration::from_millis(100);
        let dial = scripted::dial(took, |request| {
            let body = if request == "GET /S/1" { r#"{"PowerState": "On"}"# } else { scripted::ROOT };
            Some((200, body.to_owned()))
        });
        let tuning = Tuning { max_connections: 2, ..Tuning::default() };
        let hub = RedfishHub::with(dial, tuning);
        let of = |n: u8| {
            let addr = ([192, 0, 2, n], 80).into();
            hub.bmc(RedfishAddress { addr, system: "/S/1".to_owned(), ..scripted::address() })
        };
        let bmcs: Vec<_> = (0..8).map(of).collect();
        let begin = Instant::now();
        ask(&bmcs[0]).await;
        // As long as each of its requests, one after the other, for each BMC.
        let one = begin.elapsed();
        for bmc in &bmcs[1..] {
            ask(bmc).await;
        }
        assert_eq!(begin.elapsed(), one * 8);
        // All at once, two of them at a time.
        let bmcs: Vec<_> = (8..16).map(of).collect();
        let begin = Instant::now();
        futures::future::join_all(bmcs.iter().map(ask)).await;
        assert!(begin.elapsed() < tuning.idle_disconnect, "{:?}", begin.elapsed());
        hub.shutdown().await;
    }

    /// One that is gone leaves nothing open.
    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_with_its_owner() {
        let dial = scripted::dial(Duration::ZERO, |_| Some((200, "{}".to_owned())));
        let tuning = Tuning::default();
        let connections = Arc::new(Connections::new(&tuning));
        let open = || tuning.max_connections - connections.places.available_permits();
        let mut http = Http::new(Arc::new(scripted::address()), dial, tuning, Arc::clone(&connections));
        let request = Request::get("/S/1").body(Full::default()).unwrap();
        http.exchange(request, Instant::now() + Duration::from_secs(60), 100).await.unwrap();
        assert_eq!(open(), 1);
        drop(http);
        assert_eq!(open(), 0);
    }
}
