//! One simulated BMC on one socket.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use farrier_ipmi::completion;
use farrier_ipmi::server::{Outcome, Request, Server};
use ipmi_rs_core::connection::NetFn;
use rand::RngCore;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::boot::BootOptions;
use super::chassis::press_and_log;
use super::commands::Kept;
use super::lan::Lan;
use super::sel::{EventLog, Sel};
use super::sol::Sol;
use super::watchdog::Watchdog;
use super::{Accounts, BmcConfig, Chassis, ChassisStatus, Faults, commands};

/// Longest datagram looked at, in bytes; IPMI messages are far shorter.
const MAX_DATAGRAM: usize = 2048;

/// Starts simulated BMCs.
pub struct BmcServer;

impl BmcServer {
    /// Runs a BMC on a bound socket until the handle is shut down or dropped.
    ///
    /// # Errors
    /// The socket has no local address.
    pub fn start(socket: UdpSocket, config: BmcConfig, chassis: Arc<dyn Chassis>) -> io::Result<BmcHandle> {
        let accounts = config.accounts();
        Self::start_with(socket, config, accounts, chassis)
    }

    /// With accounts that another protocol has too.
    ///
    /// # Errors
    /// The socket has no local address.
    pub fn start_with(
        socket: UdpSocket,
        config: BmcConfig,
        accounts: Accounts,
        chassis: Arc<dyn Chassis>,
    ) -> io::Result<BmcHandle> {
        let address = socket.local_addr()?;
        let (faults, faults_seen) = watch::channel(Faults::default());
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            protocol: Mutex::new(Server::new(config.server(accounts.users()))),
            accounts,
            log: config.log.clone(),
            datagrams: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            consoles: AtomicU64::new(0),
            log_ins: AtomicU64::new(0),
            faults: faults_seen,
            counted: AtomicU32::new(0),
            asked: AtomicU32::new(0),
            delayed: TaskTracker::new(),
            stop: stop.clone(),
        });
        let socket = Arc::new(socket);
        let sol = Sol::new(chassis.serial(), Arc::clone(&socket), address.port(), Arc::clone(&shared));
        let bmc = Bmc {
            kept: Kept {
                boot: BootOptions::new(config.boot_flags_timeout, config.boot_parameters_3_and_4),
                lan: Lan::new(&config, address),
                watchdog: Watchdog::default(),
            },
            socket,
            sol,
            config,
            chassis,
            deaf_until: None,
            pressed: None,
            last_log_in: [0; 4],
            accounts_seen: 0,
            shared: Arc::clone(&shared),
        };
        Ok(BmcHandle { address, shared, faults, stop, task: Some(tokio::spawn(bmc.run())) })
    }
}

/// A running BMC. Dropping the handle stops it; [`BmcHandle::shutdown`] also waits for it.
pub struct BmcHandle {
    address: SocketAddr,
    shared: Arc<Shared>,
    faults: watch::Sender<Faults>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl BmcHandle {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how it misbehaves, from the next datagram on.
    pub fn set_faults(&self, faults: Faults) {
        self.faults.send_replace(faults);
    }

    /// Forgets all sessions, as a restarting BMC does.
    pub fn forget_sessions(&self) {
        self.shared.protocol().forget_sessions();
    }

    /// Sessions now, half-open ones included.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.shared.protocol().session_count(Instant::now())
    }

    /// Puts a record into the event log (IPMI 2.0 Table 32-1); its first two bytes, the id, are the log's to give.
    pub fn log_event(&self, record: [u8; 16]) {
        self.shared.sel().add(record);
    }

    /// Datagrams received so far, lost ones included.
    #[must_use]
    pub fn datagrams(&self) -> u64 {
        self.shared.datagrams.load(Ordering::Relaxed)
    }

    /// Who is let in.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.shared.accounts
    }

    /// Cold resets so far.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.shared.restarts.load(Ordering::Relaxed)
    }

    /// Consoles (SOL) that were opened so far.
    #[must_use]
    pub fn consoles(&self) -> u64 {
        self.shared.consoles.load(Ordering::Relaxed)
    }

    /// Log-ins that came as far as their last message, as a real one writes them into its log.
    #[must_use]
    pub fn log_ins(&self) -> u64 {
        self.shared.log_ins.load(Ordering::Relaxed)
    }

    /// Stops it and waits for its task.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "simulated bmc ended badly");
        }
    }
}

impl Drop for BmcHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What the BMC and the bridge to its serial port use together.
pub(super) struct Shared {
    pub(super) accounts: Accounts,
    protocol: Mutex<Server>,
    log: EventLog,
    datagrams: AtomicU64,
    restarts: AtomicU64,
    /// Consoles that were opened so far.
    pub(super) consoles: AtomicU64,
    log_ins: AtomicU64,
    faults: watch::Receiver<Faults>,
    /// Datagrams in and out, for [`Faults::drop_every`].
    counted: AtomicU32,
    /// Commands in sessions, for [`Faults::busy_every`] and [`Faults::resets`].
    asked: AtomicU32,
    delayed: TaskTracker,
    stop: CancellationToken,
}

impl Shared {
    /// Never held across an await.
    pub(super) fn protocol(&self) -> MutexGuard<'_, Server> {
        self.protocol.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never held across an await.
    pub(super) fn sel(&self) -> MutexGuard<'_, Sel> {
        self.log.sel()
    }

    pub(super) fn log(&self) -> &EventLog {
        &self.log
    }

    /// What is wrong with the machine.
    pub(super) fn chassis_faults(&self) -> ChassisStatus {
        self.faults.borrow().chassis
    }

    /// See [`Faults::activates_once`].
    pub(super) fn activates_once(&self) -> bool {
        self.faults.borrow().activates_once
    }

    /// Whose board it is, if not the one it was made with.
    pub(super) fn other_guid(&self) -> Option<[u8; 16]> {
        self.faults.borrow().guid
    }

    fn is_lost(&self, faults: &Faults) -> bool {
        let counted = self.counted.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        faults.drop_every.is_some_and(|n| counted.is_multiple_of(n.get()))
    }

    /// Sends, or does what the faults say instead.
    pub(super) async fn send(&self, socket: &Arc<UdpSocket>, mut datagram: Vec<u8>, peer: SocketAddr) {
        let faults = self.faults.borrow().clone();
        if faults.silent || faults.mute || self.is_lost(&faults) {
            return;
        }
        if faults.garbled {
            datagram.iter_mut().for_each(|byte| *byte = !*byte);
        }
        if faults.mangled {
            mangle(&mut datagram);
        }
        if faults.delay.is_zero() {
            send(socket, &datagram, peer).await;
            return;
        }
        let (socket, stop, delay) = (Arc::clone(socket), self.stop.clone(), faults.delay);
        self.delayed.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(delay) => send(&socket, &datagram, peer).await,
            }
        });
    }
}

struct Bmc {
    socket: Arc<UdpSocket>,
    sol: Sol,
    config: BmcConfig,
    chassis: Arc<dyn Chassis>,
    kept: Kept,
    /// Version of the accounts that the protocol knows.
    accounts_seen: u64,
    /// Its last message may come more than once.
    last_log_in: [u8; 4],
    /// It restarts.
    deaf_until: Option<Instant>,
    /// What the last Chassis Control was answered: a client repeats one whose machine takes long, and means it once.
    pressed: Option<Pressed>,
    shared: Arc<Shared>,
}

/// A Chassis Control that was carried out.
struct Pressed {
    session_id: Option<u32>,
    rq_seq: u8,
    data: Vec<u8>,
    at: Instant,
    code: u8,
}

impl Bmc {
    async fn run(mut self) {
        let stop = self.shared.stop.clone();
        loop {
            let due = self.kept.watchdog.due().map(tokio::time::Instant::from_std);
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {
                    self.bite().await;
                }
                ready = self.socket.readable() => match ready.and_then(|()| receive(&self.socket)) {
                    Ok((datagram, peer)) => self.handle(&datagram, peer).await,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // An ICMP error of an earlier answer: that console is gone, others are not.
                    Err(error) => tracing::debug!(%error, "receive failed"),
                }
            }
        }
        self.shared.delayed.close();
        self.shared.delayed.wait().await;
    }

    async fn handle(&mut self, datagram: &[u8], peer: SocketAddr) {
        self.shared.datagrams.fetch_add(1, Ordering::Relaxed);
        let faults = self.shared.faults.borrow().clone();
        let deaf = self.deaf_until.is_some_and(|until| Instant::now() < until);
        let refused = faults.deaf_to_sha256 && asks_for_sha256(datagram);
        if faults.silent || deaf || refused || self.shared.is_lost(&faults) {
            return;
        }
        if let Some(session) = logs_in(datagram).filter(|session| *session != self.last_log_in) {
            self.last_log_in = session;
            self.shared.log_ins.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.accounts.asked();
        let version = self.shared.accounts.version();
        if version != self.accounts_seen {
            self.accounts_seen = version;
            self.shared.protocol().set_users(self.shared.accounts.users());
        }
        let mut restarts = false;
        let mut entropy = |bytes: &mut [u8]| rand::rng().fill_bytes(bytes);
        let outcome = self.shared.protocol().handle_datagram(Instant::now(), datagram, &mut entropy);
        let reply = match outcome {
            Outcome::Reply(reply) => Some(reply),
            Outcome::Ignored(why) => {
                tracing::debug!(%peer, why, "datagram ignored");
                None
            }
            Outcome::Sol(arrived) => {
                self.sol.packet(arrived, peer);
                None
            }
            Outcome::Request(mut request) => {
                let command = (request.message.netfn, request.message.cmd);
                let asked = self.shared.asked.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
                if let Some(resets) = faults.resets.filter(|resets| asked.is_multiple_of(resets.every.get()))
                {
                    self.restart(resets.deaf);
                    return;
                }
                let busy = faults.busy_every.filter(|(every, _)| asked.is_multiple_of(every.get()));
                if faults.lost.contains(&command) {
                    return;
                }
                if command == SET_BOOT_OPTIONS {
                    change_boot_flags(&mut request.message.data, &faults);
                }
                let refused = faults
                    .refuse
                    .iter()
                    .find(|r| r.netfn == request.message.netfn && r.cmd == request.message.cmd)
                    .map(|refusal| refusal.completion_code)
                    .or(busy.map(|(_, code)| code));
                let (code, mut data) = match (refused, self.sol.execute(&request, peer)) {
                    (Some(code), _) => (code, Vec::new()),
                    (None, Some(answer)) => answer,
                    (None, None) => self.execute(&request).await,
                };
                let (netfn, cmd) = command;
                if command == GET_SDR_REPOSITORY_INFO && data.len() >= 9 {
                    data.splice(5..9, faults.records_changed.to_le_bytes());
                }
                if let Some(cut) = faults.cut.iter().find(|cut| (cut.netfn, cut.cmd) == (netfn, cmd)) {
                    data.truncate(cut.keep);
                }
                restarts =
                    (NetFn::from(netfn), cmd, code) == (NetFn::App, commands::COLD_RESET, completion::OK);
                let mut entropy = |bytes: &mut [u8]| rand::rng().fill_bytes(bytes);
                let reply = self.shared.protocol().respond(&request, code, &data, &mut entropy);
                reply.filter(|_| !faults.unanswered.contains(&command))
            }
        };
        if let Some(reply) = reply {
            self.shared.send(&self.socket, reply, peer).await;
        }
        if restarts {
            self.restart(self.config.restart);
        }
        if self.config.moves {
            self.follow_address().await;
        }
    }

    /// Sessions stay: they are the BMC's, not its address's.
    async fn follow_address(&mut self) {
        let (Some(ip), Ok(here)) = (self.kept.lan.address(), self.socket.local_addr()) else { return };
        if here.ip() == ip {
            return;
        }
        match UdpSocket::bind((ip, here.port())).await {
            Ok(socket) => {
                self.socket = Arc::new(socket);
                self.sol.moved(Arc::clone(&self.socket));
            }
            Err(error) => tracing::warn!(%ip, %error, "the BMC stays where it is"),
        }
    }

    /// A command that is not about SOL; a repeated Chassis Control has its answer already.
    async fn execute(&mut self, request: &Request) -> commands::Answer {
        let message = &request.message;
        let is_control = (message.netfn, message.cmd) == CHASSIS_CONTROL;
        let again = self.pressed.as_ref().filter(|pressed| {
            is_control
                && (pressed.session_id, pressed.rq_seq) == (request.session_id, message.rq_seq)
                && pressed.data == message.data
                && pressed.at.elapsed() < SEQUENCE_EXPIRES
        });
        if let Some(pressed) = again {
            return (pressed.code, Vec::new());
        }
        let (kept, chassis) = (&mut self.kept, &*self.chassis);
        let answer = commands::execute(&self.config, kept, chassis, &self.shared, request).await;
        if is_control {
            let (session_id, rq_seq, data) = (request.session_id, message.rq_seq, message.data.clone());
            self.pressed = Some(Pressed { session_id, rq_seq, data, at: Instant::now(), code: answer.0 });
        }
        answer
    }

    /// The watchdog has run out.
    async fn bite(&mut self) {
        let Some(action) = self.kept.watchdog.expire() else { return };
        if let Err(error) = press_and_log(&*self.chassis, self.shared.log(), action).await {
            tracing::debug!(%error, "the watchdog's action");
        }
    }

    fn restart(&mut self, deaf: Duration) {
        self.shared.protocol().forget_sessions();
        self.shared.restarts.fetch_add(1, Ordering::Relaxed);
        self.deaf_until = Some(Instant::now() + deaf);
    }
}

/// One datagram, into no more memory than it has: thousands of BMCs wait at once.
fn receive(socket: &UdpSocket) -> io::Result<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; MAX_DATAGRAM];
    let (length, peer) = socket.try_recv_from(&mut buffer)?;
    Ok((buffer.get(..length).unwrap_or_default().to_vec(), peer))
}

/// Wrong, too short or too long, sometimes behind an intact header of a session.
fn mangle(datagram: &mut Vec<u8>) {
    let mut rng = rand::rng();
    let keep = datagram.len().min(16);
    match rng.next_u32() % 4 {
        0 => datagram.iter_mut().skip(keep).for_each(|byte| *byte ^= 0x5A),
        1 => datagram.truncate(keep),
        2 => datagram.extend([0xFF; 40]),
        _ => rng.fill_bytes(datagram),
    }
}

const CHASSIS_CONTROL: (u8, u8) = (0x00, 0x02);
/// After this another command may have the same sequence number: clients count them in 6 bits, and are done with one by then.
const SEQUENCE_EXPIRES: Duration = Duration::from_secs(5);
const SET_BOOT_OPTIONS: (u8, u8) = (0x00, 0x08);
const GET_SDR_REPOSITORY_INFO: (u8, u8) = (0x0A, 0x20);

/// "BIOS boot type" and "persistent" of boot flags (§28.12, parameter 5, data 1).
fn change_boot_flags(data: &mut [u8], faults: &Faults) {
    if let [parameter, flags, ..] = data
        && *parameter & 0x7F == 5
    {
        if faults.forgets_efi {
            *flags &= !0x20;
        }
        if faults.boots_for_ever {
            *flags |= 0x40;
        }
    }
}

/// The session of a RAKP Message 3 (payload type 14h, §13.22).
fn logs_in(datagram: &[u8]) -> Option<[u8; 4]> {
    datagram.get(5).filter(|kind| **kind == 0x14)?;
    datagram.get(20..24)?.try_into().ok()
}

/// Whether it is an Open Session Request (payload type 10h, §13.17) whose authentication algorithm is RAKP-HMAC-SHA256.
fn asks_for_sha256(datagram: &[u8]) -> bool {
    datagram.get(5) == Some(&0x10) && datagram.get(28) == Some(&3)
}

async fn send(socket: &UdpSocket, reply: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.send_to(reply, peer).await {
        tracing::debug!(%peer, %error, "send failed");
    }
}
