//! The policy by example, and against mutated packets.

use std::net::{Ipv4Addr, Ipv6Addr};

use dhcproto::{
    Decodable as _, Decoder, Encodable as _,
    v6::{Architecture, DhcpOption, IAAddr, IANA, Message, MessageType, OptionCode, Status, UnknownOption},
};
use proptest::prelude::*;

use super::*;
use crate::{
    Boot, BootEntry, BootFiles, BootTable, Dhcp6, EventKind, KernelArgs, MacAddr, Ramdisk, Segment,
    SignedChain,
};

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
/// What SLAAC makes of it.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0x00ff, 0xfe00, 1);
/// One that says nothing (RFC 7217).
const OPAQUE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x1234, 0x5678, 0x9abc, 0xdef0);
const SIX: Dhcp6 = Dhcp6::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 64);
const IP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x0a01, 0x0032);
const OTHER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 9, 0, 0, 0, 9);
const DUID_LL: [u8; 10] = [0, 3, 0, 1, 0x52, 0x54, 0, 0, 0, 1];
const DUID_UUID: [u8; 18] = [0, 4, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

fn boot() -> Boot {
    Boot::Script(
        Ramdisk { kernel: "k".parse().unwrap(), initrd: "i".parse().unwrap(), args: KernelArgs::new() }
            .into(),
    )
}

fn segment() -> Segment {
    Segment { dhcp6: Some(SIX), ..Segment::new("provisioning", "br0", Ipv4Addr::new(10, 1, 0, 1), 24) }
}

fn table(network: &str, boot: Boot) -> BootTable {
    let mut table = BootTable::new();
    table.set_segments(vec![segment()]);
    let (node, hostname) = ("node-1".into(), String::new());
    let ip = Ipv4Addr::new(10, 1, 0, 50);
    table.publish(BootEntry { mac: MAC, node, hostname, ip, network: network.into(), boot });
    table
}

fn ia(id: u32, addresses: &[Ipv6Addr]) -> DhcpOption {
    let address = |addr: &Ipv6Addr| {
        DhcpOption::IAAddr(IAAddr { addr: *addr, preferred_life: 9, valid_life: 9, opts: Default::default() })
    };
    DhcpOption::IANA(IANA { id, t1: 0, t2: 0, opts: addresses.iter().map(address).collect() })
}

fn raw(code: u16, bytes: &[u8]) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), bytes.to_vec()))
}

fn firmware(class: &[u8], architecture: u16) -> Vec<DhcpOption> {
    let length = u16::try_from(class.len()).unwrap().to_be_bytes();
    let class = [&[0, 0, 1, 0x57][..], &length, class].concat();
    vec![DhcpOption::ClientArchType(vec![Architecture(architecture)]), raw(16, &class)]
}

fn packet(kind: MessageType, options: &[DhcpOption]) -> Vec<u8> {
    let mut message = Message::new_with_id(kind, [1, 2, 3]);
    options.iter().for_each(|option| message.opts_mut().insert(option.clone()));
    message.to_vec().unwrap()
}

fn to_us(options: &[DhcpOption]) -> Vec<DhcpOption> {
    [&[DhcpOption::ClientId(DUID_UUID.to_vec()), DhcpOption::ServerId(SIX.duid())], options].concat()
}

fn to_all(options: &[DhcpOption]) -> Vec<DhcpOption> {
    [&[DhcpOption::ClientId(DUID_UUID.to_vec())], options].concat()
}

fn run(table: &BootTable, bytes: &[u8], source: Ipv6Addr) -> Decision6 {
    let mut files = BootFiles::new(8080);
    files.signed.push(SignedChain::X64);
    decide6(&segment(), &SIX, table, &files, &Request6::parse(bytes).unwrap(), source)
}

/// The answer as the other end reads it.
fn answer(decision: &Decision6) -> Option<Message> {
    decision.reply.as_ref().map(|bytes| Message::decode(&mut Decoder::new(bytes)).unwrap())
}

/// An association's addresses with their valid lifetimes, and its status.
type Given = (u32, Vec<(Ipv6Addr, u32)>, Option<Status>);

fn given(message: &Message) -> Vec<Given> {
    let one = |option: &DhcpOption| {
        let DhcpOption::IANA(ia) = option else { return None };
        let addresses = ia.opts.iter().filter_map(|option| match option {
            DhcpOption::IAAddr(a) => Some((a.addr, a.valid_life)),
            _ => None,
        });
        Some((ia.id, addresses.collect(), status(&ia.opts)))
    };
    message.opts().iter().filter_map(one).collect()
}

fn status(options: &dhcproto::v6::DhcpOptions) -> Option<Status> {
    match options.get(OptionCode::StatusCode) {
        Some(DhcpOption::StatusCode(code)) => Some(code.status),
        _ => None,
    }
}

fn url(message: &Message) -> Option<String> {
    message.opts().iter().find_map(|option| match option {
        DhcpOption::Unknown(unknown) if u16::from(unknown.code()) == 59 => {
            Some(String::from_utf8(unknown.data().to_vec()).unwrap())
        }
        _ => None,
    })
}

#[test]
fn a_solicit_is_advertised_its_reservation_and_a_request_gets_it() {
    let table = table("provisioning", boot());
    let advertise = run(&table, &packet(MessageType::Solicit, &to_all(&[ia(7, &[])])), LINK_LOCAL);
    let message = answer(&advertise).unwrap();
    assert_eq!((message.msg_type(), message.xid()), (MessageType::Advertise, [1, 2, 3]));
    assert_eq!(given(&message), [(7, vec![(IP, 3600)], None)]);
    assert_eq!(message.opts().get(OptionCode::Preference), Some(&DhcpOption::Preference(255)));
    assert_eq!(message.opts().get(OptionCode::ClientId), Some(&DhcpOption::ClientId(DUID_UUID.to_vec())));
    assert_eq!(advertise.events.len(), 2);
    for kind in [MessageType::Request, MessageType::Renew] {
        let reply = answer(&run(&table, &packet(kind, &to_us(&[ia(7, &[IP])])), LINK_LOCAL)).unwrap();
        assert_eq!(reply.msg_type(), MessageType::Reply);
        let Some(DhcpOption::IANA(ia)) = reply.opts().get(OptionCode::IANA) else { panic!("{reply:?}") };
        assert_eq!((ia.t1, ia.t2), (1800, 2880));
    }
    let rapid = to_all(&[ia(7, &[]), DhcpOption::RapidCommit]);
    let reply = answer(&run(&table, &packet(MessageType::Solicit, &rapid), LINK_LOCAL)).unwrap();
    assert_eq!(reply.msg_type(), MessageType::Reply);
    assert!(reply.opts().get(OptionCode::RapidCommit).is_some());
}

/// The name that the certificate has is what firmware is sent to: it must be able to resolve it (RFC 3646 §3).
#[test]
fn name_servers_are_told_to_whoever_is_given_an_address_or_a_boot_file() {
    let server = |n: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n);
    let table = table("provisioning", boot());
    let mut files = BootFiles::new(8080);
    files.https = Some(crate::Https { port: 8443, name: Some("r1.example".to_owned()) });
    let ask = |segment: &Segment, kind, options: &[DhcpOption]| {
        let options = [options, &firmware(b"HTTPClient", 16)].concat();
        let request = Request6::parse(&packet(kind, &options)).unwrap();
        let message = answer(&decide6(segment, &SIX, &table, &files, &request, LINK_LOCAL)).unwrap();
        (url(&message).unwrap(), message.opts().get(OptionCode::DomainNameServers).cloned())
    };
    let mut segment = segment();
    let told = "https://r1.example:8443/firmware/snponly.efi".to_owned();
    assert_eq!(ask(&segment, MessageType::Solicit, &to_all(&[ia(7, &[])])), (told.clone(), None));
    segment.dns6 = (1..=9).map(server).collect();
    let dns = Some(DhcpOption::DomainNameServers((1..=8).map(server).collect()));
    for (kind, options) in [
        (MessageType::Solicit, to_all(&[ia(7, &[])])),
        (MessageType::Request, to_us(&[ia(7, &[IP])])),
        (MessageType::InformationRequest, to_all(&[])),
    ] {
        assert_eq!(ask(&segment, kind, &options), (told.clone(), dns.clone()), "{kind:?}");
    }
}

#[test]
fn what_is_not_reserved_for_a_port_is_taken_away_and_a_second_address_is_not_to_be_had() {
    let table = table("provisioning", boot());
    let options = to_all(&[ia(1, &[OTHER, IP]), ia(2, &[])]);
    let reply = answer(&run(&table, &packet(MessageType::Rebind, &options), LINK_LOCAL)).unwrap();
    let mut given = given(&reply);
    given.sort_by_key(|(id, _, _)| *id);
    given[0].1.sort();
    assert_eq!(given, [(1, vec![(IP, 3600), (OTHER, 0)], None), (2, vec![], Some(Status::NoAddrsAvail))]);
}

#[test]
fn a_machine_is_known_by_its_relays_word_its_address_or_its_duid() {
    let table = table("provisioning", boot());
    let solicit =
        |duid: &[u8]| packet(MessageType::Solicit, &[DhcpOption::ClientId(duid.to_vec()), ia(1, &[])]);
    assert!(run(&table, &solicit(&DUID_UUID), LINK_LOCAL).reply.is_some());
    assert!(run(&table, &solicit(&DUID_LL), OPAQUE).reply.is_some());
    let nobody = run(&table, &solicit(&DUID_UUID), OPAQUE);
    assert_eq!((nobody.mac, nobody.reply), (None, None));
    // Another port of that machine, which has its DUID: it is not given the first one's address.
    let second = run(&table, &solicit(&DUID_LL), "fe80::5054:ff:fe00:2".parse().unwrap());
    assert_eq!((second.mac, second.reply), (Some(MacAddr([0x52, 0x54, 0, 0, 0, 2])), None));
    assert!(matches!(&second.events[..], [(EventKind::UnknownMac { .. }, _)]), "{:?}", second.events);
    // A DUID of another port of the machine does not hide the port that asks.
    let other = [0, 3, 0, 1, 0x52, 0x54, 0, 0, 0, 9];
    assert!(run(&table, &solicit(&other), LINK_LOCAL).reply.is_some());

    let option = |code: u16, value: &[u8]| {
        [&code.to_be_bytes()[..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
    };
    let seen = option(79, &[0, 1, 0x52, 0x54, 0, 0, 0, 1]);
    let inner = [
        &[12, 0][..],
        &IP.octets(),
        &OPAQUE.octets(),
        &option(18, b"port-3"),
        &seen,
        &option(9, &solicit(&DUID_UUID)),
    ];
    let outer = [&[12, 1][..], &[0; 16], &OTHER.octets(), &option(9, &inner.concat())].concat();
    let decision = run(&table, &outer, OTHER);
    assert_eq!(decision.mac, Some(MAC));
    // Back through both: the same envelopes, the answer inside.
    let reply = decision.reply.unwrap();
    let relayed =
        reply.strip_prefix(&[&[13, 1][..], &[0; 16], &OTHER.octets(), &[0, 9]].concat()[..]).unwrap();
    let relayed = relayed[2..].strip_prefix(
        &[&[13, 0][..], &IP.octets(), &OPAQUE.octets(), &option(18, b"port-3"), &[0, 9]].concat()[..],
    );
    let message = Message::decode(&mut Decoder::new(&relayed.unwrap()[2..])).unwrap();
    assert_eq!(message.msg_type(), MessageType::Advertise);
}

#[test]
fn each_firmware_gets_its_boot_file_as_a_url() {
    let ask = |boot: Boot, options: Vec<DhcpOption>| {
        let options = to_us(&[options, vec![ia(1, &[])]].concat());
        run(&table("provisioning", boot), &packet(MessageType::Request, &options), LINK_LOCAL)
    };
    let script = "http://[2001:db8::1]:8080/boot/52-54-00-00-00-01.ipxe";
    let pxe = || firmware(b"PXEClient:Arch:00007:UNDI:003000", 7);
    let http = || firmware(b"HTTPClient:Arch:00016:UNDI:003000", 16);
    let ipxe = || [pxe(), vec![raw(15, b"\0\x04iPXE")]].concat();
    for (boot, options, file) in [
        (boot(), pxe(), Some("tftp://[2001:db8::1]/snponly.efi")),
        (boot(), http(), Some("http://[2001:db8::1]:8080/firmware/snponly.efi")),
        (boot(), ipxe(), Some(script)),
        (Boot::LocalDisk, ipxe(), Some(script)),
        (Boot::LocalDisk, pxe(), None),
        (boot(), vec![], None),
        (Boot::None, pxe(), None),
    ] {
        let decision = ask(boot, options);
        let message = answer(&decision).unwrap();
        assert_eq!(url(&message).as_deref(), file);
        // UEFI takes an answer for one to HTTP boot by this.
        let echoed =
            decision.reply.unwrap().windows(20).any(|w| w == b"\0\x10\0\x10\0\0\x01\x57\0\x0aHTTPClient");
        assert_eq!(echoed, file.is_some_and(|file| file.contains("firmware")));
    }
    let signed = Boot::Signed(
        Ramdisk { kernel: "k".parse().unwrap(), initrd: "i".parse().unwrap(), args: KernelArgs::new() }
            .into(),
    );
    let decision = ask(signed, pxe());
    assert_eq!(url(&answer(&decision).unwrap()), None);
    assert!(decision.events.iter().any(|(_, why)| why.contains("PXEv4")), "{decision:?}");
    assert!(matches!(
        ask(boot(), firmware(b"PXEClient", 27)).events[1].0,
        EventKind::UnknownArchitecture { .. }
    ));
}

/// Option 60 of an answer, as the other end reads it (RFC 5970 §3.2): parameters, each behind its length.
fn parameters(message: &Message) -> Option<Vec<String>> {
    let value = message.opts().iter().find_map(|option| match option {
        DhcpOption::Unknown(unknown) if u16::from(unknown.code()) == 60 => Some(unknown.data().to_vec()),
        _ => None,
    })?;
    let (mut rest, mut out) = (&value[..], Vec::new());
    while let [high, low, more @ ..] = rest {
        let (parameter, after) = more.split_at(u16::from_be_bytes([*high, *low]).into());
        out.push(String::from_utf8(parameter.to_vec()).unwrap());
        rest = after;
    }
    assert_eq!(rest, [0u8; 0]);
    Some(out)
}

/// The answer's parameters to firmware that asks (option 6) for `wanted`, with a boot file of so many octets.
fn parameters_of(
    size: Option<u64>,
    kind: MessageType,
    wanted: &[u8],
    who: Vec<DhcpOption>,
) -> Option<Vec<String>> {
    let mut files = BootFiles::new(8080);
    files.sizes.extend(size.map(|size| ("snponly.efi".to_owned(), size)));
    let options = [who, vec![ia(1, &[]), raw(6, wanted)]].concat();
    let options = if kind == MessageType::Solicit { to_all(&options) } else { to_us(&options) };
    let request = Request6::parse(&packet(kind, &options)).unwrap();
    let decision = decide6(&segment(), &SIX, &table("provisioning", boot()), &files, &request, LINK_LOCAL);
    parameters(&answer(&decision).unwrap())
}

#[test]
fn firmware_that_asks_how_long_its_file_is_is_told_in_blocks() {
    let pxe = || firmware(b"PXEClient:Arch:00007:UNDI:003000", 7);
    let asked = [0, 59, 0, 60];
    for (size, expect) in [
        (1, Some("1")),
        (512, Some("1")),
        (513, Some("2")),
        (1 << 20, Some("2048")),
        (65_535 * 512, Some("65535")),
        (65_535 * 512 + 1, None),
        (u64::MAX, None),
        (0, None),
    ] {
        for kind in [MessageType::Solicit, MessageType::Request] {
            let told = parameters_of(Some(size), kind, &asked, pxe());
            assert_eq!(told, expect.map(|one| vec![one.to_owned()]), "{size}");
        }
    }
    let kind = MessageType::Request;
    assert_eq!(parameters_of(None, kind, &asked, pxe()), None, "a file that is not ours");
    // Not asked for; half a code; 60 across two codes.
    for wanted in [&[0, 59][..], &[0, 59, 0], &[59, 0, 60, 0], &[]] {
        assert_eq!(parameters_of(Some(9), kind, wanted, pxe()), None, "{wanted:?}");
    }
    let http = firmware(b"HTTPClient:Arch:00016:UNDI:003000", 16);
    assert_eq!(parameters_of(Some(9), kind, &asked, http), None, "HTTP says it itself");
    let ipxe = [pxe(), vec![raw(15, b"\0\x04iPXE")]].concat();
    assert_eq!(parameters_of(Some(9), kind, &asked, ipxe), None, "a script is no file");
}

#[test]
fn links_are_confirmed_and_what_is_given_back_is_noted() {
    let home = table("provisioning", boot());
    let confirm = |table: &BootTable, ip| {
        let decision = run(table, &packet(MessageType::Confirm, &to_all(&[ia(1, &[ip])])), LINK_LOCAL);
        answer(&decision).and_then(|message| status(message.opts()))
    };
    assert_eq!(confirm(&home, IP), Some(Status::Success));
    assert_eq!(confirm(&home, OTHER), Some(Status::NotOnLink));
    // Plugged into another network: an address from before is not of this link, and nobody renews it here.
    let away = table("tenant", boot());
    assert_eq!(confirm(&away, OTHER), Some(Status::NotOnLink));
    assert_eq!(confirm(&away, IP), None);
    let renewed = run(&away, &packet(MessageType::Renew, &to_us(&[ia(1, &[OTHER])])), LINK_LOCAL);
    assert_eq!(given(&answer(&renewed).unwrap()), [(1, vec![], Some(Status::NoBinding))]);
    for kind in [MessageType::Release, MessageType::Decline] {
        let reply = answer(&run(&home, &packet(kind, &to_us(&[ia(1, &[IP])])), LINK_LOCAL)).unwrap();
        assert_eq!((reply.msg_type(), status(reply.opts())), (MessageType::Reply, Some(Status::Success)));
    }
    let asked = packet(MessageType::InformationRequest, &firmware(b"PXEClient", 7));
    let reply = answer(&run(&home, &asked, LINK_LOCAL)).unwrap();
    assert_eq!((url(&reply).is_some(), given(&reply).len()), (true, 0));
}

#[test]
fn what_rfc_8415_section_16_has_servers_discard_is_discarded() {
    let table = table("provisioning", boot());
    let theirs =
        [DhcpOption::ClientId(DUID_UUID.to_vec()), DhcpOption::ServerId(vec![0, 3, 0, 1, 2, 2, 2, 2, 2, 2])];
    for (kind, options) in [
        (MessageType::Solicit, vec![ia(1, &[])]),
        (MessageType::Solicit, to_us(&[ia(1, &[])])),
        (MessageType::Request, to_all(&[ia(1, &[])])),
        (MessageType::Request, theirs.to_vec()),
        (MessageType::Rebind, to_us(&[ia(1, &[IP])])),
        (MessageType::InformationRequest, to_all(&[ia(1, &[])])),
        (MessageType::Confirm, to_all(&[ia(1, &[])])),
    ] {
        let decision = run(&table, &packet(kind, &options), LINK_LOCAL);
        assert_eq!(decision.reply, None, "{kind:?} {options:?}");
        let said = |(kind, detail): &(EventKind, String)| match kind {
            EventKind::OtherServer => true,
            EventKind::Ignored { .. } => detail.starts_with("DHCPv6: expected "),
            _ => false,
        };
        assert!(decision.events.last().is_some_and(said), "{:?}", decision.events);
        // The server tells what strangers make up seldom, and where there is nobody to pin it on not at all.
        let stranger = run(&BootTable::new(), &packet(kind, &options), OPAQUE);
        assert_eq!((stranger.reply, stranger.mac), (None, None), "{:?}", stranger.events);
    }
    assert_eq!(Request6::parse(&packet(MessageType::Advertise, &[])), Err(Request6Error::Type));
    assert_eq!(Request6::parse(&[1, 2]), Err(Request6Error::Short));
    let mut loops = packet(MessageType::Solicit, &[]);
    for _ in 0..9 {
        let length = u16::try_from(loops.len()).unwrap().to_be_bytes();
        loops = [&[12, 0][..], &[0; 32], &[0, 9], &length, &loops].concat();
    }
    assert_eq!(Request6::parse(&loops), Err(Request6Error::Relays));
}

proptest! {
    /// EDK2 (PxeBcDhcp6.c) reads one to five digits and takes 16 bits of blocks, or its boot ends there.
    #[test]
    fn a_length_that_is_told_holds_the_file_and_no_block_more(size in any::<u64>(), shift in 0u32..64) {
        let size = size >> shift;
        let told = parameters_of(Some(size), MessageType::Request, &[0, 60], firmware(b"PXEClient", 7));
        match told.as_deref() {
            None => prop_assert!(size == 0 || size > 65_535 * 512),
            Some([digits]) => {
                prop_assert!((1..=5).contains(&digits.len()));
                let room = u64::from(digits.parse::<u16>().unwrap()) * 512;
                prop_assert!(room >= size && room - size < 512, "{digits} for {size}");
            }
            Some(more) => prop_assert!(false, "{more:?}"),
        }
    }

    #[test]
    fn no_packet_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 1u8..13) {
        let _ = Request6::parse(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        let table = table("provisioning", boot());
        if let Ok(request) = Request6::parse(&bytes) {
            let _ = (request.describe(), decide6(&segment(), &SIX, &table, &BootFiles::new(1), &request, LINK_LOCAL));
        }
    }

    #[test]
    fn what_goes_wrong_in_one_octet_panics_nothing(at in 0usize..200, to in any::<u8>()) {
        let options = to_us(&[firmware(b"PXEClient", 7), vec![ia(1, &[IP]), ia(2, &[OTHER])]].concat());
        let mut bytes = packet(MessageType::Request, &options);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = to;
        }
        if let Ok(request) = Request6::parse(&bytes) {
            let _ = run(&table("provisioning", boot()), &bytes, LINK_LOCAL);
            let _ = request.describe();
        }
    }
}

#[test]
fn a_port_is_elsewhere_by_its_own_address_and_not_by_its_machines_duid() {
    let table = table("other", boot());
    let solicit = packet(MessageType::Solicit, &[DhcpOption::ClientId(DUID_LL.to_vec()), ia(7, &[])]);
    for (source, moved) in [(LINK_LOCAL, Some(MAC)), (OPAQUE, None)] {
        let decision = run(&table, &solicit, source);
        assert_eq!((decision.mac, decision.moved), (Some(MAC), moved), "{source}");
        assert!(matches!(&decision.events[..], [(EventKind::WrongNetwork, _)]), "{:?}", decision.events);
    }
    let here = self::table("provisioning", boot());
    assert_eq!(run(&here, &solicit, LINK_LOCAL).moved, None);
}
