//! Writes [`golden`](crate::golden) files: tcpdump listens while a test boots something real, and what it wrote is sorted.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    net::IpAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use farrier_netboot::{
    Boot, BootEntry, BootFiles, Dhcp as Whose, Https, KernelArgs, MacAddr, Ramdisk, Segment, dhcp6::Request6,
};

use crate::golden::{Dhcp, Fetch, Said, Step, World, path, render, verify};
use crate::golden_http::{Piece, exchanges};
use crate::lab::{HTTP_PORT, Killed, Namespace, Running, SERVER_IP, entry, tool};

/// A capture under way. Nothing, unless `FARRIER_RECORD` is set.
pub(crate) struct Recording(Option<Capture>);

struct Capture {
    name: &'static str,
    file: PathBuf,
    dir: tempfile::TempDir,
    tcpdump: Killed,
}

impl Recording {
    /// From now on, at the server's interface.
    pub(crate) fn begin(name: &'static str, namespace: &Namespace, interface: &str) -> Self {
        if std::env::var_os("FARRIER_RECORD").is_none() {
            return Self(None);
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pcap");
        let mut tcpdump = namespace.command(&tool("tcpdump", "tcpdump"));
        tcpdump
            .args([
                "-i",
                interface,
                "--immediate-mode",
                "-U",
                "-s",
                "2048",
                "-B",
                "65536",
                "-Z",
                "root",
                "-w",
            ])
            .arg(&file);
        let what = format!("udp or tcp port {HTTP_PORT}");
        let mut tcpdump = Killed(tcpdump.arg(what).stderr(Stdio::piped()).spawn().unwrap());
        let said = BufReader::new(tcpdump.0.stderr.take().unwrap()).lines();
        assert!(said.map_while(Result::ok).any(|line| line.contains("listening on")));
        Self(Some(Capture { name, file, dir, tcpdump }))
    }

    /// What was said so far is written down, with what was served.
    pub(crate) fn end(self, server: &Running) {
        let Some(Capture { name, file, dir, tcpdump }) = self.0 else { return };
        drop(tcpdump);
        let table = server.netboot.table();
        let entry = table.entries().next().unwrap();
        let segment = table.segment(&entry.network).unwrap().as_ref().clone();
        let world = World { segment, entry: entry.as_ref().clone(), files: server.files.clone() };
        write(name, &world, &std::fs::read(&file).unwrap());
        drop(dir);
    }
}

/// A capture of tcpdump's as a golden file, with what was served.
fn write(name: &str, world: &World, pcap: &[u8]) {
    let (frames, pieces) = frames(pcap);
    let (dhcp, fetches) = sorted(&frames, &world.segment, world.entry.mac);
    let mut http = exchanges(&pieces);
    // Where addresses are another server's, whose script it is was seen on the wire, and is in no table.
    let in_table = |from: IpAddr| world.segment.dhcp == Whose::Ours || from.is_ipv6();
    http.retain(|exchange| in_table(exchange.from) || !exchange.path().starts_with("/boot/"));
    let said = Said { dhcp, fetches, http };
    // What tcpdump missed makes no golden file.
    verify(name, world, &said);
    std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
    std::fs::write(path(name), render(world, &said)).unwrap();
}

/// What `rackd/tests/alone/https_boot.rs` left of firmware over https, which needs rackd's TLS: it has run before, or there is
/// nothing to take in.
pub(crate) fn take_in() {
    let pcap = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ovmf-https.pcap");
    if std::env::var_os("FARRIER_RECORD").is_none() || !pcap.exists() {
        return;
    }
    let mut files = BootFiles::new(HTTP_PORT);
    files.https = Some(Https { port: 8443, name: None });
    files.by_architecture.retain(|(_, name)| Path::new("/usr/lib/ipxe").join(name).exists());
    let segment = Segment::new("lab", "br0", SERVER_IP.parse().unwrap(), 24);
    let (kernel, initrd) = ("k".parse().unwrap(), "k".parse().unwrap());
    let boot = Boot::Script(Ramdisk { kernel, initrd, args: KernelArgs::new() }.into());
    let entry =
        BootEntry { node: "web-1".into(), hostname: "web-1".into(), network: "lab".into(), ..entry(boot) };
    write("ovmf-https", &World { segment, entry, files }, &std::fs::read(&pcap).unwrap());
    std::fs::remove_file(pcap).unwrap();
}

struct Frame<'a> {
    to_mac: MacAddr,
    from: (IpAddr, u16),
    to: (IpAddr, u16),
    payload: &'a [u8],
}

/// UDP, and TCP of the HTTP server, over IPv4 or IPv6 over Ethernet, of a pcap file in this machine's byte order.
fn frames(pcap: &[u8]) -> (Vec<Frame<'_>>, Vec<Piece<'_>>) {
    let mut rest = &pcap[24..];
    let (mut out, mut pieces) = (Vec::new(), Vec::new());
    while let Some((header, more)) = rest.split_first_chunk::<16>() {
        let len = u32::from_ne_bytes(header[8..12].try_into().unwrap()) as usize;
        // One that is being written.
        let Some((frame, more)) = more.split_at_checked(len) else { break };
        rest = more;
        let ip = &frame[14..];
        let v4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&ip[at..at + 4]).unwrap());
        let v6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).unwrap());
        let long = |at: usize| usize::from(u16::from_be_bytes([ip[at], ip[at + 1]]));
        // Ethernet fills up small frames.
        let (from, to, header, protocol, end) = match ip[0] >> 4 {
            4 => (v4(12), v4(16), usize::from(ip[0] & 0xf) * 4, ip[9], long(2)),
            _ => (v6(8), v6(24), 40, ip[6], 40 + long(4)),
        };
        let udp = &ip[header..];
        let word = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
        if protocol == TCP {
            let from_client = word(2) == HTTP_PORT;
            pieces.push(Piece {
                client: if from_client { (from, word(0)) } else { (to, word(2)) },
                from_client,
                syn: udp[13] & 2 != 0,
                sequence: u32::from_be_bytes(udp[4..8].try_into().unwrap()),
                payload: &ip[..end.min(ip.len())][header + usize::from(udp[12] >> 4) * 4..],
            });
            continue;
        }
        out.push(Frame {
            to_mac: MacAddr(frame[..6].try_into().unwrap()),
            from: (from, word(0)),
            to: (to, word(2)),
            payload: &udp[8..usize::from(word(4))],
        });
    }
    (out, pieces)
}

const TCP: u8 = 6;

fn sorted(frames: &[Frame<'_>], segment: &Segment, mac: MacAddr) -> (Vec<Dhcp>, Vec<Fetch>) {
    let server = IpAddr::from(segment.server_ip);
    let six = segment.dhcp6.map(|six| IpAddr::from(six.server_ip));
    let (mut dhcp, mut fetches): (_, Vec<Fetch>) = (Vec::new(), Vec::new());
    let mut by_client: HashMap<(IpAddr, u16), usize> = HashMap::new();
    for frame in frames {
        match (frame.from.1, frame.to.1) {
            // Nobody answers by IPv6 where there is none.
            _ if six.is_none() && frame.from.0.is_ipv6() => {}
            (546, 547) => {
                let IpAddr::V6(from) = frame.from.0 else { continue };
                // Our own questions are from no machine.
                let request = Request6::parse(frame.payload);
                if request.is_ok_and(|request| request.macs(from).contains(&mac)) {
                    dhcp.push(Dhcp::Asked6(from, frame.payload.to_vec()));
                }
            }
            (547, 546) => {
                let IpAddr::V6(to) = frame.to.0 else { continue };
                dhcp.push(Dhcp::Told6(to, frame.payload.to_vec()));
            }
            // With a relay in between.
            (547, 547) => match (frame.from.0, frame.to.0) {
                (from, IpAddr::V6(to)) if Some(from) == six => {
                    dhcp.push(Dhcp::Told6(to, frame.payload.to_vec()));
                }
                (IpAddr::V6(from), _) => dhcp.push(Dhcp::Asked6(from, frame.payload.to_vec())),
                _ => {}
            },
            (_, 4011) => dhcp.push(Dhcp::AskedService(frame.payload.to_vec())),
            (4011, _) if frame.from.0 == server => dhcp.push(Dhcp::ToldService(frame.payload.to_vec())),
            // Our own questions after other servers have no answer.
            (68, 67) if frame.from.0 == server => {}
            (68, 67) => dhcp.push(Dhcp::Asked(frame.payload.to_vec())),
            // By a relay, or over its router: frames go to the router, and say nothing of whose they are.
            (67, 67) if frame.from.0 != server => dhcp.push(Dhcp::Asked(frame.payload.to_vec())),
            (67, 67 | 68) if segment.behind_relay.is_some() => {
                let IpAddr::V4(to) = frame.to.0 else { continue };
                // A relay may bring what its client said to us itself: each answer stands behind its question, by xid and giaddr.
                let its = |asked: &Dhcp| match asked {
                    Dhcp::Asked(bytes) => {
                        [4..8, 24..28].map(|at| &bytes[at]) == [4..8, 24..28].map(|at| &frame.payload[at])
                    }
                    _ => false,
                };
                let at = dhcp.iter().rposition(its).map_or(dhcp.len(), |at| at + 1);
                dhcp.insert(at, Dhcp::Told(mac, to, frame.payload.to_vec()));
            }
            (67, 68) if frame.from.0 == server => {
                let IpAddr::V4(to) = frame.to.0 else { continue };
                dhcp.push(Dhcp::Told(frame.to_mac, to, frame.payload.to_vec()));
            }
            // With one port for all, what is acknowledged comes there too.
            (_, 69) if frame.payload.starts_with(&[0, 1]) => {
                // Sent twice it is the same transfer.
                let again =
                    by_client.get(&frame.from).is_some_and(|at| fetches[*at].request == frame.payload);
                if !again {
                    by_client.insert(frame.from, fetches.len());
                    fetches.push(Fetch { request: frame.payload.to_vec(), size: None, steps: Vec::new() });
                }
            }
            _ => {
                let ours = frame.from.0 == server || Some(frame.from.0) == six;
                let client = if ours { frame.to } else { frame.from };
                let Some(fetch) = by_client.get(&client).and_then(|at| fetches.get_mut(*at)) else {
                    continue;
                };
                let step = match frame.payload {
                    [0, 3, high, low, data @ ..] if ours => {
                        Step::Data { block: u16::from_be_bytes([*high, *low]), len: data.len() }
                    }
                    told if ours => Step::Told(told.to_vec()),
                    said => Step::Said(said.to_vec()),
                };
                let since = fetch.steps.iter().rev().take_while(|step| !matches!(step, Step::Said(_)));
                // By the timer.
                if ours && since.into_iter().any(|before| *before == step) {
                    continue;
                }
                fetch.steps.push(step);
            }
        }
    }
    for fetch in &mut fetches {
        fetch.size = size(&fetch.steps);
    }
    (dhcp, fetches)
}

/// As the server named it, or as much as it sent.
fn size(steps: &[Step]) -> Option<u64> {
    let named = steps.iter().find_map(|step| match step {
        Step::Told(bytes) if bytes.starts_with(&[0, 6]) => {
            let words: Vec<&str> = bytes[2..]
                .split(|byte| *byte == 0)
                .filter_map(|word| std::str::from_utf8(word).ok())
                .collect();
            words.windows(2).find(|pair| pair[0] == "tsize").and_then(|pair| pair[1].parse().ok())
        }
        _ => None,
    });
    let mut sent: Vec<(u16, usize)> = Vec::new();
    for step in steps {
        if let Step::Data { block, len } = step
            && sent.iter().rev().take(256).all(|(before, _)| before != block)
        {
            sent.push((*block, *len));
        }
    }
    named.or_else(|| (!sent.is_empty()).then(|| sent.iter().map(|(_, len)| *len as u64).sum()))
}
