//! The policy by example, and against mutated packets.

use std::net::Ipv4Addr;

use dhcproto::{
    Encodable,
    v4::{Architecture, DhcpOption, Flags, Message, MessageType, OptionCode, UnknownOption},
};
use proptest::prelude::*;

use super::*;
use crate::{
    Boot, BootEntry, BootTable, Dhcp, EventKind, KernelArgs, LeaseChange, MacAddr, Ramdisk, Segment,
};

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const IP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 50);

fn script() -> Boot {
    Boot::Script(
        Ramdisk { kernel: "k".parse().unwrap(), initrd: "i".parse().unwrap(), args: KernelArgs::new() }
            .into(),
    )
}

fn entry(network: &str, ip: Ipv4Addr, boot: Boot) -> BootEntry {
    BootEntry {
        mac: MAC,
        node: "node-1".into(),
        hostname: "host-1".into(),
        ip,
        network: network.into(),
        boot,
    }
}

fn segment() -> Segment {
    Segment {
        gateway: Some(Ipv4Addr::new(10, 1, 0, 254)),
        dns: vec![Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 1, 0, 3)],
        domain: Some("rack.example".into()),
        ..Segment::new("provisioning", "br0", SERVER, 24)
    }
}

fn table(boot: Boot) -> BootTable {
    let mut table = BootTable::new();
    table.set_segments(vec![segment()]);
    table.publish(entry("provisioning", IP, boot));
    table
}

fn packet(kind: MessageType, options: &[DhcpOption], change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let zero = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(0x1234_5678, zero, zero, zero, zero, &MAC.0);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    for option in options {
        message.opts_mut().insert(option.clone());
    }
    change(&mut message);
    message.to_vec().unwrap()
}

fn raw(code: u8, data: &[u8]) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(code), data.to_vec()))
}

fn pxe(architecture: u16) -> Vec<DhcpOption> {
    vec![
        DhcpOption::ClassIdentifier(format!("PXEClient:Arch:{architecture:05}:UNDI:003016").into_bytes()),
        DhcpOption::ClientSystemArchitecture(Architecture(architecture)),
        DhcpOption::ClientMachineIdentifier([vec![0], vec![0xab; 16]].concat()),
    ]
}

fn ipxe() -> Vec<DhcpOption> {
    [pxe(0), vec![DhcpOption::UserClass(b"iPXE".to_vec()), raw(175, &[0xb1, 1, 1])]].concat()
}

fn run(table: &BootTable, bytes: &[u8]) -> Decision {
    decide(&segment(), table, &BootFiles::new(8080), &Request::parse(bytes).unwrap(), None)
}

/// The answer as text: what the wire says, not what we think it says.
fn answer(decision: &Decision) -> String {
    let Some(reply) = &decision.reply else { return "silence".into() };
    let bytes = reply.bytes().unwrap();
    assert!(bytes.len() >= 300 && bytes.len() <= 548, "{}", bytes.len());
    let m = <Message as dhcproto::Decodable>::decode(&mut dhcproto::Decoder::new(&bytes)).unwrap();
    assert_eq!((m.xid(), m.chaddr()), (0x1234_5678, &MAC.0[..]));
    let file = m.fname_str().map(|f| f.unwrap().trim_end_matches('\0').to_owned()).unwrap_or_default();
    format!(
        "{:?} yiaddr={} siaddr={} ciaddr={} file={file} to={:?}",
        m.opts().msg_type().unwrap(),
        m.yiaddr(),
        m.siaddr(),
        m.ciaddr(),
        reply.to
    )
}

fn unknown(boots: bool) -> EventKind {
    EventKind::UnknownMac { network: "provisioning".into(), boots }
}

fn kinds(decision: &Decision) -> Vec<EventKind> {
    decision.events.iter().map(|(kind, _)| kind.clone()).collect()
}

fn boot_of(boot: Boot, options: &[DhcpOption]) -> (String, Vec<EventKind>) {
    let decision = run(&table(boot), &packet(MessageType::Discover, options, |_| {}));
    let answer = answer(&decision);
    let file = answer.split(" file=").nth(1).unwrap().split(" to=").next().unwrap().to_owned();
    (file, kinds(&decision))
}

/// A DHCPDISCOVER with this transaction id.
pub(super) fn discover(xid: u32) -> Request {
    let bytes = packet(MessageType::Discover, &[], |m| {
        m.set_xid(xid);
    });
    Request::parse(&bytes).unwrap()
}

#[test]
fn uefi_http_is_sent_to_https_where_there_is_one() {
    let url = |name: Option<&str>, class: &[u8], architecture: u16| {
        let mut files = BootFiles::new(8080);
        files.https = Some(Https { port: 8443, name: name.map(str::to_owned) });
        let architecture = DhcpOption::ClientSystemArchitecture(Architecture(architecture));
        let options = [DhcpOption::ClassIdentifier(class.to_vec()), architecture];
        let bytes = packet(MessageType::Discover, &options, |_| {});
        answer(&decide(&segment(), &table(script()), &files, &Request::parse(&bytes).unwrap(), None))
    };
    for (name, class, architecture, expect) in [
        (None, &b"HTTPClient"[..], 16, " file=https://10.1.0.1:8443/firmware/snponly.efi "),
        (Some("r1.example"), b"HTTPClient", 16, " file=https://r1.example:8443/firmware/snponly.efi "),
        (None, b"HTTPClient", 19, " file=https://10.1.0.1:8443/firmware/snponly-arm64.efi "),
        (None, b"PXEClient", 7, " file=snponly.efi "),
    ] {
        let answer = url(name, class, architecture);
        assert!(answer.contains(expect), "{answer}");
    }
}

#[test]
fn a_boot_file_that_is_not_there_is_not_offered() {
    let mut files = BootFiles::new(8080);
    files.keep(|name| name == "snponly.efi");
    let offered = |architecture| {
        let bytes = packet(MessageType::Discover, &pxe(architecture), |_| {});
        let decision = decide(&segment(), &table(script()), &files, &Request::parse(&bytes).unwrap(), None);
        (answer(&decision), kinds(&decision))
    };
    let (uefi, _) = offered(7);
    assert!(uefi.contains("file=snponly.efi"), "{uefi}");
    for architecture in [0, 11] {
        let (answer, kinds) = offered(architecture);
        assert!(answer.contains("yiaddr=10.1.0.50") && answer.contains("file= "), "{answer}");
        assert!(kinds.contains(&EventKind::UnknownArchitecture { architecture }), "{kinds:?}");
    }
}

#[test]
fn each_firmware_gets_its_boot_file() {
    let plain = [EventKind::Discover, EventKind::Offer];
    let script_url = "http://10.1.0.1:8080/boot/52-54-00-00-00-01.ipxe";
    for (boot, options, expect) in [
        (script(), pxe(0), "undionly.kpxe"),
        (script(), pxe(7), "snponly.efi"),
        (script(), pxe(9), "snponly.efi"),
        (script(), pxe(11), "snponly-arm64.efi"),
        (script(), vec![DhcpOption::ClassIdentifier(b"PXEClient".to_vec())], "undionly.kpxe"),
        (
            script(),
            vec![DhcpOption::ClassIdentifier(b"PXEClient:Arch:00007:UNDI:003016".to_vec())],
            "snponly.efi",
        ),
        (
            script(),
            vec![
                DhcpOption::ClassIdentifier(b"HTTPClient:Arch:00016:UNDI:003001".to_vec()),
                DhcpOption::ClientSystemArchitecture(Architecture(16)),
            ],
            "http://10.1.0.1:8080/firmware/snponly.efi",
        ),
        (script(), ipxe(), script_url),
        (script(), vec![DhcpOption::UserClass(b"\x04iPXE".to_vec())], script_url),
        (script(), vec![], ""),
        (Boot::LocalDisk, pxe(0), ""),
        (Boot::LocalDisk, ipxe(), script_url),
        (Boot::LocalDisk, vec![], ""),
        (Boot::None, pxe(7), ""),
        (Boot::None, ipxe(), ""),
    ] {
        let (file, events) = boot_of(boot.clone(), &options);
        assert_eq!(file, expect, "{boot:?} {options:?}");
        assert_eq!(events, plain);
    }
}

#[test]
fn unknown_firmware_gets_an_address_and_an_event() {
    let (file, events) = boot_of(script(), &pxe(6));
    assert_eq!(file, "");
    let unknown = EventKind::UnknownArchitecture { architecture: 6 };
    assert_eq!(events, [EventKind::Discover, unknown, EventKind::Offer]);
}

#[test]
fn an_offer_is_exactly_these_bytes() {
    let decision = run(&table(script()), &packet(MessageType::Discover, &ipxe(), |_| {}));
    let bytes = decision.reply.unwrap().bytes().unwrap();
    let mut expect = vec![2, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0];
    expect.extend([0, 0, 0, 0, 10, 1, 0, 50, 10, 1, 0, 1, 0, 0, 0, 0]);
    expect.extend(MAC.0);
    expect.resize(44 + 64, 0);
    let url = b"http://10.1.0.1:8080/boot/52-54-00-00-00-01.ipxe";
    expect.extend(url);
    expect.resize(236, 0);
    expect.extend([99, 130, 83, 99]);
    expect.extend([1, 4, 255, 255, 255, 0, 3, 4, 10, 1, 0, 254, 6, 8, 10, 1, 0, 2, 10, 1, 0, 3]);
    expect.extend(b"\x0c\x06host-1\x0f\x0crack.example");
    expect.extend([51, 4, 0, 0, 14, 16, 53, 1, 2, 54, 4, 10, 1, 0, 1]);
    expect.extend([58, 4, 0, 0, 7, 8, 59, 4, 0, 0, 12, 78]);
    expect.extend([67, url.len() as u8]);
    expect.extend(url);
    expect.extend([97, 17, 0]);
    expect.extend([0xab; 16]);
    expect.extend([175, 3, 176, 1, 1, 255]);
    assert_eq!(bytes, expect);
}

#[test]
fn tftp_boot_names_the_server_in_all_three_places() {
    let decision = run(&table(script()), &packet(MessageType::Discover, &pxe(7), |_| {}));
    let message = decision.reply.unwrap().message;
    assert_eq!(message.siaddr(), SERVER);
    assert_eq!(message.sname(), Some(&b"10.1.0.1"[..]));
    let option = |code| message.opts().get(code).cloned();
    assert_eq!(option(OptionCode::TFTPServerName), Some(DhcpOption::TFTPServerName(b"10.1.0.1".to_vec())));
    assert_eq!(option(OptionCode::BootfileName), Some(DhcpOption::BootfileName(b"snponly.efi".to_vec())));
    assert_eq!(option(OptionCode::ClassIdentifier), None);
}

#[test]
fn http_boot_is_answered_with_its_class() {
    let options = [DhcpOption::ClassIdentifier(b"HTTPClient:Arch:00016".to_vec())];
    let decision = run(&table(script()), &packet(MessageType::Discover, &options, |_| {}));
    let message = decision.reply.unwrap().message;
    let class = DhcpOption::ClassIdentifier(b"HTTPClient".to_vec());
    assert_eq!(message.opts().get(OptionCode::ClassIdentifier), Some(&class));
    assert_eq!(message.opts().get(OptionCode::TFTPServerName), None);
}

#[test]
fn requests_are_told_apart_as_rfc_2131_4_3_2_says() {
    let other = Ipv4Addr::new(10, 1, 0, 99);
    let requested = DhcpOption::RequestedIpAddress;
    let server = DhcpOption::ServerIdentifier;
    let has = |ip: Ipv4Addr| {
        move |m: &mut Message| {
            m.set_ciaddr(ip);
        }
    };
    let ack =
        "Ack yiaddr=10.1.0.50 siaddr=0.0.0.0 ciaddr=0.0.0.0 file= to=Frame(52:54:00:00:00:01, 10.1.0.50)";
    let nak = "Nak yiaddr=0.0.0.0 siaddr=0.0.0.0 ciaddr=0.0.0.0 file= to=Broadcast";
    let none: fn(&mut Message) = |_| {};
    let check = |what: &str, bytes: Vec<u8>, expect: &str| {
        assert_eq!(answer(&run(&table(Boot::None), &bytes)), expect, "{what}");
    };
    let request = |options: &[DhcpOption], change: &dyn Fn(&mut Message)| {
        packet(MessageType::Request, options, |m| change(m))
    };
    check("selecting us", request(&[requested(IP), server(SERVER)], &none), ack);
    check("selecting us, wrong address", request(&[requested(other), server(SERVER)], &none), nak);
    check("selecting another", request(&[requested(IP), server(other)], &none), "silence");
    check("init-reboot", request(&[requested(IP)], &none), ack);
    check("init-reboot, wrong address", request(&[requested(other)], &none), nak);
    let renewed = "Ack yiaddr=10.1.0.50 siaddr=0.0.0.0 ciaddr=10.1.0.50 file= to=Client(10.1.0.50)";
    check("renewing", request(&[], &has(IP)), renewed);
    check("renewing, wrong address", request(&[], &has(other)), nak);
    check("nothing filled in", request(&[], &none), "silence");
    let inform = packet(MessageType::Inform, &[], has(other));
    let informed = "Ack yiaddr=0.0.0.0 siaddr=0.0.0.0 ciaddr=10.1.0.99 file= to=Client(10.1.0.99)";
    check("inform", inform, informed);
}

#[test]
fn leases_follow_the_conversation() {
    let bound = LeaseChange::Bound { ip: IP, seconds: 3600 };
    let declined = LeaseChange::Declined { ip: IP, seconds: 3600 };
    for (kind, options, ciaddr, expect) in [
        (MessageType::Discover, vec![], None, None),
        (MessageType::Request, vec![DhcpOption::RequestedIpAddress(IP)], None, Some(bound)),
        (MessageType::Release, vec![], Some(IP), Some(LeaseChange::Released)),
        (MessageType::Release, vec![], Some(SERVER), None),
        (MessageType::Decline, vec![DhcpOption::RequestedIpAddress(IP)], None, Some(declined)),
        (MessageType::Decline, vec![DhcpOption::RequestedIpAddress(SERVER)], None, None),
        (MessageType::Release, vec![DhcpOption::ServerIdentifier(IP)], Some(IP), None),
    ] {
        let bytes = packet(kind, &options, |m| {
            m.set_ciaddr(ciaddr.unwrap_or(Ipv4Addr::UNSPECIFIED));
        });
        let decision = run(&table(Boot::None), &bytes);
        assert_eq!(decision.lease, expect, "{kind:?}");
        assert_eq!(decision.reply.is_some(), matches!(kind, MessageType::Discover | MessageType::Request));
    }
}

#[test]
fn a_relay_says_where_the_machine_is_and_what_the_server_is_called() {
    let (loopback, link, other) = ([192, 0, 2, 7], [10, 1, 0, 254], [10, 2, 0, 0]);
    let with = |kind, giaddr: [u8; 4], options: &[DhcpOption], raw: &[u8]| {
        let mut bytes = packet(kind, options, |m| {
            m.set_giaddr(giaddr);
        });
        bytes.pop();
        bytes.extend([raw, &[255]].concat());
        Request::parse(&bytes).unwrap()
    };
    let subnet = |ip: [u8; 4]| [&[118, 4], &ip[..]].concat();
    let info = |parts: &[u8]| [&[82, parts.len() as u8], parts].concat();
    let link_selection = [&[1, 1, b'x', 5, 4], &link[..]].concat();
    for (what, giaddr, raw, expect) in [
        ("RFC 3527", loopback, info(&link_selection), Some(link)),
        ("RFC 3011", loopback, subnet(link), Some(link)),
        (
            "RFC 3527 goes before RFC 3011",
            loopback,
            [subnet(other), info(&link_selection)].concat(),
            Some(link),
        ),
        ("neither", loopback, info(&[1, 1, b'x']), None),
        ("cut off", loopback, info(&[5, 4, 10, 1]), None),
        (
            "no relay: a machine does not choose its network",
            [0; 4],
            [subnet(link), info(&link_selection)].concat(),
            None,
        ),
    ] {
        let request = with(MessageType::Discover, giaddr, &[], &raw);
        assert_eq!(request.link, expect.map(Ipv4Addr::from), "{what}");
        let found = request::segment_for(&table(Boot::None), &std::sync::Arc::new(segment()), &request);
        let here = expect.is_some() || giaddr == [0; 4];
        assert_eq!(found.map(|s| s.network.clone()), here.then(|| "provisioning".to_owned()), "{what}");
    }
    // RFC 3011 §3: echoed. RFC 5107 §4: the relay's word for the server, in both directions.
    let called = [10, 9, 9, 9];
    let parts = [&[11, 4], &called[..]].concat();
    let raw = [subnet(link), info(&parts)].concat();
    let decide =
        |request: &Request| decide(&segment(), &table(Boot::None), &BootFiles::new(8080), request, None);
    let offer = decide(&with(MessageType::Discover, loopback, &[], &raw)).reply.unwrap();
    let option = |code| offer.message.opts().get(code).cloned();
    assert_eq!(option(OptionCode::SubnetSelection), Some(DhcpOption::SubnetSelection(link.into())));
    assert_eq!(option(OptionCode::ServerIdentifier), Some(DhcpOption::ServerIdentifier(called.into())));
    assert_eq!(offer.to, Destination::Relay(loopback.into()));
    let chosen = [DhcpOption::RequestedIpAddress(IP), DhcpOption::ServerIdentifier(called.into())];
    let taken = decide(&with(MessageType::Request, loopback, &chosen, &raw));
    assert_eq!(taken.reply.unwrap().message.opts().msg_type(), Some(MessageType::Ack));
    let ours = [DhcpOption::RequestedIpAddress(IP), DhcpOption::ServerIdentifier(SERVER)];
    let foreign = decide(&with(MessageType::Request, loopback, &ours, &raw));
    assert!(foreign.reply.is_none() && kinds(&foreign).contains(&EventKind::OtherServer));
}

#[test]
fn a_relayed_packet_goes_back_through_its_relay_with_option_82_untouched() {
    let relay = Ipv4Addr::new(10, 1, 0, 253);
    // Sub-options in no order, one unknown: they come back as they were.
    let info = [200, 2, 1, 2, 1, 3, b'p', b'/', b'1'];
    let mut discover = packet(MessageType::Discover, &[], |m| {
        m.set_giaddr(relay);
    });
    discover.pop();
    discover.extend([&[82, 9], &info[..], &[255]].concat());
    let reply = run(&table(Boot::None), &discover).reply.unwrap();
    assert_eq!(reply.to, Destination::Relay(relay));
    let bytes = reply.bytes().unwrap();
    let at = bytes.windows(11).position(|w| w == [&[82, 9], &info[..]].concat()).unwrap();
    assert_eq!(bytes[at + 11], 255, "option 82 is the last one");
    let wrong = [DhcpOption::RequestedIpAddress(SERVER)];
    let nak = run(
        &table(Boot::None),
        &packet(MessageType::Request, &wrong, |m| {
            m.set_giaddr(relay);
        }),
    );
    let nak = nak.reply.unwrap();
    assert_eq!((nak.to, nak.message.flags().broadcast()), (Destination::Relay(relay), true));
}

#[test]
fn beside_another_server_we_say_what_to_boot_and_nothing_else() {
    let beside = Segment { dhcp: Dhcp::Proxy, ..segment() };
    let ask = |boot: Boot, kind, options: &[DhcpOption]| {
        let request = Request::parse(&packet(kind, options, |_| {})).unwrap();
        decide(&beside, &table(boot), &BootFiles::new(8080), &request, None)
    };
    let (discover, request) = (MessageType::Discover, MessageType::Request);
    for (options, file) in [
        (pxe(0), "undionly.kpxe"),
        (pxe(7), "snponly.efi"),
        (ipxe(), "http://10.1.0.1:8080/boot/52-54-00-00-00-01.ipxe"),
    ] {
        let decision = ask(script(), discover, &options);
        let expect = format!("Offer yiaddr=0.0.0.0 siaddr=10.1.0.1 ciaddr=0.0.0.0 file={file} to=Broadcast");
        assert_eq!((answer(&decision), decision.lease.clone()), (expect, None));
        let reply = decision.reply.unwrap();
        let option = |code| reply.message.opts().get(code).cloned();
        assert_eq!(
            option(OptionCode::ClassIdentifier),
            Some(DhcpOption::ClassIdentifier(b"PXEClient".to_vec()))
        );
        assert_eq!(option(OptionCode::SubnetMask), None);
        // It took the other server's offer.
        let took = ask(script(), request, &options);
        assert_eq!((took.reply, took.lease), (None, None));
    }
    for (boot, options) in [(script(), vec![]), (Boot::LocalDisk, pxe(0)), (script(), pxe(99))] {
        assert_eq!(ask(boot, discover, &options).reply, None);
    }
    // Nobody is told no, and a strange system is no event.
    let request = Request::parse(&packet(request, &[], |_| {})).unwrap();
    assert_eq!(decide(&beside, &BootTable::new(), &BootFiles::new(80), &request, None), Decision::default());
    let off = Segment { dhcp: Dhcp::Off, ..segment() };
    let request = Request::parse(&packet(discover, &pxe(0), |_| {})).unwrap();
    let decision = decide(&off, &table(script()), &BootFiles::new(80), &request, None);
    assert_eq!((decision.reply, decision.lease), (None, None));
    let kinds: Vec<_> = decision.events.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [EventKind::Ignored { message: "DHCPDISCOVER" }]);
}

/// RFC 2131 §4.3.3, §4.3.4: what is not about the client's own address, or not for us, changes nothing; that it came is told.
#[test]
fn what_gives_back_or_refuses_an_address_that_is_not_its_own_is_told_and_changes_nothing() {
    let other = Ipv4Addr::new(10, 1, 0, 99);
    for (kind, message, options, ciaddr, why) in [
        (MessageType::Release, "DHCPRELEASE", vec![], other, "expected its own address 10.1.0.50"),
        (
            MessageType::Release,
            "DHCPRELEASE",
            vec![DhcpOption::ServerIdentifier(other)],
            IP,
            "another server is meant",
        ),
        (
            MessageType::Decline,
            "DHCPDECLINE",
            vec![DhcpOption::RequestedIpAddress(other)],
            Ipv4Addr::UNSPECIFIED,
            "expected its own",
        ),
        (
            MessageType::Inform,
            "DHCPINFORM",
            vec![],
            Ipv4Addr::new(10, 9, 0, 1),
            "expected an address of this network",
        ),
    ] {
        let request = Request::parse(&packet(kind, &options, |m| {
            m.set_ciaddr(ciaddr);
        }))
        .unwrap();
        let decision = decide(&segment(), &table(script()), &BootFiles::new(80), &request, None);
        assert_eq!((decision.reply, decision.lease), (None, None));
        let [(seen, detail)] = &decision.events[..] else { panic!("{:?}", decision.events) };
        assert_eq!(*seen, EventKind::Ignored { message });
        assert!(detail.starts_with(why), "{detail}");
    }
}

#[test]
fn unknown_machines_get_silence_and_an_event() {
    let table = BootTable::new();
    let options = [DhcpOption::RequestedIpAddress(IP)];
    for kind in [MessageType::Discover, MessageType::Request, MessageType::Inform, MessageType::Decline] {
        let decision = run(&table, &packet(kind, &options, |_| {}));
        assert_eq!((decision.reply.as_ref(), kinds(&decision)), (None, vec![unknown(false)]));
    }
}

#[test]
fn a_pool_answers_unknown_machines() {
    let mut guest = entry("provisioning", Ipv4Addr::new(10, 1, 0, 200), script());
    guest.hostname.clear();
    let request = Request::parse(&packet(MessageType::Discover, &pxe(0), |_| {})).unwrap();
    let decision = decide(&segment(), &BootTable::new(), &BootFiles::new(80), &request, Some(&guest));
    assert_eq!(
        answer(&decision),
        "Offer yiaddr=10.1.0.200 siaddr=10.1.0.1 ciaddr=0.0.0.0 file=undionly.kpxe to=Frame(52:54:00:00:00:01, 10.1.0.200)"
    );
    assert_eq!(kinds(&decision), [unknown(true), EventKind::Discover, EventKind::Offer]);
}

#[test]
fn a_port_that_was_moved_is_told_to_ask_anew() {
    let mut table = BootTable::new();
    let old = Ipv4Addr::new(10, 2, 0, 50);
    table.publish(entry("tenant", old, Boot::None));
    let init_reboot = packet(MessageType::Request, &[DhcpOption::RequestedIpAddress(old)], |_| {});
    let decision = run(&table, &init_reboot);
    assert_eq!(kinds(&decision), [EventKind::WrongNetwork, EventKind::Nak]);
    let discover = run(&table, &packet(MessageType::Discover, &[], |_| {}));
    assert_eq!((discover.reply.as_ref(), kinds(&discover)), (None, vec![EventKind::WrongNetwork]));
}

#[test]
fn the_broadcast_flag_and_the_client_id_are_echoed() {
    let id = DhcpOption::ClientIdentifier(vec![1, 2, 3]);
    let bytes = packet(MessageType::Discover, std::slice::from_ref(&id), |m| {
        m.set_flags(Flags::default().set_broadcast());
    });
    let message = run(&table(Boot::None), &bytes).reply.unwrap().message;
    assert!(message.flags().broadcast());
    assert_eq!(message.opts().get(OptionCode::ClientIdentifier), Some(&id));
}

#[test]
fn a_malformed_option_hides_nothing_that_follows() {
    let mut bytes = packet(MessageType::Discover, &[], |_| {});
    bytes.truncate(240);
    bytes.extend([50, 1, 9, 81, 0, 93, 1, 0, 121, 1, 99, 53, 1, 1, 77, 4]);
    bytes.extend(b"iPXE\xff");
    let request = Request::parse(&bytes).unwrap();
    assert_eq!((request.kind, request.client), (MessageType::Discover, Client::Ipxe));
    assert_eq!((request.requested_ip, request.architecture), (None, None));
}

#[test]
fn packets_that_are_no_requests_are_refused() {
    let good = packet(MessageType::Discover, &[], |_| {});
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Request::parse(&bytes).unwrap_err()
    };
    assert_eq!(Request::parse(&good[..239]), Err(RequestError::NotDhcp));
    assert_eq!(Request::parse(&[]), Err(RequestError::NotDhcp));
    assert_eq!(with(0, 2), RequestError::NotRequest);
    assert_eq!(with(1, 6), RequestError::NotEthernet);
    assert_eq!(with(2, 255), RequestError::NotEthernet);
    assert_eq!(with(28, 0xff), RequestError::NotEthernet);
    assert_eq!(with(236, 0), RequestError::NotDhcp);
    assert_eq!(with(242, 2), RequestError::NoType);
    assert_eq!(with(242, 99), RequestError::NoType);
}

proptest! {
    /// Firmware's packets with some bytes changed and cut off anywhere: an answer or none, never a panic, and what
    /// is answered can be sent.
    #[test]
    fn mutated_packets_do_not_panic(
        kind in 1u8..9, which in 0usize..4, cut in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..24),
        tail in prop::collection::vec(any::<u8>(), 0..200), pool in any::<bool>(),
    ) {
        let options = [pxe(0), pxe(7), ipxe(), vec![DhcpOption::RequestedIpAddress(IP)]];
        let mut bytes = packet(MessageType::from(kind), &options[which], |_| {});
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut.index(3) == 0 {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes.extend(tail);
        if let Ok(request) = Request::parse(&bytes) {
            prop_assert!(request.describe().bytes().all(|b| b.is_ascii_graphic() || b == b' '));
            let guest = entry("provisioning", IP, script());
            let decision = decide(&segment(), &table(script()), &BootFiles::new(80), &request, pool.then_some(&guest));
            if let Some(reply) = decision.reply {
                prop_assert!(reply.bytes().is_some());
            }
        }
    }
}

/// Whoever names an address of elsewhere does not make us send there.
#[test]
fn answers_go_to_addresses_of_the_segment_and_nowhere_else() {
    let own = |kind, ciaddr: [u8; 4], options: &[DhcpOption]| {
        let bytes = packet(kind, options, |m| {
            m.set_ciaddr(Ipv4Addr::from(ciaddr));
        });
        run(&table(Boot::None), &bytes)
    };
    let inform = |ciaddr| own(MessageType::Inform, ciaddr, &[]);
    assert_eq!(inform([10, 1, 0, 77]).reply.unwrap().to, Destination::Client([10, 1, 0, 77].into()));
    assert_eq!(inform([0; 4]).reply.unwrap().to, Destination::Broadcast);
    for elsewhere in [[192, 0, 2, 1], [10, 1, 0, 255], [10, 1, 0, 0], [10, 1, 0, 1], [255; 4], [224, 0, 0, 1]]
    {
        let decision = inform(elsewhere);
        let kinds: Vec<_> = decision.events.into_iter().map(|(kind, _)| kind).collect();
        let ignored = EventKind::Ignored { message: "DHCPINFORM" };
        assert_eq!((decision.reply, kinds), (None, vec![ignored]), "{elsewhere:?}");
        // RFC 2131 table 5: it is 0 in a DHCPDISCOVER.
        let offer = own(MessageType::Discover, elsewhere, &[]).reply.unwrap();
        assert_eq!(offer.to, Destination::Frame(MAC, IP), "{elsewhere:?}");
        let ack = own(MessageType::Request, elsewhere, &[DhcpOption::RequestedIpAddress(IP)]).reply.unwrap();
        assert_eq!(ack.to, Destination::Frame(MAC, IP), "{elsewhere:?}");
    }
    // Through a relay it goes to the relay.
    let bytes = packet(MessageType::Inform, &[], |m| {
        m.set_ciaddr([192, 0, 2, 1]).set_giaddr([10, 1, 0, 9]);
    });
    let relayed = run(&table(Boot::None), &bytes).reply.unwrap();
    assert_eq!(relayed.to, Destination::Relay([10, 1, 0, 9].into()));
}

/// RFC 2132 §9.3 and RFC 3396 §5: an option may go on in `file`, and after that in `sname`.
#[test]
fn options_in_the_fields_for_names_are_read_where_option_52_says_so() {
    let name = |fields: &[DhcpOption]| {
        let mut bytes = packet(MessageType::Discover, fields, |_| {});
        bytes[108..114].copy_from_slice(&[77, 3, b'P', b'X', b'E', 255]);
        bytes[44..49].copy_from_slice(&[60, 2, b'n', b't', 0]);
        let at = bytes.iter().rposition(|byte| *byte == 255).unwrap();
        bytes.splice(at..at, [60, 7].into_iter().chain(*b"PXEClie").chain([77, 1, b'i']));
        Request::parse(&bytes).unwrap().client
    };
    assert_eq!(name(&[]), Client::Other);
    assert_eq!(name(&[raw(52, &[1])]), Client::Ipxe);
    assert_eq!(name(&[raw(52, &[2])]), Client::Pxe);
    assert_eq!(name(&[raw(52, &[3])]), Client::Ipxe);
    assert_eq!(name(&[raw(52, &[4])]), Client::Other, "it has no such value");
}

#[test]
fn on_a_network_of_bmcs_everybody_has_an_address_and_firmware_none() {
    let bmcs = Segment { network: "bmcs".into(), boots: false, ..segment() };
    let mut table = BootTable::new();
    table.set_segments(vec![bmcs.clone()]);
    let decided = |table: &BootTable, kind, options: &[DhcpOption], guest: Option<&BootEntry>| {
        let request = Request::parse(&packet(kind, options, |_| {})).unwrap();
        decide(&bmcs, table, &BootFiles::new(8080), &request, guest)
    };
    let class = |text: &str| [DhcpOption::ClassIdentifier(text.as_bytes().to_vec())];
    let wish = |text: &str| [class(text).to_vec(), vec![DhcpOption::RequestedIpAddress(IP)]].concat();
    let met = |bmc| EventKind::Guest { network: "bmcs".into(), ip: IP, boots: false, bmc };
    // Of the pool, and one with an address of its own: both are met.
    let guest = BootEntry { node: String::new(), ..entry("bmcs", IP, Boot::None) };
    let pooled = decided(&table, MessageType::Request, &wish("iDRAC"), Some(&guest));
    assert!(kinds(&pooled).contains(&met(Some("Dell iDRAC"))), "{pooled:?}");
    table.publish(guest);
    let reserved = decided(&table, MessageType::Request, &wish("udhcp"), None);
    assert!(kinds(&reserved).contains(&met(None)) && answer(&reserved).contains(" file= "), "{reserved:?}");
    // Whoever would boot is told of, known or not.
    for options in [pxe(0), pxe(7), ipxe(), class("HTTPClient:Arch:00016:UNDI:003001").to_vec()] {
        let decision = decided(&table, MessageType::Discover, &options, None);
        let boots = EventKind::BootsOnManagement { network: "bmcs".into() };
        assert_eq!((answer(&decision).as_str(), kinds(&decision)), ("silence", vec![boots]));
    }
}
