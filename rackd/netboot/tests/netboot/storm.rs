//! A row of racks that powers on: a thousand machines at once, each as BIOS firmware does. An address, its boot program by
//! TFTP, an address again as iPXE, its script by HTTP. What is asserted is that each has its script, by the firmware's own
//! patience; `cargo xtask bench netboot` says how fast.

use std::{
    collections::{HashMap, HashSet},
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use dhcproto::{
    Decodable as _, Decoder, Encodable as _,
    v4::{DhcpOption, Flags, Message, MessageType},
};
use farrier_netboot::{Boot, BootEntry, BootTable, Config, KernelArgs, MacAddr, Segment};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, UdpSocket},
    sync::mpsc,
    task::JoinSet,
};

use crate::lab::{CLIENT_IP, Cable, HTTP_PORT, Running, SERVER_IP, entry, noise, segment, tool};

const MACHINES: u16 = 1000;
const PROGRAM: &str = "undionly.kpxe";
const PROGRAM_BYTES: usize = 20_000;

#[test]
fn a_thousand_machines_at_once_have_their_scripts() {
    let cable = Cable::addressed();
    for (namespace, link, ip) in [(&cable.server, "s0", SERVER_IP), (&cable.client, "c0", CLIENT_IP)] {
        namespace.sh(&format!("ip addr flush dev {link}; ip addr add {ip}/16 dev {link}"));
    }
    let addresses: String = (0..MACHINES).map(|n| format!("addr add {}/16 dev c0\n", address(n))).collect();
    let mut ip = cable.client.command(&tool("ip", "iproute2"));
    let mut ip = ip.args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    ip.stdin.take().unwrap().write_all(addresses.as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success());
    let mut table = BootTable::new();
    table.set_segments(vec![Segment { prefix: 16, ..segment() }]);
    for n in 0..MACHINES {
        let boot = Boot::Script {
            kernel: "vmlinuz".parse().unwrap(),
            initrd: "initrd".parse().unwrap(),
            args: KernelArgs::parse(&format!("farrier.token=of-{n}")).unwrap(),
        };
        let node = format!("node-{n}");
        table.publish(BootEntry {
            mac: mac(n),
            node: node.clone(),
            hostname: node,
            ip: address(n),
            ..entry(boot)
        });
    }
    let mut config = Config::new(HTTP_PORT);
    config.files.insert(PROGRAM.into(), noise(PROGRAM_BYTES).into());
    let server = Running::start(&cable.server, config, table);
    let failed: Vec<String> = cable.client.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let wire = Arc::new(Wire::open().await);
            let listener = tokio::spawn(Arc::clone(&wire).listen());
            let mut machines = JoinSet::new();
            for n in 0..MACHINES {
                machines.spawn(boot(Arc::clone(&wire), n));
            }
            let ended = machines.join_all().await;
            listener.abort();
            ended.into_iter().filter_map(Result::err).collect()
        })
    });
    assert!(
        failed.is_empty(),
        "{} of {MACHINES} do not boot: {:?}",
        failed.len(),
        &failed[..failed.len().min(5)]
    );
    let leases = server.netboot.leases();
    let addresses: HashSet<_> = leases.iter().map(|lease| (lease.mac, lease.ip)).collect();
    assert_eq!(addresses, (0..MACHINES).map(|n| (mac(n), address(n))).collect());
    // Nobody's token is forgotten, whoever fell behind of the events.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let given = async { tokio::time::timeout(Duration::from_secs(5), server.netboot.scripts_given()).await };
    assert_eq!(runtime.block_on(given).unwrap().len(), usize::from(MACHINES));
}

/// One machine, until it has its script.
async fn boot(wire: Arc<Wire>, n: u16) -> Result<(), String> {
    wire.lease(n, false).await?;
    program(n).await.map_err(|error| format!("machine {n}: TFTP: {error}"))?;
    wire.lease(n, true).await?;
    script(n).await.map_err(|error| format!("machine {n}: HTTP: {error}"))
}

/// The one socket on the client's port that all share; answers are told apart by their transaction.
struct Wire {
    socket: UdpSocket,
    waiting: Mutex<HashMap<u32, mpsc::UnboundedSender<Message>>>,
}

impl Wire {
    async fn open() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).await.unwrap();
        socket.set_broadcast(true).unwrap();
        let options = socket2::SockRef::from(&socket);
        options.bind_device(Some(b"c0")).unwrap();
        options.set_recv_buffer_size(4 << 20).unwrap();
        Self { socket, waiting: Mutex::default() }
    }

    async fn listen(self: Arc<Self>) {
        let mut buffer = vec![0; 2048];
        while let Ok(len) = self.socket.recv(&mut buffer).await {
            let message = Message::decode(&mut Decoder::new(&buffer[..len])).unwrap();
            if let Some(waits) = self.waiting.lock().unwrap().get(&message.xid()) {
                let _ = waits.send(message);
            }
        }
    }

    async fn lease(&self, n: u16, ipxe: bool) -> Result<(), String> {
        let (told, mut answers) = mpsc::unbounded_channel();
        let xid = u32::from(n) << 1 | u32::from(ipxe);
        self.waiting.lock().unwrap().insert(xid, told);
        for (kind, wanted) in
            [(MessageType::Discover, MessageType::Offer), (MessageType::Request, MessageType::Ack)]
        {
            let mut answered = false;
            // PXE 2.1 §2.2.1: 4, 8, 16 and 32 seconds.
            for wait in [4, 8, 16, 32] {
                let to = (Ipv4Addr::BROADCAST, 67);
                self.socket.send_to(&question(n, xid, kind, ipxe), to).await.map_err(|e| e.to_string())?;
                let answer = async {
                    while let Some(message) = answers.recv().await {
                        if message.opts().msg_type() == Some(wanted) && message.yiaddr() == address(n) {
                            return;
                        }
                    }
                };
                answered = tokio::time::timeout(Duration::from_secs(wait), answer).await.is_ok();
                if answered {
                    break;
                }
            }
            if !answered {
                return Err(format!("machine {n}: no answer to {kind:?}, as iPXE: {ipxe}"));
            }
        }
        Ok(())
    }
}

fn question(n: u16, xid: u32, kind: MessageType, ipxe: bool) -> Vec<u8> {
    let any = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(xid, any, any, any, any, &mac(n).0);
    message.set_flags(Flags::default().set_broadcast());
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ClassIdentifier(b"PXEClient:Arch:00000:UNDI:002001".to_vec()));
    if ipxe {
        options.insert(DhcpOption::UserClass(b"iPXE".to_vec()));
    }
    if kind == MessageType::Request {
        options.insert(DhcpOption::RequestedIpAddress(address(n)));
        options.insert(DhcpOption::ServerIdentifier(SERVER_IP.parse().unwrap()));
    }
    message.to_vec().unwrap()
}

/// The boot program in lock step, blocks of 1428.
async fn program(n: u16) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let socket = UdpSocket::bind((address(n), 0)).await.map_err(text)?;
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

async fn script(n: u16) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let socket = TcpSocket::new_v4().map_err(text)?;
    socket.bind((address(n), 0).into()).map_err(text)?;
    let mut stream =
        socket.connect(SocketAddr::new(SERVER_IP.parse().unwrap(), HTTP_PORT)).await.map_err(text)?;
    let request = format!(
        "GET /boot/{}.ipxe HTTP/1.1\r\nHost: {SERVER_IP}\r\nConnection: close\r\n\r\n",
        mac(n).hyphenated()
    );
    stream.write_all(request.as_bytes()).await.map_err(text)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(text)?;
    let own = answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("farrier.token=of-{n}\n"));
    let own = own || answer.contains(&format!("farrier.token=of-{n} "));
    if own { Ok(()) } else { Err(answer) }
}

fn mac(n: u16) -> MacAddr {
    let [a, b] = n.to_be_bytes();
    MacAddr([0x52, 0x54, 0, 0x78, a, b])
}

fn address(n: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 77, 8, 1).to_bits() + u32::from(n))
}
