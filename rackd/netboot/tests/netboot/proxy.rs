//! Beside dnsmasq, which gives the addresses: we say what to boot, to firmware alone.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use dhcproto::{
    Decodable as _, Decoder, Encodable as _,
    v4::{Architecture, DhcpOption, Flags, Message, MessageType, OptionCode},
};
use farrier_netboot::{
    Boot, BootEntry, BootEvent, BootTable, Config, Dhcp, EventKind, KernelArgs, MacAddr, Ramdisk, Segment,
};

use crate::dhcp_clients::{script, told};
use crate::foreign::{THEIRS, dnsmasq};
use crate::lab::{Cable, HTTP_PORT, Running, SERVER_IP, entry, segment, text};
use crate::record::Recording;
use crate::relay::{Routed, far};

/// The machine's interface, beside dnsmasq's on the same parent.
const MACHINE: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 2]);
const NAME: &str = "52-54-00-77-00-02";

fn table() -> BootTable {
    let boot = Boot::Script(
        Ramdisk {
            kernel: "vmlinuz".parse().unwrap(),
            initrd: "initrd".parse().unwrap(),
            args: KernelArgs::new(),
        }
        .into(),
    );
    let mut table = BootTable::new();
    table.set_segments(vec![Segment { dhcp: Dhcp::Proxy, ..segment() }]);
    table.publish(BootEntry { mac: MACHINE, ..entry(boot) });
    table
}

/// A packet as BIOS firmware writes it.
fn firmware(kind: MessageType, has: Ipv4Addr) -> Vec<u8> {
    let zero = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(0x1234_5678, has, zero, zero, zero, &MACHINE.0);
    message.set_flags(Flags::default().set_broadcast());
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ClassIdentifier(b"PXEClient:Arch:00000:UNDI:002001".to_vec()));
    options.insert(DhcpOption::ClientSystemArchitecture(Architecture(0)));
    options.insert(DhcpOption::ClientMachineIdentifier([vec![0], vec![0xab; 16]].concat()));
    message.to_vec().unwrap()
}

/// The answers to a packet until `enough` of them, or until half a minute is over.
fn answers(socket: &UdpSocket, to: SocketAddr, packet: &[u8], enough: usize) -> Vec<Message> {
    let begun = Instant::now();
    let mut heard: Vec<Message> = Vec::new();
    while heard.len() < enough && begun.elapsed() < Duration::from_secs(30) {
        socket.send_to(packet, to).unwrap();
        let mut buffer = [0; 1500];
        while let Ok(len) = socket.recv(&mut buffer) {
            let message = Message::decode(&mut Decoder::new(&buffer[..len])).unwrap();
            let server = |m: &Message| m.opts().get(OptionCode::ServerIdentifier).cloned();
            if message.xid() == 0x1234_5678 && !heard.iter().any(|m| server(m) == server(&message)) {
                heard.push(message);
            }
        }
    }
    heard
}

/// Where firmware hears answers.
fn client(interface: &str) -> UdpSocket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.bind_device(Some(interface.as_bytes())).unwrap();
    socket.bind(&SocketAddr::from(([0, 0, 0, 0], 68)).into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    UdpSocket::from(socket)
}

fn file(message: &Message) -> &str {
    let file = message.opts().get(OptionCode::BootfileName);
    let Some(DhcpOption::BootfileName(name)) = file else { return "" };
    std::str::from_utf8(name).unwrap()
}

#[test]
fn dnsmasq_gives_the_address_and_we_the_boot_file_on_both_ports() {
    let cable = Cable::new();
    let _theirs = dnsmasq(&cable);
    let mut config = Config::new(HTTP_PORT);
    config.files.insert("undionly.kpxe".into(), vec![0; 600].into());
    let server = Running::start(&cable.server, config, table());
    let recording = Recording::begin("proxy-service", &cable.server, "s0");
    cable
        .client
        .sh(&format!("ip link add m0 link c0 address {MACHINE} type macvlan mode bridge; ip link set m0 up"));

    // A system gets its address from dnsmasq and no word from us.
    let hook = script(&cable);
    let args = ["-f", "-q", "-n", "-t", "30", "-T", "1", "-i", "m0", "-s", &hook];
    let output = cable.client.client(60, "udhcpc", "udhcpc", &args);
    assert!(output.status.success(), "{}", text(&output));
    let told = told(&cable);
    let word = |key: &str| told.lines().rev().find_map(|line| line.strip_prefix(key).map(str::to_owned));
    assert_eq!(word("serverid="), Some(THEIRS.to_owned()));
    let ip: Ipv4Addr = word("ip=").unwrap().parse().unwrap();
    // That it asked is told: systems are not our business.
    let trace = server.netboot.trace(MACHINE);
    let ignored = |event: &BootEvent| matches!(event.kind, EventKind::Ignored { .. });
    assert!(trace.len() >= 2 && trace.iter().all(|event| ignored(event)), "{trace:#?}");

    // Its script goes to the address that it was heard to take, and to no other.
    cable.client.sh(&format!("ip addr add {ip}/24 dev m0; ip addr add 10.77.0.201/24 dev m0"));
    let url = format!("http://{SERVER_IP}:{HTTP_PORT}/boot/{NAME}.ipxe");
    let curl = |from: &str| cable.client.client(60, "curl", "curl", &["-sf", "--interface", from, &url]);
    let given = curl(&ip.to_string());
    assert!(text(&given).contains("kernel --name kernel"), "{}", text(&given));
    assert!(!curl("10.77.0.201").status.success());

    // Firmware hears both servers: one address, one boot file.
    let (discover, request) =
        (firmware(MessageType::Discover, Ipv4Addr::UNSPECIFIED), firmware(MessageType::Request, ip));
    let (offers, acks) = cable.client.inside(|| {
        let socket = client("m0");
        let offers = answers(&socket, ([255, 255, 255, 255], 67).into(), &discover, 2);
        let service = SocketAddr::new(SERVER_IP.parse().unwrap(), 4011);
        (offers, answers(&socket, service, &request, 1))
    });
    recording.end(&server);
    let ours = |m: &&Message| m.yiaddr().is_unspecified();
    assert_eq!(offers.len(), 2, "{offers:#?}");
    let offer = offers.iter().find(ours).unwrap();
    assert_eq!((offer.opts().msg_type(), file(offer)), (Some(MessageType::Offer), "undionly.kpxe"));
    assert_eq!(offer.siaddr().to_string(), SERVER_IP);
    for nothing in [OptionCode::AddressLeaseTime, OptionCode::SubnetMask, OptionCode::Router] {
        assert_eq!(offer.opts().get(nothing), None, "that is the other server's to say");
    }
    assert!(offers.iter().any(|m| m.yiaddr().to_string().starts_with("10.77.0.15")), "{offers:#?}");
    assert_eq!((acks.len(), acks[0].opts().msg_type()), (1, Some(MessageType::Ack)));
    assert_eq!((file(&acks[0]), acks[0].ciaddr()), ("undionly.kpxe", ip));
    let kinds: Vec<_> = server.netboot.trace(MACHINE).iter().map(|event| event.kind.clone()).collect();
    for kind in
        [EventKind::HttpScript, EventKind::Discover, EventKind::Offer, EventKind::Request, EventKind::Ack]
    {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
}

/// dhcrelay asks both servers. There is no ARP: which address the machine took is known by what the relay brings.
#[test]
fn behind_a_relay_the_script_goes_to_the_address_that_the_machine_took_from_dnsmasq() {
    let routed = Routed::beside(&[
        "--dhcp-range=10.79.0.150,10.79.0.159,255.255.255.0,1h",
        "--dhcp-option=option:router,10.79.0.1",
    ]);
    let (machine, hook) = (&routed.far.client, script(&routed.far));
    machine.sh(&format!("ip link set c0 down; ip link set c0 address {MACHINE}; ip link set c0 up"));
    let mut table = table();
    let here = table.entries_of(MACHINE)[0].as_ref().clone();
    let theirs = BootEntry { network: "far".into(), ip: "10.79.0.50".parse().unwrap(), ..here };
    table.set_segments(vec![segment(), Segment { dhcp: Dhcp::Proxy, ..far() }]);
    table.unpublish_mac(MACHINE);
    table.publish(theirs);
    let mut config = Config::new(HTTP_PORT);
    config.files.insert("undionly.kpxe".into(), vec![0; 600].into());
    let mut server = Running::start(&routed.near.server, config, table);

    let args = ["-f", "-q", "-n", "-t", "30", "-T", "1", "-i", "c0", "-s", &hook];
    let output = machine.client(60, "udhcpc", "udhcpc", &args);
    assert!(output.status.success(), "{}", text(&output));
    let told = told(&routed.far);
    let word = |key: &str| told.lines().rev().find_map(|line| line.strip_prefix(key).map(str::to_owned));
    assert_eq!(word("serverid="), Some(THEIRS.to_owned()));
    let ip: Ipv4Addr = word("ip=").unwrap().parse().unwrap();
    machine.sh(&format!(
        "ip addr add {ip}/24 dev c0; ip addr add 10.79.0.201/24 dev c0; ip route add default via 10.79.0.1"
    ));
    let url = format!("http://{SERVER_IP}:{HTTP_PORT}/boot/{NAME}.ipxe");
    // The relay brings it to dnsmasq and to us, in no order.
    let asked = "until curl -sf --max-time 10 --interface";
    let given = machine.sh(&format!("timeout 30 sh -c '{asked} {ip} {url}; do :; done'"));
    assert!(given.contains("kernel --name kernel"), "{given}");
    let other = machine.client(30, "curl", "curl", &["-sf", "--interface", "10.79.0.201", &url]);
    assert!(!other.status.success(), "{}", text(&other));
    let refused = server.wait(5, |kind| *kind == EventKind::HttpScriptRefused);
    assert!(refused.detail.contains("let the relay of far bring DHCP to 10.77.0.1 too"), "{refused:?}");

    // Firmware hears both servers through the relay.
    let discover = firmware(MessageType::Discover, Ipv4Addr::UNSPECIFIED);
    let offers = machine.inside(|| answers(&client("c0"), ([255, 255, 255, 255], 67).into(), &discover, 2));
    let ours = offers.iter().find(|m| m.yiaddr().is_unspecified()).unwrap_or_else(|| panic!("{offers:#?}"));
    assert_eq!((file(ours), ours.giaddr().to_string().as_str()), ("undionly.kpxe", "10.79.0.1"));
}
