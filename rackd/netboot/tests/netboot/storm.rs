//! A row of racks that powers on: a thousand machines at once, each as BIOS firmware does. An address, its boot program by
//! TFTP, an address again as iPXE, its script by HTTP. What is asserted is that each has its script, by the firmware's own
//! patience; `cargo xtask bench netboot` says how fast.

use std::{
    collections::{HashMap, HashSet},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dhcproto::{
    Decodable as _, Decoder, Encodable as _,
    v4::{DhcpOption, Flags, Message, MessageType},
};
use farrier_netboot::{
    Boot, BootEntry, BootEvent, BootTable, Config, EventKind, KernelArgs, Leases, MacAddr, Pool, Ramdisk,
    Segment,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, UdpSocket},
    sync::mpsc,
    task::JoinSet,
};

use crate::lab::{CLIENT_IP, Cable, HTTP_PORT, Running, SERVER_IP, entry, noise, segment, tool};

const PROGRAM: &str = "undionly.kpxe";
const PROGRAM_BYTES: usize = 20_000;

/// What the machines are to the rack, and how they ask.
#[derive(Clone, Copy)]
struct Storm {
    /// Nobody knows them: each has an address of a pool, which is on disk before it is told.
    pool: bool,
    /// They do not ask for broadcasts: each is sent frames of its own.
    frames: bool,
    /// How often each says what it says, at once.
    times: usize,
    machines: u16,
}

#[test]
fn a_thousand_machines_at_once_have_their_scripts() {
    storm(Storm { pool: false, frames: false, times: 1, machines: 1000 });
}

/// The disk and the frames are what differs; a row of them is enough.
#[test]
fn machines_that_nobody_knows_and_that_take_frames_have_leases_on_disk_and_their_scripts() {
    storm(Storm { pool: true, frames: true, times: 1, machines: 300 });
}

/// More than is worked off at once: what is left out is what was said twice, and everybody is served.
#[test]
fn of_machines_that_say_everything_ten_times_each_has_its_script() {
    let metrics = storm(Storm { pool: true, frames: true, times: 10, machines: 300 });
    let counted = |sample: &str| {
        metrics.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let left_out = counted("farrier_netboot_shed_packets_total{by=\"said_again\"}");
    let told = counted("farrier_netboot_events_total{phase=\"dhcp\",event=\"ignored\"}");
    assert!(
        left_out >= 300 && (1..left_out).contains(&told),
        "each packet counts, and few are told: {metrics}"
    );
}

/// Whether it says that a packet was left out, since the same was said again.
fn said_again(event: &BootEvent) -> bool {
    matches!(event.kind, EventKind::Ignored { .. }) && event.detail.starts_with("said again before")
}

fn storm(storm: Storm) -> String {
    let machines = storm.machines;
    let cable = Cable::addressed();
    for (namespace, link, ip) in [(&cable.server, "s0", SERVER_IP), (&cable.client, "c0", CLIENT_IP)] {
        namespace.sh(&format!("ip addr flush dev {link}; ip addr add {ip}/16 dev {link}"));
    }
    let addresses: String = (0..machines).map(|n| format!("addr add {}/16 dev c0\n", address(n))).collect();
    let mut ip = cable.client.command(&tool("ip", "iproute2"));
    let mut ip = ip.args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    ip.stdin.take().unwrap().write_all(addresses.as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success());
    let boot = |n| {
        Boot::Script(
            Ramdisk {
                kernel: "vmlinuz".parse().unwrap(),
                initrd: "initrd".parse().unwrap(),
                args: KernelArgs::parse(&format!("farrier.token=of-{n}")).unwrap(),
            }
            .into(),
        )
    };
    let mut table = BootTable::new();
    let pool = Pool { first: address(0), last: address(machines - 1), boot: boot("all".to_owned()) };
    let pool = storm.pool.then_some(pool);
    // Who asks has all of them, here, and would answer for each.
    table.set_segments(vec![Segment { prefix: 16, pool, conflict_check: false, ..segment() }]);
    for n in (0..machines).filter(|_| !storm.pool) {
        let node = format!("node-{n}");
        table.publish(BootEntry {
            mac: mac(n),
            node: node.clone(),
            hostname: node,
            ip: address(n),
            ..entry(boot(n.to_string()))
        });
    }
    let mut config = Config::new(HTTP_PORT);
    config.files.insert(PROGRAM.into(), noise(PROGRAM_BYTES).into());
    config.leases = Leases::open(&cable.path("given")).unwrap();
    let server = Running::start(&cable.server, config, table);
    let failed: Vec<String> = cable.client.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let wire = Arc::new(Wire::open(storm).await);
            let (ends, over) = (Arc::new(AtomicBool::new(false)), Arc::clone(&wire));
            let listener = match storm.frames {
                false => Listener::Socket(tokio::spawn(over.listen())),
                true => Listener::Frames(ends.clone(), std::thread::spawn(move || over.hear_frames(&ends))),
            };
            let mut booting = JoinSet::new();
            for n in 0..machines {
                booting.spawn(self::boot(Arc::clone(&wire), n));
            }
            let ended = booting.join_all().await;
            listener.end();
            ended.into_iter().filter_map(Result::err).collect()
        })
    });
    assert!(
        failed.is_empty(),
        "{} of {machines} do not boot: {:?}\n{}",
        failed.len(),
        &failed[..failed.len().min(5)],
        server.netboot.metrics()
    );
    let leases = server.netboot.leases();
    let (macs, addresses): (HashSet<_>, HashSet<_>) =
        leases.iter().map(|lease| (lease.mac, lease.ip)).unzip();
    assert_eq!(macs, (0..machines).map(mac).collect());
    assert_eq!(addresses, (0..machines).map(address).collect());
    if storm.times > 1 {
        let again = |n| server.netboot.trace(mac(n)).iter().any(|event| said_again(event));
        assert!(
            (0..machines).any(again),
            "nobody is told that it was left out: {}",
            server.netboot.metrics()
        );
    }
    if storm.pool {
        // What is on disk at this moment: the running server is not asked.
        std::fs::copy(cable.path("given"), cable.path("copy")).unwrap();
        let mut config = Config::new(HTTP_PORT);
        config.leases = Leases::open(&cable.path("copy")).unwrap();
        let metrics = server.netboot.metrics();
        drop(server);
        let again = Running::start(&cable.server, config, BootTable::new());
        let kept: HashMap<_, _> =
            again.netboot.leases().into_iter().map(|lease| (lease.ip, lease.mac)).collect();
        assert_eq!(kept, leases.into_iter().map(|lease| (lease.ip, lease.mac)).collect());
        return metrics;
    }
    assert!(leases.iter().all(|lease| (0..machines).any(|n| (lease.mac, lease.ip) == (mac(n), address(n)))));
    // Nobody's token is forgotten, whoever fell behind of the events.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let given = async { tokio::time::timeout(Duration::from_secs(5), server.netboot.scripts_given()).await };
    assert_eq!(runtime.block_on(given).unwrap().len(), usize::from(machines));
    server.netboot.metrics()
}

/// Who hears the answers.
enum Listener {
    Socket(tokio::task::JoinHandle<()>),
    Frames(Arc<AtomicBool>, std::thread::JoinHandle<()>),
}

impl Listener {
    fn end(self) {
        match self {
            Self::Socket(task) => task.abort(),
            Self::Frames(ends, thread) => {
                ends.store(true, Ordering::Relaxed);
                thread.join().unwrap();
            }
        }
    }
}

/// One machine, until it has its script.
async fn boot(wire: Arc<Wire>, n: u16) -> Result<(), String> {
    let ip = wire.lease(n, false).await?;
    program(ip).await.map_err(|error| format!("machine {n}: TFTP: {error}"))?;
    let again = wire.lease(n, true).await?;
    if again != ip {
        return Err(format!("machine {n}: {ip}, and as iPXE {again}"));
    }
    script(n, ip, wire.storm.pool).await.map_err(|error| format!("machine {n}: HTTP: {error}"))
}

/// The one socket on the client's port that all share; answers are told apart by their transaction.
struct Wire {
    storm: Storm,
    socket: UdpSocket,
    waiting: Mutex<HashMap<u32, mpsc::UnboundedSender<Message>>>,
}

impl Wire {
    async fn open(storm: Storm) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).await.unwrap();
        socket.set_broadcast(true).unwrap();
        let options = socket2::SockRef::from(&socket);
        options.bind_device(Some(b"c0")).unwrap();
        options.set_recv_buffer_size(4 << 20).unwrap();
        Self { storm, socket, waiting: Mutex::default() }
    }

    async fn listen(self: Arc<Self>) {
        let mut buffer = vec![0; 2048];
        while let Ok(len) = self.socket.recv(&mut buffer).await {
            self.heard(&buffer[..len]);
        }
    }

    /// Frames to the machines' own hardware addresses, which no UDP socket here hears.
    fn hear_frames(&self, ends: &AtomicBool) {
        // ETH_P_IP, in network order.
        let protocol = socket2::Protocol::from(i32::from(0x0800_u16.to_be()));
        let socket =
            socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::RAW, Some(protocol)).unwrap();
        socket.set_recv_buffer_size(4 << 20).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut buffer = vec![0; 2048];
        while !ends.load(Ordering::Relaxed) {
            let Ok(len) = (&socket).read(&mut buffer) else { continue };
            let frame = &buffer[..len];
            let machine = frame.starts_with(&[0x52, 0x54, 0, 0x78]);
            if machine && frame[23] == 17 && frame[36..38] == 68_u16.to_be_bytes() {
                self.heard(&frame[42..]);
            }
        }
    }

    fn heard(&self, bytes: &[u8]) {
        let message = Message::decode(&mut Decoder::new(bytes)).unwrap();
        if let Some(waits) = self.waiting.lock().unwrap().get(&message.xid()) {
            let _ = waits.send(message);
        }
    }

    async fn lease(&self, n: u16, ipxe: bool) -> Result<Ipv4Addr, String> {
        let (told, mut answers) = mpsc::unbounded_channel();
        let xid = u32::from(n) << 1 | u32::from(ipxe);
        self.waiting.lock().unwrap().insert(xid, told);
        let mut ip = None;
        for (kind, wanted) in
            [(MessageType::Discover, MessageType::Offer), (MessageType::Request, MessageType::Ack)]
        {
            let mut answered = None;
            // PXE 2.1 §2.2.1: 4, 8, 16 and 32 seconds.
            for wait in [4, 8, 16, 32] {
                let to = (Ipv4Addr::BROADCAST, 67);
                let question = question(n, xid, kind, (ipxe, !self.storm.frames, ip));
                for _ in 0..self.storm.times {
                    self.socket.send_to(&question, to).await.map_err(|e| e.to_string())?;
                }
                let answer = async {
                    while let Some(message) = answers.recv().await {
                        let own = self.storm.pool || message.yiaddr() == address(n);
                        let same = ip.is_none_or(|ip| ip == message.yiaddr());
                        if message.opts().msg_type() == Some(wanted) && own && same {
                            return Some(message.yiaddr());
                        }
                    }
                    None
                };
                answered = tokio::time::timeout(Duration::from_secs(wait), answer).await.ok().flatten();
                if answered.is_some() {
                    break;
                }
            }
            ip = Some(answered.ok_or(format!("machine {n}: no answer to {kind:?}, as iPXE: {ipxe}"))?);
        }
        ip.ok_or("no address".to_owned())
    }
}

fn question(
    n: u16,
    xid: u32,
    kind: MessageType,
    (ipxe, broadcast, ip): (bool, bool, Option<Ipv4Addr>),
) -> Vec<u8> {
    let any = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(xid, any, any, any, any, &mac(n).0);
    if broadcast {
        message.set_flags(Flags::default().set_broadcast());
    }
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ClassIdentifier(b"PXEClient:Arch:00000:UNDI:002001".to_vec()));
    if ipxe {
        options.insert(DhcpOption::UserClass(b"iPXE".to_vec()));
    }
    if let Some(ip) = ip {
        options.insert(DhcpOption::RequestedIpAddress(ip));
        options.insert(DhcpOption::ServerIdentifier(SERVER_IP.parse().unwrap()));
    }
    message.to_vec().unwrap()
}

/// The boot program in lock step, blocks of 1428.
async fn program(ip: Ipv4Addr) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let socket = UdpSocket::bind((ip, 0)).await.map_err(text)?;
    let mut to = SocketAddr::new(SERVER_IP.parse().unwrap(), 69);
    let mut said = [b"\0\x01", PROGRAM.as_bytes(), b"\0octet\0blksize\x001428\0"].concat();
    let (mut got, mut wanted, mut tries, mut buffer) = (Vec::new(), 0_u16, 0, vec![0; 2048]);
    let mut say = true;
    loop {
        if say {
            socket.send_to(&said, to).await.map_err(text)?;
        }
        let received = tokio::time::timeout(Duration::from_secs(2), socket.recv_from(&mut buffer)).await;
        say = true;
        let Ok(received) = received else {
            tries += 1;
            if tries == 20 {
                return Err(format!("no answer to block {wanted}"));
            }
            continue;
        };
        let (len, from) = received.map_err(text)?;
        match &buffer[..len] {
            [0, 6, ..] if wanted == 0 => {}
            [0, 3, a, b, data @ ..] if wanted > 0 && u16::from_be_bytes([*a, *b]) == wanted => {
                got.extend_from_slice(data);
                if data.len() < 1428 {
                    socket.send_to(&[0, 4, *a, *b], from).await.map_err(text)?;
                    return if got == noise(PROGRAM_BYTES) { Ok(()) } else { Err("other bytes".to_owned()) };
                }
            }
            // What came twice.
            [0, 3 | 6, ..] => {
                say = false;
                continue;
            }
            other => return Err(format!("refused: {:?}", String::from_utf8_lossy(other))),
        }
        let [a, b] = wanted.to_be_bytes();
        (to, said, wanted) = (from, vec![0, 4, a, b], wanted + 1);
    }
}

async fn script(n: u16, ip: Ipv4Addr, pool: bool) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let socket = TcpSocket::new_v4().map_err(text)?;
    socket.bind((ip, 0).into()).map_err(text)?;
    let mut stream =
        socket.connect(SocketAddr::new(SERVER_IP.parse().unwrap(), HTTP_PORT)).await.map_err(text)?;
    let request = format!(
        "GET /boot/{}.ipxe HTTP/1.1\r\nHost: {SERVER_IP}\r\nConnection: close\r\n\r\n",
        mac(n).hyphenated()
    );
    stream.write_all(request.as_bytes()).await.map_err(text)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(text)?;
    let whose = if pool { "all".to_owned() } else { n.to_string() };
    let own = answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("farrier.token=of-{whose}\n"));
    let own = own || answer.contains(&format!("farrier.token=of-{whose} "));
    if own { Ok(()) } else { Err(answer) }
}

fn mac(n: u16) -> MacAddr {
    let [a, b] = n.to_be_bytes();
    MacAddr([0x52, 0x54, 0, 0x78, a, b])
}

fn address(n: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 77, 8, 1).to_bits() + u32::from(n))
}
