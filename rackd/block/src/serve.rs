//! Listening: portals, the threads that serve connections, and the orderly end.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::sync::Arc;

use farrier_model::{Share, Shares};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection;
use crate::host::Arrival;
use crate::targets::Targets;

/// A listening socket: one portal of every target.
#[derive(Debug)]
pub struct Portal(StdListener);

impl Portal {
    /// Port 0 takes a free one.
    pub fn bind(address: SocketAddr) -> io::Result<Portal> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // After a restart initiators come back at once, while their old connections are in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Portal(socket.into()))
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Serves until `shutdown`; then tells every initiator and ends.
///
/// Connections run on threads of their own, so that a slow disk slows no other work of the process.
pub async fn serve(portals: Vec<Portal>, targets: Targets, shutdown: CancellationToken) -> io::Result<()> {
    let addresses: Vec<SocketAddr> = portals.iter().map(Portal::local_addr).collect::<Result<_, _>>()?;
    let addresses = Arc::new(addresses);
    let workers = Workers::start(&targets, &shutdown)?;
    let gate = Arc::new(Gate::new(&targets));
    let mut accepting = JoinSet::new();
    for portal in portals {
        let listener = TcpListener::from_std(portal.0)?;
        let target_port = targets.next_port();
        let (addresses, workers, gate) = (Arc::clone(&addresses), workers.clone(), Arc::clone(&gate));
        let targets = targets.clone();
        accepting
            .spawn(async move { accept(listener, addresses, target_port, workers, gate, targets).await });
    }
    shutdown.cancelled().await;
    accepting.shutdown().await;
    workers.join().await;
    Ok(())
}

async fn accept(
    listener: TcpListener,
    portals: Arc<Vec<SocketAddr>>,
    target_port: u16,
    workers: Workers,
    gate: Arc<Gate>,
    targets: Targets,
) {
    let own = listener.local_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip());
    let mut turn = 0usize;
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: waiting lets some be closed.
                if targets.is_news(own) {
                    tracing::warn!(%error, "iscsi connections not accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(pass) = gate.enter(peer.ip()) else {
            if targets.is_news(peer.ip()) {
                tracing::warn!(%peer, "too many iscsi connections, one is closed");
            }
            continue;
        };
        let Ok(local) = stream.local_addr() else { continue };
        let arrival = Arrival { peer, local, portals: Arc::clone(&portals), target_port };
        let Ok(stream) = prepare(stream) else { continue };
        turn = turn.wrapping_add(1);
        if workers.give(turn, Job { stream, arrival, pass }).await.is_err() {
            return;
        }
    }
}

/// Options of a connection, and out of this runtime: another thread serves it.
fn prepare(stream: TcpStream) -> io::Result<StdStream> {
    stream.set_nodelay(true)?;
    // A peer that lost power is found even when nothing is to be said.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    stream.into_std()
}

/// A connection to serve.
struct Job {
    stream: StdStream,
    arrival: Arrival,
    pass: Pass,
}

/// Threads with a runtime each.
#[derive(Clone)]
struct Workers {
    queues: Arc<Vec<mpsc::Sender<Job>>>,
    served: TaskTracker,
}

impl Workers {
    fn start(targets: &Targets, shutdown: &CancellationToken) -> io::Result<Workers> {
        let available = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let count = targets.limits().threads.unwrap_or(available).max(1);
        let served = TaskTracker::new();
        let mut queues = Vec::new();
        for number in 0..count {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(BLOCKING_THREADS)
                .build()?;
            let (targets, shutdown, served) = (targets.clone(), shutdown.clone(), served.clone());
            std::thread::Builder::new()
                .name(format!("iscsi-{number}"))
                .spawn(move || runtime.block_on(work(receiver, targets, shutdown, served)))?;
            queues.push(sender);
        }
        Ok(Workers { queues: Arc::new(queues), served })
    }

    async fn give(&self, turn: usize, job: Job) -> Result<(), ()> {
        let queue = self.queues.get(turn % self.queues.len().max(1)).ok_or(())?;
        queue.send(job).await.map_err(|_| ())
    }

    /// Until every connection is over. They heard of the shutdown themselves.
    async fn join(self) {
        drop(self.queues);
        self.served.close();
        self.served.wait().await;
    }
}

async fn work(
    mut jobs: mpsc::Receiver<Job>,
    targets: Targets,
    shutdown: CancellationToken,
    served: TaskTracker,
) {
    let own = TaskTracker::new();
    while let Some(Job { stream, arrival, pass }) = jobs.recv().await {
        let (targets, shutdown) = (targets.clone(), shutdown.clone());
        let task = async move {
            let stream = match TcpStream::from_std(stream) {
                Ok(stream) => stream,
                Err(error) => return tracing::warn!(%error, "iscsi connection lost"),
            };
            let peer = arrival.peer;
            let Pass { connection, login } = pass;
            let end = connection::run(stream, arrival, targets, login, shutdown).await;
            tracing::debug!(%peer, reason = %end, "iscsi connection over");
            drop(connection);
        };
        tokio::spawn(own.track_future(served.track_future(task)));
    }
    own.close();
    own.wait().await;
}

/// Counts connections.
struct Gate {
    connections: Arc<Semaphore>,
    addresses: Shares<IpAddr>,
    logins: Shares<IpAddr>,
}

/// A place among the connections, and one among those that have not logged in.
struct Pass {
    connection: (OwnedSemaphorePermit, Share<IpAddr>),
    login: Share<IpAddr>,
}

impl Gate {
    fn new(targets: &Targets) -> Gate {
        let limits = targets.limits();
        Gate {
            connections: Arc::new(Semaphore::new(limits.connections)),
            addresses: Shares::new(limits.connections / 2, limits.connections_per_address),
            logins: Shares::new(limits.logins, limits.logins_per_address),
        }
    }

    fn enter(&self, address: IpAddr) -> Option<Pass> {
        let place = Arc::clone(&self.connections).try_acquire_owned().ok()?;
        let connection = (place, self.addresses.take(address)?);
        Some(Pass { connection, login: self.logins.take(address)? })
    }
}

/// Connections that wait to be accepted: a rack that starts all at once.
const BACKLOG: i32 = 256;
/// Connections that wait for a thread.
const QUEUE: usize = 64;
/// Beyond this the memory bus is the limit, not the processors.
const MAX_THREADS: usize = 4;
/// Operations that wait for a disk, of one thread's connections: of many addresses, none of which may take them all
/// ([`Limits::operations_per_address`](crate::Limits)).
const BLOCKING_THREADS: usize = 256;
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
const KEEPALIVE: std::time::Duration = std::time::Duration::from_secs(60);
const KEEPALIVE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(20);
