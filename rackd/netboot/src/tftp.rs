//! The sockets of the TFTP server. The protocol is in `farrier-tftp`.

mod content;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use content::Content;
use farrier_tftp::{ErrorCode, Limits, Outcome, Packet, ReadRequest, Transfer, Transmit};
use tokio::net::UdpSocket;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{EventKind, MacAddr, Segment, given, grub, server::Shared, socket};
use farrier_model::Seldom;

const SERVER_PORT: u16 = 69;
/// Transfers at a time. A rack is some 50 machines; each has one, and a few that it forgot.
const MAX_TRANSFERS: usize = 512;
/// Transfers at a time of one client address: firmware asks for the size, leaves and comes back on another port.
const MAX_PER_CLIENT: usize = 8;
/// Who is told of when all places are taken: not one client more than another.
const EVERYBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The TFTP server of one segment.
pub(crate) struct Server {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    /// Ours, of either family.
    ip: IpAddr,
    socket: UdpSocket,
    transfers: TaskTracker,
    limits: Limits,
}

impl Server {
    pub(crate) fn bind(shared: Arc<Shared>, segment: Arc<Segment>, ip: IpAddr) -> io::Result<Self> {
        let socket = socket::udp_on(&segment.interface, ip, SERVER_PORT)?;
        Ok(Self { shared, segment, ip, socket, transfers: TaskTracker::new(), limits: Limits::default() })
    }

    /// Answers until `shutdown`, then waits for its transfers, which end at once.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut buffer = vec![0; 2048];
        loop {
            let received = tokio::select! {
                () = shutdown.cancelled() => break,
                received = self.socket.recv_from(&mut buffer) => received,
            };
            match received {
                Ok((len, from)) => {
                    self.request(buffer.get(..len).unwrap_or_default(), from, &shutdown).await;
                }
                Err(error) => {
                    tracing::debug!(interface = self.segment.interface, %error, "tftp receive failed");
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            }
        }
        self.transfers.close();
        self.transfers.wait().await;
    }

    async fn request(&self, bytes: &[u8], from: SocketAddr, shutdown: &CancellationToken) {
        // Only a request opens a transfer; a stray ACK or ERROR gets silence, or two servers could talk for ever.
        let request = match Packet::parse(bytes) {
            Ok(Packet::Read(request)) => request,
            Ok(Packet::Write) => {
                return self.refuse(from, ErrorCode::AccessViolation, "read only", "write request").await;
            }
            Ok(_) => return,
            Err(error) => {
                self.shared.malformed.tell("tftp", &self.segment.interface, from, bytes, &error);
                return;
            }
        };
        if !request.is_octet() {
            return self
                .refuse(from, ErrorCode::IllegalOperation, "only octet mode is served", "not octet mode")
                .await;
        }
        let name = request.name().unwrap_or("?");
        if grub::OPTIONAL.contains(&name) {
            let _ = self
                .socket
                .send_to(&farrier_tftp::error(ErrorCode::FileNotFound, "file not found"), from)
                .await;
            return;
        }
        let Some(content) = self.content(name, from.ip()).await else {
            return self.refuse(from, ErrorCode::FileNotFound, "file not found", name).await;
        };
        // The client sends its request again when the first answer is lost or late: one transfer is enough.
        let permit = match self.shared.tftp.open(from) {
            Ok(permit) => permit,
            Err(Busy::Again) => return,
            Err(Busy::Full) => return self.full(from),
            Err(Busy::Share) => {
                return self
                    .refuse(from, ErrorCode::NotDefined, "too many transfers", "too many transfers")
                    .await;
            }
        };
        match self.transfer(&request, name, content, from) {
            Ok(transfer) => {
                let shutdown = shutdown.clone();
                self.transfers.spawn(async move {
                    transfer.run(shutdown).await;
                    drop(permit);
                });
            }
            Err(error) => tracing::warn!(%from, %error, "tftp transfer has no socket"),
        }
    }

    /// A boot file, a kernel or an initrd, or the script of the machine that asks.
    async fn content(&self, name: &str, peer: IpAddr) -> Option<Content> {
        if let Some(file) = self.shared.config.files.get(name) {
            return Some(Content::Bytes(file.clone()));
        }
        let table = self.shared.table.load_full();
        if grub::NAMES.contains(&name) {
            let mac = self.shared.who(peer).0?;
            let given = given::to(&self.shared, &table, mac, peer)?;
            return Some(Content::Script(grub::render(&given.boot, given.server.ip())?.into()));
        }
        let artifact = table.artifact(&name.strip_prefix("artifacts/")?.parse().ok()?)?.clone();
        match Content::open(artifact).await {
            Ok(content) => Some(content),
            Err(error) => {
                tracing::error!(name, %error, "published artifact cannot be read");
                None
            }
        }
    }

    /// Without a word nobody would know why no machine boots.
    fn full(&self, from: SocketAddr) {
        if self.shared.tftp.told_full.due(EVERYBODY, Instant::now()) {
            let (mac, node) = self.shared.who(from.ip());
            let detail = format!("{MAX_TRANSFERS} transfers are under way: {from} has to ask again");
            self.shared.events.emit(mac, node.as_deref(), EventKind::TftpFull, detail);
        }
    }

    fn transfer(
        &self,
        request: &ReadRequest<'_>,
        name: &str,
        content: Content,
        from: SocketAddr,
    ) -> io::Result<Running> {
        let socket = socket::udp_on(&self.segment.interface, self.ip, 0)?;
        let transfer = Transfer::accept(request, content.size(), &self.limits, Instant::now());
        let (shared, name) = (Arc::clone(&self.shared), name.to_owned());
        Ok(Running { shared, socket, transfer, name, content, from })
    }

    async fn refuse(&self, to: SocketAddr, code: ErrorCode, message: &str, detail: &str) {
        let _ = self.socket.send_to(&farrier_tftp::error(code, message), to).await;
        let (mac, node) = self.shared.who(to.ip());
        // Without a machine to pin it on it would be a way to flood the events.
        if mac.is_some() {
            self.shared.events.emit(
                mac,
                node.as_deref(),
                EventKind::TftpRefused,
                format!("{message}: {detail}"),
            );
        } else {
            tracing::debug!(%to, message, detail, "tftp request refused");
        }
    }
}

struct Running {
    shared: Arc<Shared>,
    socket: UdpSocket,
    transfer: Transfer,
    name: String,
    content: Content,
    from: SocketAddr,
}

impl Running {
    async fn run(mut self, shutdown: CancellationToken) {
        let started = Instant::now();
        let (mac, node) = self.shared.who(self.from.ip());
        self.emit(mac, node.as_deref(), EventKind::TftpStart, String::new());
        let unreachable = self.drive(&shutdown).await.err();
        let (bytes, elapsed) = (self.transfer.bytes_acked(), started.elapsed());
        let (kind, detail) = match (self.transfer.outcome(), unreachable) {
            // What it has of it is a secret that it knows now.
            (Outcome::Complete | Outcome::Unconfirmed, _) if self.content.is_script() => {
                (EventKind::TftpScript, String::new())
            }
            (Outcome::Complete, _) => (EventKind::TftpDone { bytes, elapsed }, String::new()),
            // The last block went out and the client's port is closed: it has the file and runs it.
            (Outcome::Unconfirmed, _) => (
                EventKind::TftpDone { bytes: self.content.size(), elapsed },
                "last block not confirmed".into(),
            ),
            (Outcome::Probed, _) => {
                (EventKind::TftpDone { bytes: 0, elapsed }, "asked for the size only".into())
            }
            (Outcome::Aborted { code, message }, _) => {
                (EventKind::TftpFailed { bytes }, format!("client gave up: error {code} {message}"))
            }
            (Outcome::TimedOut, _) => (EventKind::TftpFailed { bytes }, "client fell silent".into()),
            (Outcome::Running, Some(error)) => (EventKind::TftpFailed { bytes }, error.to_string()),
            (Outcome::Running, None) => (EventKind::TftpFailed { bytes }, "shutting down".into()),
        };
        self.emit(mac, node.as_deref(), kind, detail);
    }

    /// Moves datagrams until the transfer ends, the client's port is closed, or `shutdown`.
    async fn drive(&mut self, shutdown: &CancellationToken) -> io::Result<()> {
        // A connected socket hears its client alone (RFC 1350 §4: the transfer id is the port), and hears when the
        // client is gone.
        self.socket.connect(self.from).await?;
        let mut datagram = Vec::with_capacity(1500);
        let mut buffer = [0; 1024];
        loop {
            while let Some(transmit) = self.transfer.poll_transmit() {
                datagram.clear();
                match transmit {
                    Transmit::Bytes(bytes) => datagram.extend_from_slice(&bytes),
                    Transmit::Data { block, offset, len } => {
                        datagram.extend_from_slice(&farrier_tftp::data_header(block));
                        datagram.extend_from_slice(self.content.at(offset, len).await?);
                    }
                }
                self.socket.send(&datagram).await?;
            }
            let Some(deadline) = self.transfer.poll_timeout() else { return Ok(()) };
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                received = self.socket.recv(&mut buffer) => {
                    self.transfer.handle_datagram(buffer.get(..received?).unwrap_or_default(), Instant::now());
                }
                () = tokio::time::sleep_until(deadline.into()) => self.transfer.handle_timeout(Instant::now()),
            }
        }
    }

    fn emit(&self, mac: Option<MacAddr>, node: Option<&str>, kind: EventKind, detail: String) {
        let detail = if detail.is_empty() { self.name.clone() } else { format!("{}: {detail}", self.name) };
        self.shared.events.emit(mac, node, kind, format!("{detail} ({})", self.from));
    }
}

/// Who is transferring, so that it stays bounded.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    clients: Arc<Mutex<HashMap<IpAddr, Vec<u16>>>>,
    told_full: Seldom,
}

#[derive(Debug)]
enum Busy {
    /// This port has one.
    Again,
    /// All together have too many: it asks again when some have ended.
    Full,
    /// This client has too many.
    Share,
}

struct Permit(Arc<Mutex<HashMap<IpAddr, Vec<u16>>>>, SocketAddr);

impl Transfers {
    fn open(&self, client: SocketAddr) -> Result<Permit, Busy> {
        let mut clients = lock(&self.clients);
        if clients.values().map(Vec::len).sum::<usize>() >= MAX_TRANSFERS {
            // An error would end the machine's boot; silence makes it ask again.
            return Err(Busy::Full);
        }
        let ports = clients.entry(client.ip()).or_default();
        if ports.contains(&client.port()) {
            return Err(Busy::Again);
        }
        if ports.len() >= MAX_PER_CLIENT {
            return Err(Busy::Share);
        }
        ports.push(client.port());
        Ok(Permit(Arc::clone(&self.clients), client))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut clients = lock(&self.0);
        if let Some(ports) = clients.get_mut(&self.1.ip()) {
            ports.retain(|port| *port != self.1.port());
            if ports.is_empty() {
                clients.remove(&self.1.ip());
            }
        }
    }
}

fn lock(clients: &Mutex<HashMap<IpAddr, Vec<u16>>>) -> MutexGuard<'_, HashMap<IpAddr, Vec<u16>>> {
    clients.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_waits_and_only_a_greedy_client_is_refused() {
        let transfers = Transfers::default();
        let client = |n: usize, port: u16| {
            let [a, b] = u16::try_from(n).unwrap().to_be_bytes();
            SocketAddr::from(([10, 0, a, b], port))
        };
        let greedy: Vec<_> =
            (0..MAX_PER_CLIENT).map(|port| transfers.open(client(0, 1000 + port as u16))).collect();
        assert!(greedy.iter().all(Result::is_ok));
        assert!(matches!(transfers.open(client(0, 1000)), Err(Busy::Again)), "its request came twice");
        assert!(matches!(transfers.open(client(0, 2000)), Err(Busy::Share)));
        let rest: Vec<_> =
            (1..=MAX_TRANSFERS - MAX_PER_CLIENT).map(|n| transfers.open(client(n, 1000))).collect();
        assert!(rest.iter().all(Result::is_ok));
        assert!(matches!(transfers.open(client(9000, 1000)), Err(Busy::Full)), "it asks again");
        drop(rest);
        assert!(transfers.open(client(9000, 1000)).is_ok());
    }
}
