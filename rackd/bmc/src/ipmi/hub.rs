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
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::address::BmcAddress;
use super::driver::IpmiBmc;
use super::link::Link;
use super::sol::Sol;
use super::tuning::Tuning;
use super::wire::Wire;
use crate::actor::{self, Job, MAILBOX, forget_ended};
use crate::coalesce::Coalesced;
use crate::{Bmc, PowerState};

/// Datagrams waiting for one actor. It asks one question at a time, so nearly all of more than a few
/// are rubbish; room for some of that lets the true answer through a storm.
const INBOX: usize = 128;
/// Bytes of receive buffer asked for: thousands of answers may come while the task is not running.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Longest datagram taken, in bytes.
const MAX_DATAGRAM: usize = 2048;

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

/// The way to an actor, and the reads of the power that wait for it.
type Way = (mpsc::Sender<Job<Link>>, Arc<Coalesced<PowerState>>);

struct Known {
    address: Arc<BmcAddress>,
    mailbox: mpsc::WeakSender<Job<Link>>,
    reads: Arc<Coalesced<PowerState>>,
}

/// What actors and receivers use together.
pub(crate) struct Shared {
    pub(crate) tuning: Tuning,
    pub(crate) opening: Semaphore,
    routes: Mutex<HashMap<SocketAddr, Vec<Route>>>,
    next_route: AtomicU64,
}

struct Route {
    id: u64,
    inbox: mpsc::Sender<Vec<u8>>,
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
            routes: Mutex::default(),
            next_route: AtomicU64::new(0),
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
        let canonical = SocketAddr::new(address.addr.ip().to_canonical(), address.addr.port());
        let addr = match address.addr {
            // Keep the scope of link-local addresses.
            SocketAddr::V6(_) if canonical.is_ipv6() => address.addr,
            _ => canonical,
        };
        let address = Arc::new(BmcAddress { addr, ..address });
        let socket = if addr.is_ipv4() { Some(&self.inner.v4) } else { self.inner.v6.as_ref() };
        let (mailbox, reads) = socket.map(|socket| self.mailbox(&address, socket)).unzip();
        let driver = Arc::new(IpmiBmc::new(addr, mailbox, reads.unwrap_or_default()));
        let console = Sol {
            address,
            shared: Arc::clone(&self.inner.shared),
            socket: socket.cloned(),
            stop: self.inner.stop.clone(),
            tasks: self.inner.tasks.clone(),
        };
        Bmc::new("ipmi")
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
            .with_watchdog(driver.clone())
            .with_accounts(driver.clone())
            .with_present(driver.clone())
            .with_inventory(driver)
            .with_console(Arc::new(console))
    }

    /// Stops all actors, lets them close their sessions, and waits for them. Calls under way end
    /// with [`crate::BmcError::ShuttingDown`].
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    fn mailbox(&self, address: &Arc<BmcAddress>, socket: &Arc<UdpSocket>) -> Way {
        let mut actors = lock(&self.inner.actors);
        let known = actors.entry(address.addr).or_default();
        known.retain(|known| known.mailbox.strong_count() > 0);
        let found = known.iter().find(|known| known.address == *address);
        if let Some(way) = found.and_then(|known| Some((known.mailbox.upgrade()?, Arc::clone(&known.reads))))
        {
            return way;
        }
        let reads = Arc::default();
        let (mailbox, jobs) = mpsc::channel(MAILBOX);
        let kept = Arc::clone(&reads);
        known.push(Known { address: Arc::clone(address), mailbox: mailbox.downgrade(), reads: kept });
        let shared = Arc::clone(&self.inner.shared);
        let (route, inbox) = shared.add_route(address.addr);
        let wire = Wire::new(Arc::clone(socket), address.addr, inbox);
        let link = Link::new(Arc::clone(address), Arc::clone(&shared), wire);
        let (addr, stop) = (address.addr, self.inner.stop.clone());
        let all = Arc::clone(&self.inner.actors);
        self.inner.tasks.spawn(async move {
            actor::run(link, jobs, stop).await;
            shared.remove_route(addr, route);
            forget_ended(&mut lock(&all), addr, |known| known.mailbox.strong_count() > 0);
        });
        (mailbox, reads)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    pub(super) fn add_route(&self, peer: SocketAddr) -> (u64, mpsc::Receiver<Vec<u8>>) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let id = self.next_route.fetch_add(1, Ordering::Relaxed);
        lock(&self.routes).entry(peer).or_default().push(Route { id, inbox: sender });
        (id, inbox)
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
    /// is. A full inbox loses it, as a full socket buffer would.
    fn dispatch(&self, peer: SocketAddr, datagram: &[u8]) {
        let routes = lock(&self.routes);
        for route in routes.get(&peer).into_iter().flatten() {
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
            received = socket.recv_from(&mut buffer) => match received {
                Ok((length, peer)) => shared.dispatch(peer, buffer.get(..length).unwrap_or_default()),
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
