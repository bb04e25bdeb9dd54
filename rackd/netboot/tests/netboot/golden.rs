//! What real clients said and what they were told, kept as files in `golden/`: without a socket, a clock or root the same
//! questions come to the same answers, byte by byte.
//!
//! A file says in its first lines what was served; then come the datagrams of DHCP in their order, those of each TFTP transfer,
//! and the heads of HTTP (`golden_http.rs`). `FARRIER_RECORD=1 cargo nextest run -p farrier-netboot --test netboot` writes them anew, in the tests that boot
//! for real, beside which tcpdump listens. There are no times in them, what a timer sent again is left out, and of files only
//! the sizes are there: no secret of a boot.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::Ipv6Addr,
    path::PathBuf,
    time::Instant,
};

use farrier_netboot::{
    Boot, BootEntry, BootFiles, BootTable, Dhcp as Whose, Dhcp6, Https, KernelArgs, MacAddr, Ramdisk,
    Segment, SignedChain,
    dhcp::{Destination, Request, decide, decide_service},
    dhcp6::{Request6, decide6},
};
use farrier_tftp::{Limits, Packet, Transfer, Transmit};

use crate::golden_http::{Exchange, replay};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/netboot/golden")
}

pub(crate) fn path(name: &str) -> PathBuf {
    directory().join(format!("{name}.txt"))
}

/// Of all captures, in their order.
pub(crate) fn names() -> BTreeSet<String> {
    let files = std::fs::read_dir(directory()).unwrap().map(|file| file.unwrap().path());
    files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

/// What was served.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) segment: Segment,
    pub(crate) entry: BootEntry,
    pub(crate) files: BootFiles,
}

/// A datagram of DHCP.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Dhcp {
    Asked(Vec<u8>),
    /// With where it went: hardware and IP address.
    Told(MacAddr, std::net::Ipv4Addr, Vec<u8>),
    /// DHCPv6, and where it came from.
    Asked6(Ipv6Addr, Vec<u8>),
    /// With where it went.
    Told6(Ipv6Addr, Vec<u8>),
    /// The boot service beside another server, on port 4011 (PXE 2.1 §2.2.2).
    AskedService(Vec<u8>),
    /// To where it was asked from.
    ToldService(Vec<u8>),
}

/// Everything that was said.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) dhcp: Vec<Dhcp>,
    pub(crate) fetches: Vec<Fetch>,
    pub(crate) http: Vec<Exchange>,
}

/// One file that was asked for by TFTP.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) request: Vec<u8>,
    /// `None`: it was refused.
    pub(crate) size: Option<u64>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Told(Vec<u8>),
    Data { block: u16, len: usize },
    Said(Vec<u8>),
}

/// Blocks of one size in windows of one size, each acknowledged: most of every transfer.
struct Windows {
    first: u16,
    blocks: u16,
    len: usize,
    times: usize,
}

impl Windows {
    fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        (0..self.times).flat_map(move |time| {
            let first = self.first.wrapping_add(rolled(time).wrapping_mul(self.blocks));
            let data =
                (0..self.blocks).map(move |n| Step::Data { block: first.wrapping_add(n), len: self.len });
            data.chain([Step::Said(ack(first.wrapping_add(self.blocks - 1)))])
        })
    }

    /// As many as there are at the front.
    fn at(steps: &[Step]) -> Option<Self> {
        let Step::Data { block: first, len } = *steps.first()? else { return None };
        let blocks = steps.iter().take_while(|step| matches!(step, Step::Data { .. })).count();
        let blocks = u16::try_from(blocks).ok()?;
        let mut windows = Self { first, blocks, len, times: 0 };
        loop {
            let (at, from) = ((usize::from(blocks) + 1) * windows.times, windows.next());
            let next: Vec<_> = Self { first: from, blocks, len, times: 1 }.steps().collect();
            if steps.get(at..at + next.len()) != Some(&next[..]) {
                return (windows.times > 1).then_some(windows);
            }
            windows.times += 1;
        }
    }

    /// The block after all of them.
    fn next(&self) -> u16 {
        self.first.wrapping_add(rolled(self.times).wrapping_mul(self.blocks))
    }
}

/// Block numbers go from 65535 to 0.
fn rolled(times: usize) -> u16 {
    (times & 0xffff) as u16
}

fn ack(block: u16) -> Vec<u8> {
    [&[0, 4][..], &block.to_be_bytes()].concat()
}

/// The file's text.
pub(crate) fn render(world: &World, Said { dhcp, fetches, http }: &Said) -> String {
    let mut out = "# Written by FARRIER_RECORD=1, see golden.rs.\n".to_owned();
    let World { segment, entry, files } = world;
    let gateway = segment.gateway.map(|ip| ip.to_string()).unwrap_or_default();
    let dns: Vec<_> = segment.dns.iter().map(ToString::to_string).collect();
    let domain = segment.domain.as_deref().unwrap_or_default();
    let Segment { network, server_ip, prefix, lease_seconds, .. } = segment;
    let behind = segment.behind_relay.map(|subnet| format!(" behind={subnet}")).unwrap_or_default();
    let whose = match segment.dhcp {
        Whose::Ours => "",
        Whose::Proxy => " dhcp=proxy",
        Whose::Off => " dhcp=off",
    };
    let _ = writeln!(
        out,
        "segment {network} {server_ip} {prefix} {lease_seconds} gateway={gateway} dns={} domain={domain}{whose}{behind}",
        dns.join(",")
    );
    if let Some(Dhcp6 { server_ip, prefix, behind_relay }) = segment.dhcp6 {
        let behind = behind_relay.map(|subnet| format!(" behind={subnet}")).unwrap_or_default();
        let _ = writeln!(out, "segment6 {server_ip} {prefix}{behind}");
    }
    let boot = match &entry.boot {
        Boot::Script { .. } => "script",
        Boot::Signed { .. } => "signed",
        Boot::LocalDisk => "disk",
        Boot::San(_) | Boot::Wait | Boot::None => "none",
    };
    let _ = writeln!(out, "entry {} {} hostname={} boot={boot}", entry.mac, entry.ip, entry.hostname);
    let named: Vec<_> = files.by_architecture.iter().map(|(a, name)| format!("{a}:{name}")).collect();
    let signed = files.signed.iter().map(|chain| chain.shim).collect::<Vec<_>>().join(",");
    let https = files.https.as_ref().map(|https| format!("https={} ", https.port)).unwrap_or_default();
    let _ = writeln!(out, "files {} signed={signed} {https}{}", files.http_port, named.join(" "));
    if segment.dhcp6.is_some() {
        let sizes: Vec<_> = files.sizes.iter().map(|(name, size)| format!("{name}:{size}")).collect();
        let _ = writeln!(out, "sizes {}", sizes.join(" "));
    }
    for datagram in dhcp {
        let _ = match datagram {
            Dhcp::Asked(bytes) => writeln!(out, "dhcp < {}", hex(bytes)),
            Dhcp::Told(mac, ip, bytes) => writeln!(out, "dhcp > {mac} {ip} {}", hex(bytes)),
            Dhcp::Asked6(from, bytes) => writeln!(out, "dhcp6 < {from} {}", hex(bytes)),
            Dhcp::Told6(to, bytes) => writeln!(out, "dhcp6 > {to} {}", hex(bytes)),
            Dhcp::AskedService(bytes) => writeln!(out, "dhcp4011 < {}", hex(bytes)),
            Dhcp::ToldService(bytes) => writeln!(out, "dhcp4011 > {}", hex(bytes)),
        };
    }
    for fetch in fetches {
        let size = fetch.size.map_or_else(|| "refused".to_owned(), |size| size.to_string());
        let _ = writeln!(out, "tftp {size} {}", hex(&fetch.request));
        let mut steps = &fetch.steps[..];
        while let Some((step, rest)) = steps.split_first() {
            if let Some(Windows { first, blocks, len, times }) = Windows::at(steps) {
                let _ = writeln!(out, "  windows {first} {blocks} {len} {times}");
                steps = &steps[(usize::from(blocks) + 1) * times..];
                continue;
            }
            let _ = match step {
                Step::Told(bytes) => writeln!(out, "  > {}", hex(bytes)),
                Step::Data { block, len } => writeln!(out, "  > data {block} {len}"),
                Step::Said(bytes) => writeln!(out, "  < {}", hex(bytes)),
            };
            steps = rest;
        }
    }
    http.iter().for_each(|exchange| exchange.render(&mut out));
    out
}

fn parse(text: &str) -> (World, Said) {
    let (mut segment, mut entry, mut files) = (None::<Segment>, None, None::<BootFiles>);
    let Said { mut dhcp, mut fetches, mut http } = Said::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let value = |key: &str| words.iter().find_map(|word| word.strip_prefix(key)).unwrap_or_default();
        match words[..] {
            ["segment", network, server, prefix, lease, ..] => {
                let lease_seconds = lease.parse().unwrap();
                let domain = Some(value("domain=").to_owned()).filter(|domain| !domain.is_empty());
                let dns = value("dns=").split(',').filter_map(|ip| ip.parse().ok()).collect();
                let gateway = value("gateway=").parse().ok();
                let plain =
                    Segment::new(network, "recorded", server.parse().unwrap(), prefix.parse().unwrap());
                let dhcp = match value("dhcp=") {
                    "proxy" => Whose::Proxy,
                    "off" => Whose::Off,
                    _ => Whose::Ours,
                };
                let behind_relay = value("behind=").parse().ok();
                segment = Some(Segment { lease_seconds, domain, dns, gateway, dhcp, behind_relay, ..plain });
            }
            ["segment6", server, prefix, ..] => {
                let six = Dhcp6::new(server.parse().unwrap(), prefix.parse().unwrap());
                let behind_relay = value("behind=").parse().ok();
                segment.as_mut().unwrap().dhcp6 = Some(Dhcp6 { behind_relay, ..six });
            }
            ["sizes", ref named @ ..] => {
                let named = named.iter().filter_map(|word| word.split_once(':'));
                let sizes = named.map(|(name, size)| (name.to_owned(), size.parse().unwrap()));
                files.as_mut().unwrap().sizes = sizes.collect();
            }
            ["entry", mac, ip, hostname, boot] => {
                let (kernel, initrd) = ("vmlinuz".parse().unwrap(), "initrd".parse().unwrap());
                // Nothing of them is in an answer.
                let args = KernelArgs::new();
                let boot = match boot {
                    "boot=script" => Boot::Script(Ramdisk { kernel, initrd, args }.into()),
                    "boot=signed" => Boot::Signed(Ramdisk { kernel, initrd, args }.into()),
                    "boot=disk" => Boot::LocalDisk,
                    _ => Boot::None,
                };
                entry = Some(BootEntry {
                    mac: mac.parse().unwrap(),
                    node: "node-1".into(),
                    hostname: hostname.trim_start_matches("hostname=").into(),
                    ip: ip.parse().unwrap(),
                    network: segment.as_ref().unwrap().network.clone(),
                    boot,
                });
            }
            ["files", port, signed, ref named @ ..] => {
                let mut all = BootFiles::new(port.parse().unwrap());
                all.https = value("https=").parse().ok().map(|port| Https { port, name: None });
                let named = named.iter().filter_map(|word| word.split_once(':'));
                all.by_architecture = named.map(|(a, name)| (a.parse().unwrap(), name.to_owned())).collect();
                let chains = [SignedChain::X64, SignedChain::ARM64].into_iter();
                all.signed = chains.filter(|chain| signed.contains(chain.shim)).collect();
                files = Some(all);
            }
            ["dhcp", "<", bytes] => dhcp.push(Dhcp::Asked(unhex(bytes))),
            ["dhcp", ">", mac, ip, bytes] => {
                dhcp.push(Dhcp::Told(mac.parse().unwrap(), ip.parse().unwrap(), unhex(bytes)));
            }
            ["dhcp6", "<", from, bytes] => dhcp.push(Dhcp::Asked6(from.parse().unwrap(), unhex(bytes))),
            ["dhcp6", ">", to, bytes] => dhcp.push(Dhcp::Told6(to.parse().unwrap(), unhex(bytes))),
            ["dhcp4011", "<", bytes] => dhcp.push(Dhcp::AskedService(unhex(bytes))),
            ["dhcp4011", ">", bytes] => dhcp.push(Dhcp::ToldService(unhex(bytes))),
            ["tftp", size, request] => {
                fetches.push(Fetch { request: unhex(request), size: size.parse().ok(), steps: Vec::new() });
            }
            ["windows", first, blocks, len, times] => {
                let windows = Windows {
                    first: first.parse().unwrap(),
                    blocks: blocks.parse().unwrap(),
                    len: len.parse().unwrap(),
                    times: times.parse().unwrap(),
                };
                fetches.last_mut().unwrap().steps.extend(windows.steps());
            }
            [">", "data", block, len] => {
                let step = Step::Data { block: block.parse().unwrap(), len: len.parse().unwrap() };
                fetches.last_mut().unwrap().steps.push(step);
            }
            [">", bytes] => fetches.last_mut().unwrap().steps.push(Step::Told(unhex(bytes))),
            ["<", bytes] => fetches.last_mut().unwrap().steps.push(Step::Said(unhex(bytes))),
            ["http", from] => {
                http.push(Exchange { from: from.parse().unwrap(), asked: Vec::new(), told: Vec::new() });
            }
            ["<<", ..] => http.last_mut().unwrap().asked.push(line["  << ".len()..].to_owned()),
            [">>", ..] => http.last_mut().unwrap().told.push(line["  >> ".len()..].to_owned()),
            _ => panic!("{line}"),
        }
    }
    let world = World { segment: segment.unwrap(), entry: entry.unwrap(), files: files.unwrap() };
    (world, Said { dhcp, fetches, http })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// What would be answered now.
fn answers(world: &World, dhcp: &[Dhcp]) -> Vec<Dhcp> {
    let mut table = BootTable::new();
    table.set_segments(vec![world.segment.clone()]);
    table.publish(world.entry.clone());
    let everybody = (MacAddr([0xff; 6]), std::net::Ipv4Addr::BROADCAST);
    let mut out = Vec::new();
    for datagram in dhcp {
        let bytes = match datagram {
            Dhcp::Asked(bytes) => bytes,
            Dhcp::Asked6(from, bytes) => {
                out.push(Dhcp::Asked6(*from, bytes.clone()));
                let (request, six) = (Request6::parse(bytes).unwrap(), world.segment.dhcp6.unwrap());
                let decision = decide6(&world.segment, &six, &table, &world.files, &request, *from);
                out.extend(decision.reply.map(|reply| Dhcp::Told6(*from, reply)));
                continue;
            }
            Dhcp::AskedService(bytes) => {
                out.push(Dhcp::AskedService(bytes.clone()));
                let request = Request::parse(bytes).unwrap();
                let decision = decide_service(&world.segment, &table, &world.files, &request);
                out.extend(decision.reply.map(|reply| Dhcp::ToldService(reply.bytes().unwrap())));
                continue;
            }
            Dhcp::Told(..) | Dhcp::Told6(..) | Dhcp::ToldService(..) => continue,
        };
        out.push(Dhcp::Asked(bytes.clone()));
        let request = Request::parse(bytes).unwrap();
        let decision = decide(&world.segment, &table, &world.files, &request, None);
        let Some(reply) = decision.reply else { continue };
        let (mac, ip) = match reply.to {
            Destination::Frame(mac, ip) => (mac, ip),
            Destination::Client(ip) | Destination::Relay(ip) => (request.mac, ip),
            Destination::Broadcast => everybody,
        };
        out.push(Dhcp::Told(mac, ip, reply.bytes().unwrap()));
    }
    out
}

/// What would be sent now to who says this.
fn served(fetch: &Fetch, size: u64) -> Vec<Step> {
    let Ok(Packet::Read(request)) = Packet::parse(&fetch.request) else { panic!("{}", hex(&fetch.request)) };
    let now = Instant::now();
    let mut transfer = Transfer::accept(&request, size, &Limits::default(), now);
    let mut out = Vec::new();
    let send = |transfer: &mut Transfer, out: &mut Vec<Step>| {
        while let Some(transmit) = transfer.poll_transmit(1) {
            out.push(match transmit {
                Transmit::Bytes(bytes) => Step::Told(bytes),
                Transmit::Data { block, len, .. } => Step::Data { block, len },
            });
        }
    };
    send(&mut transfer, &mut out);
    for step in &fetch.steps {
        if let Step::Said(bytes) = step {
            out.push(step.clone());
            transfer.handle_datagram(bytes, now);
            send(&mut transfer, &mut out);
        }
    }
    out
}

/// The same questions come to the same answers.
pub(crate) fn verify(name: &str, world: &World, said: &Said) {
    let Said { dhcp, fetches, http } = said;
    let told = dhcp.iter().any(|datagram| matches!(datagram, Dhcp::Told(..) | Dhcp::Told6(..)));
    assert!(told || !fetches.is_empty() || !http.is_empty(), "{name}: nobody was told anything");
    let now = Said { dhcp: answers(world, dhcp), fetches: Vec::new(), http: replay(world, http) };
    let then =
        |text: String| text.lines().filter(|line| !is_tftp(line)).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(then(render(world, &now)), then(render(world, said)), "{name}");
    for fetch in fetches {
        match fetch.size {
            Some(size) => assert_eq!(served(fetch, size), fetch.steps, "{name}"),
            None => {
                let Some(Step::Told(bytes)) = fetch.steps.first() else { panic!("{name}: {fetch:?}") };
                assert!(matches!(Packet::parse(bytes), Ok(Packet::Error { .. })), "{name}");
            }
        }
    }
}

fn is_tftp(line: &str) -> bool {
    ["tftp ", "  > ", "  < ", "  windows "].iter().any(|begin| line.starts_with(begin))
}

#[test]
fn recorded_boots_are_answered_as_they_were() {
    crate::record::take_in();
    let mut replayed = BTreeMap::new();
    for name in names() {
        let text = std::fs::read_to_string(path(&name)).unwrap();
        let (world, said) = parse(&text);
        assert_eq!(render(&world, &said), text, "{name}: it is written as it is read");
        verify(&name, &world, &said);
        replayed.insert(name, said);
    }
    for (name, file) in [
        ("aavmf-pxe", "snponly-arm64.efi"),
        ("atftp", "ipxe.efi"),
        ("curl-tftp", "f300001"),
        ("ovmf-proxy", "snponly.efi"),
        ("ovmf-pxe", "snponly.efi"),
        ("ovmf-pxe6", "snponly.efi"),
        ("ovmf-secure-boot", "grubx64.efi"),
        ("seabios-undionly", "undionly.kpxe"),
        ("tftp-hpa", "big"),
    ] {
        let whole = |fetch: &Fetch| {
            let Ok(Packet::Read(request)) = Packet::parse(&fetch.request) else { return false };
            request.name() == Some(file) && fetch.size.is_some() && fetch.steps.len() > 2
        };
        assert!(replayed[name].fetches.iter().any(whole), "{name} has {file} by TFTP");
    }
    let script = "/boot/52-54-00-77-00-01.ipxe";
    for (name, asked, status) in [
        ("aavmf-http", "/firmware/snponly-arm64.efi", "200"),
        ("curl-http", "/artifacts/vmlinuz", "206"),
        ("ovmf-http", "/firmware/snponly.efi", "200"),
        ("ovmf-http", script, "200"),
        ("ovmf-https", script, "200"),
        ("ovmf-pxe", "/artifacts/vmlinuz", "200"),
        ("ovmf-pxe6", script, "200"),
        ("ovmf-pxe6", "/artifacts/vmlinuz", "200"),
        ("seabios-ipxe", "/artifacts/vmlinuz", "200"),
        ("seabios-off", "/artifacts/vmlinuz", "200"),
        ("seabios-proxy", "/artifacts/vmlinuz", "200"),
        ("undionly", script, "200"),
    ] {
        let given = |exchange: &Exchange| exchange.path() == asked && exchange.told[0] == status;
        assert!(replayed[name].http.iter().any(given), "{name} has {asked} by HTTP, {status}");
    }
    let service = |datagram: &Dhcp| matches!(datagram, Dhcp::ToldService(_));
    assert!(replayed["proxy-service"].dhcp.iter().any(service), "the boot service's answer is kept");
}

#[test]
fn windows_are_what_they_stand_for() {
    let windows = Windows { first: 65_534, blocks: 2, len: 512, times: 3 };
    let steps: Vec<_> = windows.steps().collect();
    assert_eq!(steps[0], Step::Data { block: 65_534, len: 512 });
    assert_eq!(steps[2], Step::Said(ack(65_535)));
    assert_eq!(steps[3], Step::Data { block: 0, len: 512 });
    let found = Windows::at(&[&steps[..], &[Step::Data { block: 4, len: 100 }]].concat()).unwrap();
    assert_eq!((found.first, found.blocks, found.len, found.times), (65_534, 2, 512, 3));
    assert!(Windows::at(&steps[..3]).is_none(), "one is no run");
    // Past the last number of all, as tftp-hpa's 65,600 blocks are.
    let long = Windows { first: 1, blocks: 1, len: 8, times: 65_600 };
    let steps: Vec<_> = long.steps().collect();
    let found = Windows::at(&steps).unwrap();
    assert_eq!(
        (steps[65_535 * 2].clone(), found.times, found.next()),
        (Step::Data { block: 0, len: 8 }, 65_600, 65)
    );
}
