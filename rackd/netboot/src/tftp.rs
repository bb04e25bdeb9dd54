//! The sockets of the TFTP server. The protocol is in `farrier-tftp`.

mod content;
mod line;
mod running;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use content::Content;
use farrier_tftp::{ErrorCode, Limits, Negotiated, Packet, ReadRequest, Transfer};
use line::Line;
use running::{Running, Troubles};
use tokio::{net::UdpSocket, sync::mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::dhcp::UnknownMachines;
use crate::inbound::{self, Lost};
use crate::unicast::{Unicast, Way};
use crate::{EventKind, MacAddr, Segment, given, grub, metrics::Shed, server::Shared, socket};

const SERVER_PORT: u16 = 69;
/// Transfers at a time: a hall of machines that fetch kernels at once, and those that they forgot. Each has a socket.
const MAX_TRANSFERS: usize = 2048;
/// From here on an address has its share at most; before, as many as it asks for: it may stand for a row of machines.
const CROWDED: usize = MAX_TRANSFERS / 4;
/// The share of one address: firmware asks for the size, leaves and comes back on another port.
const SHARE: usize = 8;
/// A client that asks once more for what it was just receiving was reset: no machine is back in less. What is heard
/// sooner was sent while the first answer was on its way.
const RESET: Duration = Duration::from_secs(1);
/// Datagrams of a client that wait for its transfer: ACKs, of which the last says all.
const INBOX: usize = 16;
/// Options of a request that are told, and bytes of their names and values: firmware asks for four.
const OPTIONS: usize = 8;
const OPTION: usize = 24;
/// And of the name of a file.
const NAME: usize = 64;
/// An ACK has four bytes; an ERROR has a text.
const MAX_ANSWER: usize = 1024;
/// Who is told of when all places are taken and nobody knows who asks: each may be made up.
const EVERYBODY: MacAddr = MacAddr([0; 6]);

/// The TFTP server of one segment.
pub(crate) struct Server {
    here: Arc<Here>,
    transfers: TaskTracker,
    /// Requests that the kernel had no room for.
    lost: Lost,
}

/// What each of its transfers needs of it.
struct Here {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    /// Ours, of either family.
    ip: IpAddr,
    socket: Arc<UdpSocket>,
    /// From the same port, to addresses that nobody is known to have. Only where all transfers share it.
    silent: Option<Arc<Unicast>>,
    limits: Limits,
}

impl Server {
    pub(crate) fn bind(shared: Arc<Shared>, segment: Arc<Segment>, ip: IpAddr) -> io::Result<Self> {
        let socket = Arc::new(socket::udp_on(&segment.interface, ip, SERVER_PORT)?);
        let silent = match (shared.config.tftp_single_port, ip) {
            (true, IpAddr::V4(_)) => Some(Arc::new(Unicast::bind(&segment, SERVER_PORT)?)),
            _ => None,
        };
        socket::widen(&socket);
        if let Err(error) = inbound::count_lost(&socket) {
            tracing::warn!(interface = segment.interface, %error, "packets that the kernel drops are not counted");
        }
        socket::widen_send(&socket);
        let mut limits = Limits::default();
        if ip.is_ipv6() {
            // Its header has 40 bytes where that of IPv4 has 20.
            limits.block_bytes -= 20;
        }
        let here = Here { shared, segment, ip, socket, silent, limits };
        Ok(Self { here: Arc::new(here), transfers: TaskTracker::new(), lost: Lost::default() })
    }

    /// Answers until `shutdown`, then waits for its transfers, which end at once.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut buffer = vec![0; 2048];
        loop {
            let received = tokio::select! {
                () = shutdown.cancelled() => break,
                received = inbound::next(&self.here.socket, &mut buffer) => received,
            };
            match received {
                Ok(received) => {
                    self.here.shared.events.counters.shed(Shed::KernelTftp, self.lost.more(&received));
                    self.request(buffer.get(..received.len).unwrap_or_default(), received.from, &shutdown);
                }
                Err(error) => {
                    tracing::debug!(interface = self.here.segment.interface, %error, "tftp receive failed");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
        self.transfers.close();
        self.transfers.wait().await;
    }

    fn request(&self, bytes: &[u8], from: SocketAddr, shutdown: &CancellationToken) {
        let here = &self.here;
        // Only a request opens a transfer; a stray ACK or ERROR gets silence, or two servers could talk for ever.
        let request = match Packet::parse(bytes) {
            Ok(Packet::Read(request)) => request,
            Ok(Packet::Write) => {
                return here.refuse(from, ErrorCode::AccessViolation, "read only", "a write request");
            }
            Ok(_) => return here.shared.tftp.deliver(from, bytes),
            Err(error) => {
                let who = here.shared.who(from.ip());
                here.shared.malformed(("tftp", &here.segment.interface), from, bytes, &error, who);
                return;
            }
        };
        if !request.is_octet() {
            let asked = wanted(&request);
            return here.refuse(from, ErrorCode::IllegalOperation, "only octet mode is served", &asked);
        }
        let name = request.name().unwrap_or("?");
        if grub::OPTIONAL.contains(&name) {
            return here.say(&farrier_tftp::error(ErrorCode::FileNotFound, "file not found"), from);
        }
        // The client sends its request again when the first answer is lost or late: one transfer is enough.
        let known = || here.shared.who(from.ip()).0.is_some();
        let permit = match here.shared.tftp.open(from, bytes, known, Instant::now()) {
            Ok(permit) => permit,
            Err(Busy::Again) => return,
            Err(Busy::Full) => return here.full(from),
        };
        let (here, request, shutdown) = (Arc::clone(here), bytes.to_vec(), shutdown.clone());
        self.transfers.spawn(async move {
            // A disk that does not answer keeps no other machine from its file.
            here.serve(&request, from, permit, &shutdown).await;
        });
    }
}

impl Here {
    /// One transfer, from the file's opening to its end.
    async fn serve(
        &self,
        request: &[u8],
        from: SocketAddr,
        mut permit: Permit,
        shutdown: &CancellationToken,
    ) {
        // It was one a moment ago.
        let Ok(Packet::Read(request)) = Packet::parse(request) else { return };
        let name = request.name().unwrap_or("?");
        // Silence when it ends: the machine asks whoever serves next.
        let Some(opened) = shutdown.run_until_cancelled(self.content(name, from.ip())).await else { return };
        let Some(content) = opened else {
            return self.refuse(from, ErrorCode::FileNotFound, "file not found", &wanted(&request));
        };
        match self.transfer(&request, name, content, from) {
            Ok(transfer) => transfer.run(&mut permit, shutdown).await,
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
        self.shared.events.counters.shed(Shed::TftpFull, 1);
        let (mac, node) = self.shared.who(from.ip());
        let who = mac.unwrap_or(EVERYBODY);
        if self.shared.tftp.told_full.first_in_a_while((who, true), Instant::now()) {
            let detail = format!("so many transfers are under way that {from} has to ask again");
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
        let line = match self.shared.config.tftp_single_port {
            true => match (self.way(from), &self.silent) {
                (Way::Silent | Way::Nobody, Some(silent)) => {
                    Line::Silent(Arc::clone(silent), Arc::clone(&self.socket))
                }
                _ => Line::Shared(Arc::clone(&self.socket)),
            },
            false => Line::Own(socket::udp_on(&self.segment.interface, self.ip, 0)?),
        };
        let transfer = Transfer::accept(request, content.size(), &self.limits, Instant::now());
        let (shared, name) = (Arc::clone(&self.shared), name.to_owned());
        let options = options(request, transfer.negotiated());
        let who = shared.who(from.ip());
        let (troubles, told) = (Troubles::default(), 0);
        Ok(Running { shared, line, transfer, name, options, content, from, who, troubles, told })
    }

    fn way(&self, to: SocketAddr) -> Way {
        match to {
            SocketAddr::V4(to) => Way::to(*to.ip(), &self.segment, &self.shared.ways, Instant::now()),
            SocketAddr::V6(_) => Way::Near,
        }
    }

    /// One datagram from the port that was asked, at once or not at all: whoever asks from an address that nobody has keeps
    /// nobody else waiting.
    fn say(&self, datagram: &[u8], to: SocketAddr) {
        let sent = match (self.way(to), &self.silent, to) {
            (way @ (Way::Silent | Way::Nobody), Some(silent), SocketAddr::V4(to)) => {
                silent.send(way, datagram, to)
            }
            _ => socket::send_now(&self.socket, datagram, to),
        };
        if let Err(error) = sent {
            self.shared.events.counters.unsent("tftp", &error);
        }
    }

    /// `asked`: what is refused, for people.
    fn refuse(&self, to: SocketAddr, code: ErrorCode, message: &str, asked: &str) {
        self.say(&farrier_tftp::error(code, message), to);
        let (mac, node) = self.shared.who(to.ip());
        // Without a machine to pin it on it would be a way to flood the events.
        if mac.is_some() {
            let detail = format!("error {} {message}: {asked} ({to})", code.number());
            self.shared.events.emit(mac, node.as_deref(), EventKind::TftpRefused, detail);
        } else {
            tracing::debug!(%to, message, asked, "tftp request refused");
        }
    }
}

/// A read request in words, printable whatever was asked.
fn wanted(request: &ReadRequest<'_>) -> String {
    let mut out = format!("{}, {} mode", printable(request.filename, NAME), printable(request.mode, OPTION));
    if !request.options.is_empty() {
        out.push_str(&format!(", {}", asked(request)));
    }
    out
}

/// Its options.
fn asked(request: &ReadRequest<'_>) -> String {
    let asked = request.options.iter().take(OPTIONS);
    let words =
        asked.map(|(name, value)| format!("{} {}", printable(name, OPTION), printable(value, OPTION)));
    words.collect::<Vec<_>>().join(" ")
}

fn printable(text: &[u8], most: usize) -> String {
    let shown = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
    text.iter().take(most).map(shown).collect()
}

/// What was asked for, and what of it was agreed: a window of one is why a file takes minutes. Printable whatever was asked.
fn options(request: &ReadRequest<'_>, agreed: &Negotiated) -> String {
    let asked = asked(request);
    let agreed: Vec<_> = agreed.accepted.iter().map(|(name, value)| format!("{name} {value}")).collect();
    match (asked.is_empty(), agreed.is_empty()) {
        (true, _) => "no options: blocks of 512 bytes, one at a time".to_owned(),
        (false, true) => format!("asked {asked}, agreed nothing"),
        (false, false) => format!("asked {asked}, agreed {}", agreed.join(" ")),
    }
}

/// Who is transferring, so that it stays bounded.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    places: Arc<Mutex<Places>>,
    told_full: UnknownMachines,
}

#[derive(Debug, Default)]
struct Places {
    clients: HashMap<IpAddr, Vec<Place>>,
    /// Numbers the places: one that was taken over is not given back by who had it before.
    last: u64,
}

/// One transfer.
#[derive(Debug)]
struct Place {
    number: u64,
    port: u16,
    /// As it came: what comes again is known by it.
    request: Box<[u8]>,
    /// When the client was last heard in it; before that nothing but the request has come.
    heard: Heard,
    replaced: CancellationToken,
    inbox: mpsc::Sender<Box<[u8]>>,
}

type Heard = Arc<Mutex<Option<Instant>>>;

#[derive(Debug)]
enum Busy {
    /// This port has one, of the same request.
    Again,
    /// All together have too many, or many and this address more than its share: it asks again when some have ended.
    Full,
}

#[derive(Debug)]
struct Permit {
    places: Arc<Mutex<Places>>,
    client: SocketAddr,
    number: u64,
    heard: Heard,
    /// The same port has begun anew.
    replaced: CancellationToken,
    /// What comes for it to the server's port.
    inbox: mpsc::Receiver<Box<[u8]>>,
}

impl Transfers {
    /// A place for a request. `known`: whether anything says that the address is a machine's; what nobody knows has
    /// one half of all places, so that forged senders keep no machine from booting.
    fn open(
        &self,
        client: SocketAddr,
        request: &[u8],
        known: impl FnOnce() -> bool,
        now: Instant,
    ) -> Result<Permit, Busy> {
        let mut places = lock(&self.places);
        let all = places.clients.values().map(Vec::len).sum::<usize>();
        let has = places.clients.get(&client.ip()).map_or(&[][..], Vec::as_slice);
        let old = has.iter().find(|place| place.port == client.port());
        if let Some(old) = old {
            // A ROM with one port for all its transfers, which was reset, or wants the next file after it left the last
            // one without a word. Only what was sent twice because no answer had come is the same request.
            let quiet = |at: Instant| now.saturating_duration_since(at) >= RESET;
            if *old.request == *request && !lock(&old.heard).is_some_and(quiet) {
                return Err(Busy::Again);
            }
        } else if all >= MAX_TRANSFERS
            || (all >= MAX_TRANSFERS / 2 && !known())
            || (all >= CROWDED && has.len() >= SHARE)
        {
            // An error would end the machine's boot; silence makes it ask again.
            return Err(Busy::Full);
        }
        places.last += 1;
        let (number, heard, replaced) = (places.last, Heard::default(), CancellationToken::new());
        let (sender, inbox) = mpsc::channel(INBOX);
        let place = Place {
            number,
            port: client.port(),
            request: request.into(),
            heard: Arc::clone(&heard),
            replaced: replaced.clone(),
            inbox: sender,
        };
        let has = places.clients.entry(client.ip()).or_default();
        has.retain(|old| {
            let other = old.port != client.port();
            if !other {
                old.replaced.cancel();
            }
            other
        });
        has.push(place);
        Ok(Permit { places: Arc::clone(&self.places), client, number, heard, replaced, inbox })
    }
}

impl Transfers {
    pub(crate) fn len(&self) -> usize {
        lock(&self.places).clients.values().map(Vec::len).sum()
    }

    /// Who takes files now, and when each was heard last in it.
    pub(crate) fn last(&self) -> Vec<(IpAddr, Instant)> {
        let places = lock(&self.places);
        let heard = |has: &[Place]| has.iter().filter_map(|place| *lock(&place.heard)).max();
        places.clients.iter().filter_map(|(client, has)| Some((*client, heard(has)?))).collect()
    }

    /// To the transfer of a port, if there is one. What it has no room for is lost, as a datagram is.
    fn deliver(&self, from: SocketAddr, bytes: &[u8]) {
        let places = lock(&self.places);
        let place = places.clients.get(&from.ip()).and_then(|has| has.iter().find(|p| p.port == from.port()));
        if let Some(place) = place
            && bytes.len() <= MAX_ANSWER
        {
            let _ = place.inbox.try_send(bytes.into());
        }
    }
}

impl Permit {
    fn heard(&self, now: Instant) {
        *lock(&self.heard) = Some(now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut places = lock(&self.places);
        if let Some(has) = places.clients.get_mut(&self.client.ip()) {
            has.retain(|place| place.number != self.number);
            if has.is_empty() {
                places.clients.remove(&self.client.ip());
            }
        }
    }
}

/// A poisoned lock still guards whole places.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: usize, port: u16) -> SocketAddr {
        let [a, b] = u16::try_from(n).unwrap().to_be_bytes();
        SocketAddr::from(([10, 0, a, b], port))
    }

    #[test]
    fn who_is_heard_in_a_transfer_is_known_while_it_lasts() {
        let (transfers, now) = (Transfers::default(), Instant::now());
        let permit = transfers.open(client(1, 1000), b"f", || true, now).unwrap();
        assert_eq!(transfers.last(), [], "it has only asked");
        let later = now + Duration::from_secs(60);
        permit.heard(later);
        assert_eq!(transfers.last(), [(client(1, 0).ip(), later)]);
        drop(permit);
        assert_eq!(transfers.last(), []);
    }

    #[test]
    fn an_address_may_stand_for_many_until_it_is_crowded() {
        let (transfers, now) = (Transfers::default(), Instant::now());
        let open = |client| transfers.open(client, b"f", || true, now);
        let row: Vec<_> = (0..CROWDED).map(|port| open(client(0, 1000 + port as u16))).collect();
        assert!(row.iter().all(Result::is_ok));
        assert!(matches!(open(client(0, 1000)), Err(Busy::Again)), "its request came twice");
        assert!(matches!(open(client(0, 999)), Err(Busy::Full)), "it has more than its share");
        let others: Vec<_> = (1..=MAX_TRANSFERS - CROWDED).map(|n| open(client(n, 1000))).collect();
        assert!(others.iter().all(Result::is_ok));
        assert!(matches!(open(client(9000, 1000)), Err(Busy::Full)), "it asks again");
        drop(others);
        assert!(open(client(9000, 1000)).is_ok());
    }

    #[test]
    fn forged_senders_leave_half_the_places_to_machines() {
        let (transfers, now) = (Transfers::default(), Instant::now());
        let forged: Vec<_> =
            (0..MAX_TRANSFERS).map(|n| transfers.open(client(n, 1000), b"f", || false, now)).collect();
        assert_eq!(forged.iter().filter(|permit| permit.is_ok()).count(), MAX_TRANSFERS / 2);
        assert!(transfers.open(client(9000, 1000), b"f", || true, now).is_ok());
        assert!(matches!(transfers.open(client(9001, 1000), b"f", || false, now), Err(Busy::Full)));
    }

    #[test]
    fn a_port_that_begins_anew_ends_what_it_had() {
        let (transfers, now) = (Transfers::default(), Instant::now());
        let open = |request: &[u8], now| transfers.open(client(1, 1000), request, || true, now);
        let first = open(b"undionly", now).unwrap();
        assert!(matches!(open(b"undionly", now + RESET * 9), Err(Busy::Again)), "nothing has come of it yet");
        first.heard(now);
        assert!(matches!(open(b"undionly", now), Err(Busy::Again)), "it was on its way while the answer was");
        let second = open(b"undionly", now + RESET).unwrap();
        assert!(first.replaced.is_cancelled() && !second.replaced.is_cancelled());
        drop(first);
        assert!(matches!(open(b"undionly", now + RESET), Err(Busy::Again)), "the place is the second one's");
        let third = open(b"snponly", now + RESET).unwrap();
        assert!(second.replaced.is_cancelled());
        drop((second, third));
        assert!(lock(&transfers.places).clients.is_empty());
    }
}
