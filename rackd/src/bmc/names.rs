//! Names of BMCs into addresses: each lookup bounded in time, all of them in number, and the last answer kept.
//!
//! A name server that is away takes no BMC away that was reached before: the watch asks for each name in each round.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// Of this process: the resolver's threads are, too.
pub(super) static NAMES: LazyLock<Names> = LazyLock::new(Names::default);

/// What was looked up.
pub(super) struct Names {
    known: Mutex<HashMap<String, Known>>,
    places: Arc<Semaphore>,
}

struct Known {
    addr: SocketAddr,
    at: Instant,
    /// It was told that nobody says it any more.
    doubted: bool,
}

impl Default for Names {
    fn default() -> Self {
        Self { known: Mutex::default(), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Names {
    /// The address of `host`, or the last one that it had where nobody says it now.
    pub(super) async fn resolve(&self, host: &str) -> Option<SocketAddr> {
        let name = host.to_owned();
        self.resolve_by(host, async move { Ok(tokio::net::lookup_host((name, 0)).await?.next()) }).await
    }

    /// The names that had this address last; some of them, where there are many.
    pub(super) fn at(&self, ip: IpAddr) -> Vec<String> {
        let known = self.known();
        let its = known.iter().filter(|(_, known)| known.addr.ip().to_canonical() == ip);
        let mut names: Vec<_> = its.map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names.truncate(OF_ONE);
        names
    }

    async fn resolve_by<F>(&self, host: &str, lookup: F) -> Option<SocketAddr>
    where
        F: Future<Output = io::Result<Option<SocketAddr>>> + Send + 'static,
    {
        let until = Instant::now() + PATIENCE;
        let asked = async {
            // It is never closed.
            let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
            // A thread sits in the resolver, which nobody can call back: its place is taken until it returns.
            let lookup = tokio::spawn(async move {
                let found = lookup.await;
                drop(place);
                found
            });
            lookup.await.ok()?.ok()?
        };
        match timeout_at(until, asked).await.ok().flatten() {
            Some(addr) => {
                self.learn(host, addr);
                Some(addr)
            }
            None => {
                let (mut all, now) = (self.known(), Instant::now());
                let known = all.get_mut(host).filter(|known| now < known.at + KEPT)?;
                if !std::mem::replace(&mut known.doubted, true) {
                    tracing::warn!(host, addr = %known.addr.ip(), "a BMC's name is not resolved now, its last address is used");
                }
                Some(known.addr)
            }
        }
    }

    fn learn(&self, host: &str, addr: SocketAddr) {
        let (mut known, now) = (self.known(), Instant::now());
        if known.len() >= MOST && !known.contains_key(host) {
            known.retain(|_, known| now < known.at + KEPT);
            if known.len() >= MOST {
                return;
            }
        }
        known.insert(host.to_owned(), Known { addr, at: now, doubted: false });
    }

    /// The map stays consistent even if a holder panicked: every change is one call.
    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For one lookup. The resolver itself waits 5 s for each of its servers, twice.
const PATIENCE: Duration = Duration::from_secs(8);
/// Lookups at a time: each is a thread.
const AT_ONCE: usize = 32;
/// How long an address counts that nobody has confirmed.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Names that are kept: more than any rack has.
const MOST: usize = 100_000;
/// Names of one address that are told.
const OF_ONE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn addr(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 0).into()
    }

    async fn fails() -> io::Result<Option<SocketAddr>> {
        Err(io::Error::other("no name server"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_not_resolved_now_is_where_it_was_for_a_day() {
        let names = Names::default();
        assert_eq!(names.resolve_by("a", fails()).await, None);
        assert_eq!(names.resolve_by("a", async { Ok(Some(addr(1))) }).await, Some(addr(1)));
        assert_eq!(names.resolve_by("a", async { Ok(Some(addr(2))) }).await, Some(addr(2)));
        assert_eq!(names.resolve_by("a", fails()).await, Some(addr(2)));
        assert_eq!(names.resolve_by("a", async { Ok(None) }).await, Some(addr(2)));
        assert_eq!(names.resolve_by("b", fails()).await, None);
        let begin = Instant::now();
        assert_eq!(names.resolve_by("a", std::future::pending()).await, Some(addr(2)));
        assert!(begin.elapsed() <= PATIENCE + Duration::from_millis(2));
        assert_eq!((names.at(addr(2).ip()), names.at(addr(1).ip())), (vec!["a".to_owned()], Vec::new()));
        tokio::time::advance(KEPT).await;
        assert_eq!(names.resolve_by("a", fails()).await, None);
    }

    /// A thread each, as long as the name server says nothing.
    #[tokio::test(start_paused = true)]
    async fn lookups_that_hang_are_few_and_keep_nobody_waiting_for_long() {
        let (names, begun) = (Names::default(), Arc::new(AtomicUsize::new(0)));
        let hangs = |_| {
            let begun = Arc::clone(&begun);
            names.resolve_by("a", async move {
                begun.fetch_add(1, Ordering::Relaxed);
                std::future::pending().await
            })
        };
        let begin = Instant::now();
        let seen = futures::future::join_all((0..AT_ONCE * 4).map(hangs)).await;
        assert!(seen.iter().all(Option::is_none));
        assert_eq!(begun.load(Ordering::Relaxed), AT_ONCE);
        assert!(begin.elapsed() <= PATIENCE + Duration::from_millis(2));
    }

    #[tokio::test]
    async fn the_hosts_file_is_asked() {
        let seen = Names::default().resolve("localhost").await;
        assert!(seen.is_some_and(|addr| addr.ip().is_loopback()), "{seen:?}");
    }
}
