//! A row of racks that powers on: a thousand machines at once, each as firmware does. DHCP, its boot program by TFTP, DHCP
//! again as iPXE, its script by HTTP.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use dhcproto::v4::{Decodable as _, Decoder, DhcpOption, Encodable as _, Flags, Message, MessageType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::mpsc;

use crate::place::{Place, SERVER};
use crate::servers::{self, SMALL};

/// Starts the server and, at the other end, this program again as all the machines.
pub(crate) fn run(place: &Place, rackd: &Path, machines: u16) -> anyhow::Result<()> {
    let files = place.path("files");
    std::fs::create_dir_all(&files)?;
    // As large as undionly.kpxe is.
    std::fs::write(files.join(SMALL), vec![0x5a; PROGRAM_BYTES])?;
    let mut addresses = String::new();
    let mut snapshot = String::from("machines:\n");
    for n in 0..machines {
        let (ip, mac) = (address(n), mac(n));
        writeln!(addresses, "addr add {ip}/16 dev c0")?;
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        writeln!(
            snapshot,
            "- {{ name: m{n}, mac: \"{mac}\", segment: lab, address: {ip}, boot: {{ linux: {{ kernel: k, initrd: k }} }} }}"
        )?;
    }
    let mut ip = place.client("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().context("ip")?;
    ip.stdin.take().context("no stdin")?.write_all(addresses.as_bytes())?;
    ensure!(ip.wait()?.success(), "ip -batch");
    let server = servers::rackd_with(place, rackd, ("udp", 67), &snapshot)?;
    let before = server.cpu()?;
    let program = std::env::current_exe()?;
    let mut command = place.client(&program.to_string_lossy());
    let done =
        command.args(["--rackd", "/", "--machines", &machines.to_string(), "--play-machines"]).output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for line in String::from_utf8_lossy(&done.stderr).lines().take(3) {
        eprintln!("{line}");
    }
    println!(
        "\n| machines at once | have their script | median s | 99 of 100 s | last s | asked twice | CPU s | RSS MiB |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|");
    let told = String::from_utf8_lossy(&done.stdout);
    let cpu = server.cpu()?.saturating_sub(before).as_secs_f64();
    println!("| {machines} | {} | {cpu:.1} | {:.0} |", told.trim(), server.rss_mib()?);
    Ok(())
}

/// All the machines, in this process.
pub(crate) fn play(machines: u16) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let wire = Arc::new(Wire::open().await?);
        let listener = tokio::spawn(Arc::clone(&wire).listen());
        let mut running = tokio::task::JoinSet::new();
        let begun = Instant::now();
        for n in 0..machines {
            let wire = Arc::clone(&wire);
            running.spawn(async move {
                let again = boot(&wire, n).await?;
                anyhow::Ok((begun.elapsed(), again))
            });
        }
        let (mut times, mut again) = (Vec::new(), 0);
        while let Some(ended) = running.join_next().await {
            match ended? {
                Ok((took, asked)) => {
                    times.push(took);
                    again += asked;
                }
                Err(error) => eprintln!("{error:#}"),
            }
        }
        listener.abort();
        times.sort();
        let at = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
        let show = |time: Option<&Duration>| time.map_or(f64::NAN, Duration::as_secs_f64);
        let (middle, most, last) = (show(at(50)), show(at(99)), show(times.last()));
        println!("{} | {middle:.1} | {most:.1} | {last:.1} | {again}", times.len());
        ensure!(
            times.len() == usize::from(machines),
            "{} of {machines} machines have their script",
            times.len()
        );
        Ok(())
    })
}

/// One machine, until it has its script; how often it had to ask again.
async fn boot(wire: &Wire, n: u16) -> anyhow::Result<u32> {
    let mut again = wire.lease(n, false).await?;
    again += program(n).await.with_context(|| format!("machine {n}: TFTP"))?;
    again += wire.lease(n, true).await?;
    script(n).await.with_context(|| format!("machine {n}: HTTP"))?;
    Ok(again)
}

/// The one socket on the client's port that all share; answers are told apart by their transaction.
struct Wire {
    socket: UdpSocket,
    waiting: Mutex<HashMap<u32, mpsc::UnboundedSender<Message>>>,
}

impl Wire {
    async fn open() -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).await?;
        socket.set_broadcast(true)?;
        let options = socket2::SockRef::from(&socket);
        options.bind_device(Some(b"c0"))?;
        options.set_recv_buffer_size(4 << 20)?;
        Ok(Self { socket, waiting: Mutex::default() })
    }

    async fn listen(self: Arc<Self>) {
        let mut buffer = vec![0; 2048];
        while let Ok(len) = self.socket.recv(&mut buffer).await {
            let bytes = buffer.get(..len).unwrap_or_default();
            let Ok(message) = Message::decode(&mut Decoder::new(bytes)) else { continue };
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(waits) = waiting.get(&message.xid()) {
                let _ = waits.send(message);
            }
        }
    }

    async fn lease(&self, n: u16, ipxe: bool) -> anyhow::Result<u32> {
        let (told, mut answers) = mpsc::unbounded_channel();
        let xid = u32::from(n) << 1 | u32::from(ipxe);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(xid, told);
        let mut again = 0;
        for kind in [MessageType::Discover, MessageType::Request] {
            let wanted = if kind == MessageType::Discover { MessageType::Offer } else { MessageType::Ack };
            let question = question(n, xid, kind, ipxe)?;
            let mut answered = false;
            // PXE 2.1 §2.2.1: 4, 8, 16 and 32 seconds.
            for wait in [4, 8, 16, 32] {
                self.socket.send_to(&question, (Ipv4Addr::BROADCAST, 67)).await?;
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
                again += 1;
            }
            ensure!(answered, "machine {n}: no answer to {kind:?}");
        }
        Ok(again)
    }
}

fn question(n: u16, xid: u32, kind: MessageType, ipxe: bool) -> anyhow::Result<Vec<u8>> {
    let any = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(xid, any, any, any, any, &mac(n));
    message.set_flags(Flags::default().set_broadcast());
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ClassIdentifier(b"PXEClient:Arch:00000:UNDI:002001".to_vec()));
    if ipxe {
        options.insert(DhcpOption::UserClass(b"iPXE".to_vec()));
    }
    if kind == MessageType::Request {
        options.insert(DhcpOption::RequestedIpAddress(address(n)));
        options.insert(DhcpOption::ServerIdentifier(SERVER.parse()?));
    }
    Ok(message.to_vec()?)
}

/// The boot program in lock step, blocks of 1428.
async fn program(n: u16) -> anyhow::Result<u32> {
    let socket = UdpSocket::bind((address(n), 0)).await?;
    let server: SocketAddr = format!("{SERVER}:69").parse()?;
    let request = [b"\0\x01", SMALL.as_bytes(), b"\0octet\0blksize\x001428\0"].concat();
    let (mut to, mut said, mut next, mut got, mut again) = (server, request, 0_u16, 0, 0);
    let mut buffer = vec![0; 2048];
    loop {
        socket.send_to(&said, to).await?;
        let answer = loop {
            match tokio::time::timeout(PATIENCE, socket.recv_from(&mut buffer)).await {
                Ok(received) => break received?,
                Err(_) => {
                    again += 1;
                    ensure!(again < 20, "no answer to block {next}");
                    socket.send_to(&said, to).await?;
                }
            }
        };
        let (len, from) = answer;
        match buffer.get(..len).unwrap_or_default() {
            [0, 6, ..] if next == 0 => {}
            [0, 3, a, b, data @ ..] if u16::from_be_bytes([*a, *b]) == next && next > 0 => {
                got += data.len();
                if data.len() < 1428 {
                    let [a, b] = next.to_be_bytes();
                    socket.send_to(&[0, 4, a, b], from).await?;
                    ensure!(got == PROGRAM_BYTES, "got {got} bytes");
                    return Ok(again);
                }
            }
            // A block that came twice.
            [0, 3, ..] => continue,
            other => bail!("refused: {:?}", String::from_utf8_lossy(other)),
        }
        let [a, b] = next.to_be_bytes();
        (to, said) = (from, vec![0, 4, a, b]);
        next += 1;
    }
}

async fn script(n: u16) -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((address(n), 0).into())?;
    let mut stream = socket.connect(format!("{SERVER}:8080").parse()?).await?;
    let mac = mac(n).map(|byte| format!("{byte:02x}")).join("-");
    let request = format!("GET /boot/{mac}.ipxe HTTP/1.1\r\nHost: {SERVER}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200") && answer.contains("#!ipxe"), "{answer}");
    Ok(())
}

fn mac(n: u16) -> [u8; 6] {
    let [a, b] = n.to_be_bytes();
    [0x52, 0x54, 0, 0x77, a, b]
}

fn address(n: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 77, 8, 1).to_bits() + u32::from(n))
}

const PROGRAM_BYTES: usize = 97 << 10;
/// Between two tries of a TFTP client.
const PATIENCE: Duration = Duration::from_secs(2);
