//! The shared socket and the actors behind it.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::address::BmcAddress;
use super::driver::IpmiBmc;
use super::link::Link;
use super::pins::Pins;
use super::sol::Sol;
use super::tuning::Tuning;
use super::wire::{Ear, Inbox, Wire};
use crate::actor::{self, Job, MAILBOX, forget_ended};
use crate::actors::{Kept, Way};
use crate::breaker::{Breaker, Breakers};
use crate::{Bmc, Secret};

/// Datagrams waiting for one actor while it has a question. It has one at a time, so nearly all of more than a few are rubbish;
/// room for some of that lets the true answer through a storm.
const INBOX: usize = 64;
/// Datagrams of one BMC that are taken within [`WINDOW`]: ten times what the quickest answers to one question after the other.
/// What floods beyond that costs a look at the table.
const MOST: u32 = 2000;
const WINDOW: Duration = Duration::from_millis(100);
/// Bytes of receive buffer asked for: thousands of answers may come while the task is not running.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Longest datagram taken, in bytes: a message of 255 bytes (IPMI 2.0 §13.8) with everything around it has fewer than 400.
const MAX_DATAGRAM: usize = 1024;
/// Datagrams taken in a row before other tasks have their turn.
const IN_A_ROW: u32 = 64;

/// All BMCs of a rack over one UDP socket per address family. Cheap to clone. When the last clone is
/// dropped the actors stop; [`IpmiHub::shutdown`] also waits until they have closed their sessions.
#[derive(Clone)]
pub struct IpmiHub {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    v4: Arc<UdpSocket>,
    /// Absent on hosts without IPv6.
    v6: Option<Arc<UdpSocket>>,
    actors: Arc<Mutex<HashMap<SocketAddr, Vec<Known>>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

struct Known {
    address: Arc<BmcAddress>,
    mailbox: mpsc::WeakSender<Job<Link>>,
    kept: Kept,
}

/// The account, its password, and the BMC's key.
type Account = (String, Secret, Option<Secret>);

fn account(address: &BmcAddress) -> Account {
    (address.user.clone(), address.password.clone(), address.kg.clone())
}

/// One way to write an address, so that equal ones are.
fn canonical(addr: SocketAddr) -> SocketAddr {
    let canonical = SocketAddr::new(addr.ip().to_canonical(), addr.port());
    match addr {
        // Keep the scope of link-local addresses.
        SocketAddr::V6(_) if canonical.is_ipv6() => addr,
        _ => canonical,
    }
}

/// What actors and receivers use together.
pub(crate) struct Shared {
    pub(crate) tuning: Tuning,
    pub(crate) opening: Semaphore,
    pub(super) pins: Arc<Pins>,
    breakers: Breakers<Account>,
    routes: Mutex<HashMap<SocketAddr, Vec<Route>>>,
    next_route: AtomicU64,
    /// Sessions that were opened.
    sessions: AtomicU64,
}

struct Route {
    id: u64,
    inbox: mpsc::Sender<Vec<u8>>,
    /// Whether anybody waits for something.
    ear: Ear,
    /// When the window began, and what came since.
    window: Instant,
    count: u32,
}

impl IpmiHub {
    /// Binds to any free port.
    ///
    /// # Errors
    /// No UDP socket can be had.
    pub async fn bind() -> io::Result<Self> {
        Self::bind_with(Tuning::default()).await
    }

    /// As [`IpmiHub::bind`], with other time-outs.
    ///
    /// # Errors
    /// No UDP socket can be had.
    pub async fn bind_with(tuning: Tuning) -> io::Result<Self> {
        Self::bind_knowing(tuning, Arc::default()).await
    }

    /// The same, where `pins` says what is known of the BMCs, and is told.
    ///
    /// # Errors
    /// No UDP socket can be had.
    pub async fn bind_knowing(tuning: Tuning, pins: Arc<Pins>) -> io::Result<Self> {
        let v4 = Arc::new(socket((Ipv4Addr::UNSPECIFIED, 0).into())?);
        let v6 = match socket((Ipv6Addr::UNSPECIFIED, 0).into()) {
            Ok(socket) => Some(Arc::new(socket)),
            Err(error) => {
                tracing::info!(%error, "no ipv6 here, bmcs are reached over ipv4 only");
                None
            }
        };
        let shared = Arc::new(Shared {
            opening: Semaphore::new(tuning.concurrent_opens),
            tuning,
            pins,
            breakers: Breakers::default(),
            routes: Mutex::default(),
            next_route: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
        });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        for socket in std::iter::once(&v4).chain(&v6) {
            tasks.spawn(receive(Arc::clone(socket), Arc::clone(&shared), stop.clone()));
        }
        let actors = Arc::default();
        Ok(Self { inner: Arc::new(Inner { shared, v4, v6, actors, stop, tasks }) })
    }

    /// A handle for one BMC. Nothing is sent yet. Handles with equal addresses share one actor, so
    /// calls through them wait for each other; other credentials make another actor.
    #[must_use]
    pub fn bmc(&self, address: BmcAddress) -> Bmc {
        let addr = canonical(address.addr);
        let address = Arc::new(BmcAddress { addr, ..address });
        let socket = if addr.is_ipv4() { Some(&self.inner.v4) } else { self.inner.v6.as_ref() };
        let (mailbox, kept) = socket.map(|socket| self.mailbox(&address, socket)).unzip();
        let kept: Kept = kept.unwrap_or_default();
        let driver = Arc::new(IpmiBmc::new(addr, mailbox, kept.clone()));
        let console = Sol {
            commands: driver.clone(),
            address,
            shared: Arc::clone(&self.inner.shared),
            socket: socket.cloned(),
            stop: self.inner.stop.clone(),
            tasks: self.inner.tasks.clone(),
        };
        Bmc::new("ipmi")
            .knowing(kept.absent)
            .with_power(driver.clone())
            .with_boot_device(driver.clone())
            .with_identity(driver.clone())
            .with_identify(driver.clone())
            .with_event_log(driver.clone())
            .with_sensors(driver.clone())
            .with_power_draw(driver.clone())
            .with_interrupt(driver.clone())
            .with_bmc_reset(driver.clone())
            .with_network(driver.clone())
            .with_network_settings(driver.clone())
            .with_watchdog(driver.clone())
            .with_accounts(driver.clone())
            .with_present(driver.clone())
            .with_inventory(driver)
            .with_console(Arc::new(console))
    }

    /// Somebody has given the account of this address its password, perhaps by another way than IPMI: that it was refused
    /// before counts no longer.
    pub fn forgive(&self, address: &BmcAddress) {
        let addr = canonical(address.addr);
        self.inner.shared.breakers.review(addr, &account(address), |breaker| {
            breaker.close();
            true
        });
    }

    /// Stops all actors, lets them close their sessions, and waits for them. Calls under way end
    /// with [`crate::BmcError::ShuttingDown`].
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    fn mailbox(&self, address: &Arc<BmcAddress>, socket: &Arc<UdpSocket>) -> Way<Link> {
        let mut actors = lock(&self.inner.actors);
        let known = actors.entry(address.addr).or_default();
        known.retain(|known| known.mailbox.strong_count() > 0);
        let found = known.iter().find(|known| known.address == *address);
        if let Some(way) = found.and_then(|known| Some((known.mailbox.upgrade()?, known.kept.clone()))) {
            return way;
        }
        let (mailbox, jobs) = mpsc::channel(MAILBOX);
        let kept = Kept::default();
        let (weak, shared_by_all) = (mailbox.downgrade(), kept.clone());
        known.push(Known { address: Arc::clone(address), mailbox: weak, kept: shared_by_all });
        let shared = Arc::clone(&self.inner.shared);
        let (route, inbox) = shared.add_route(address.addr);
        let wire = Wire::new(Arc::clone(socket), address.addr, inbox);
        let link = Box::new(Link::new(Arc::clone(address), Arc::clone(&shared), wire));
        let (addr, stop) = (address.addr, self.inner.stop.clone());
        let all = Arc::clone(&self.inner.actors);
        self.inner.tasks.spawn(async move {
            actor::run(link, jobs, stop).await;
            shared.remove_route(addr, route);
            forget_ended(&mut lock(&all), addr, |known| known.mailbox.strong_count() > 0);
        });
        (mailbox, kept)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    /// Of all who use this account.
    pub(super) fn breaker(&self, address: &BmcAddress) -> Arc<Breaker> {
        self.breakers.of(address.addr, account(address), || Breaker::new(self.tuning.breaker()))
    }

    /// Another number for each session.
    pub(super) fn session_number(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn add_route(&self, peer: SocketAddr) -> (u64, Inbox) {
        let (sender, datagrams) = mpsc::channel(INBOX);
        let id = self.next_route.fetch_add(1, Ordering::Relaxed);
        let ear = Ear::default();
        let route = Route { id, inbox: sender, ear: ear.clone(), window: Instant::now(), count: 0 };
        lock(&self.routes).entry(peer).or_default().push(route);
        (id, Inbox { datagrams, ear })
    }

    pub(super) fn remove_route(&self, peer: SocketAddr, id: u64) {
        let mut routes = lock(&self.routes);
        if let Some(list) = routes.get_mut(&peer) {
            list.retain(|route| route.id != id);
            if list.is_empty() {
                routes.remove(&peer);
            }
        }
    }

    /// Gives a datagram to every actor of that peer; session id, tag and rqSeq tell them whose it
    /// is. Nothing is kept for an actor that asks for nothing, nor of a flood. A full inbox loses it, as a full socket buffer
    /// would.
    fn dispatch(&self, peer: SocketAddr, datagram: &[u8], now: Instant) {
        let mut routes = lock(&self.routes);
        for route in routes.get_mut(&peer).into_iter().flatten() {
            if !route.ear.is_open() {
                continue;
            }
            if now.duration_since(route.window) >= WINDOW {
                (route.window, route.count) = (now, 0);
            }
            route.count = route.count.saturating_add(1);
            if route.count > MOST {
                if route.count == MOST + 1 {
                    tracing::debug!(bmc.addr = %peer, "a flood of datagrams, the rest of it is dropped");
                }
                continue;
            }
            if route.inbox.try_send(datagram.to_vec()).is_err() {
                tracing::debug!(bmc.addr = %peer, "inbox full, datagram dropped");
            }
        }
    }
}

async fn receive(socket: Arc<UdpSocket>, shared: Arc<Shared>, stop: CancellationToken) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    // Actors close their sessions after `stop`, so receiving goes on until nobody listens.
    loop {
        tokio::select! {
            () = stopped(&stop, &shared) => return,
            // Also an error: it is taken below.
            _ready = socket.readable() => {}
        }
        // The buffer is everybody's: whatever is in it is taken as fast as may be, so that one who fills it costs the others as
        // little of it as may be.
        let now = Instant::now();
        for taken in 1..=IN_A_ROW {
            if taken == IN_A_ROW {
                tokio::task::yield_now().await;
            }
            match socket.try_recv_from(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok((length, peer)) => shared.dispatch(peer, buffer.get(..length).unwrap_or_default(), now),
                // ICMP errors of other datagrams arrive here; the actor's time-out speaks for them.
                Err(error) => tracing::debug!(%error, "receive failed"),
            }
        }
    }
}

async fn stopped(stop: &CancellationToken, shared: &Shared) {
    stop.cancelled().await;
    while !lock(&shared.routes).is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn socket(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The kernel may cap it; a smaller buffer only means more retries under load.
    if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER) {
        tracing::debug!(%error, "receive buffer not enlarged");
    }
    socket.set_nonblocking(true)?;
    socket.bind(&local.into())?;
    UdpSocket::from_std(socket.into())
}

/// The maps stay consistent even if a holder panicked: every change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_kept_for_who_asks_nothing_and_little_of_a_flood() {
        let tuning = Tuning::default();
        let shared = Shared {
            opening: Semaphore::new(tuning.concurrent_opens),
            tuning,
            pins: Arc::default(),
            breakers: Breakers::default(),
            routes: Mutex::default(),
            next_route: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
        };
        let peer = ([192, 0, 2, 1], 623).into();
        let (_, inbox) = shared.add_route(peer);
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let mut wire = Wire::new(socket, peer, inbox);
        let now = Instant::now();
        let flood = || (0..MOST * 2).for_each(|_| shared.dispatch(peer, &[7; MAX_DATAGRAM], now));
        flood();
        assert_eq!(wire.kept(), 0);
        let mut listening = wire.listen();
        flood();
        assert_eq!(listening.kept(), INBOX);
        while listening.kept() > 0 {
            listening.receive().await;
        }
        flood();
        assert_eq!(listening.kept(), 0, "the window's are used up");
        shared.dispatch(peer, b"answer", now + WINDOW);
        assert_eq!(listening.receive().await.as_deref(), Some(&b"answer"[..]));
        shared.dispatch(peer, b"late", now + WINDOW);
        drop(listening);
        assert_eq!(wire.kept(), 0);
    }
}
