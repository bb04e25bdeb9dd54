//! Answers no larger than their client takes (option 57, RFC 2132 §9.10): what is left out, and what moves into the fields for
//! names (option 52, §9.3).

use std::cmp::Reverse;

use dhcproto::{
    Encodable as _,
    v4::{DhcpOption, Message, OptionCode},
};

/// What makes an answer smaller.
enum Step {
    /// One option less.
    LeaveOut(OptionCode),
    /// Options move into `sname` and `file`, as long as these say nothing. Every client must read them there.
    UseEmptyFields,
    /// They move there though a name is there too, which is an option as well: ROMs that are older than RFC 2131 do not look.
    UseFields,
    /// No name servers, unless the boot file's URL has a name that they are asked for.
    NoNameServers,
    /// An address without a boot file is better than none.
    NoBootFile,
}

/// The mildest first; each is added to those before it. What it boots by goes last.
const STEPS: [Step; 12] = [
    // `siaddr` says it.
    Step::LeaveOut(OptionCode::TFTPServerName),
    // RFC 2131 §4.4.5: clients reckon the same ones from option 51.
    Step::LeaveOut(OptionCode::Renewal),
    Step::LeaveOut(OptionCode::Rebinding),
    Step::UseEmptyFields,
    // iPXE waits a while for a proxy that does not come.
    Step::LeaveOut(OptionCode::Unknown(175)),
    Step::LeaveOut(OptionCode::DomainName),
    Step::LeaveOut(OptionCode::Hostname),
    Step::NoNameServers,
    Step::UseFields,
    Step::LeaveOut(OptionCode::ClientMachineIdentifier),
    Step::NoBootFile,
    Step::LeaveOut(OptionCode::DomainNameServer),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fields {
    Kept,
    IfEmpty,
    Both,
}

/// Makes a message fit into `limit` octets. Which options it is without then, besides those that it did not have.
pub(super) fn fit(message: &mut Message, limit: usize) -> Vec<OptionCode> {
    let (mut left_out, mut fields) = (Vec::new(), Fields::Kept);
    let mut steps = STEPS.iter();
    while length(message).is_some_and(|length| length > limit) {
        if let Some(smaller) = overloaded(message, limit, fields) {
            *message = smaller;
            break;
        }
        // There is no answer that goes on after the last of them: what is left has a largest size.
        let Some(step) = steps.next() else { break };
        match step {
            Step::LeaveOut(code) => left_out.extend(message.opts_mut().remove(*code).map(|_| *code)),
            Step::NoNameServers if boots_by_name(message) => {}
            Step::NoNameServers => {
                let code = OptionCode::DomainNameServer;
                left_out.extend(message.opts_mut().remove(code).map(|_| code));
            }
            Step::UseEmptyFields => fields = Fields::IfEmpty,
            Step::UseFields => fields = Fields::Both,
            Step::NoBootFile => {
                message.clear_fname();
                message.clear_sname();
                for code in [OptionCode::BootfileName, OptionCode::ClassIdentifier] {
                    left_out.extend(message.opts_mut().remove(code).map(|_| code));
                }
            }
        }
    }
    left_out
}

/// Whether its boot file (option 67) is a URL with a name in place of an address: that of a certificate.
fn boots_by_name(message: &Message) -> bool {
    let Some(DhcpOption::BootfileName(file)) = message.opts().get(OptionCode::BootfileName) else {
        return false;
    };
    let url = std::str::from_utf8(file).ok().and_then(|file| file.split_once("://"));
    let authority = url.and_then(|(_, rest)| rest.split('/').next());
    let host = authority.map(|authority| authority.split(':').next().unwrap_or_default());
    // Of IPv6 they have brackets.
    host.is_some_and(|host| !host.starts_with('[') && host.parse::<std::net::Ipv4Addr>().is_err())
}

fn length(message: &Message) -> Option<usize> {
    message.to_vec().ok().map(|bytes| bytes.len())
}

/// Where options go.
struct Area {
    room: usize,
    bytes: Vec<u8>,
    /// Its bit in option 52; 0: the options field itself.
    bit: u8,
}

/// Each option whole in one place, the longest first. `None`: they do not go in.
fn overloaded(message: &Message, limit: usize, fields: Fields) -> Option<Message> {
    let usable = |name: Option<&[u8]>| match fields {
        Fields::Kept => false,
        Fields::IfEmpty => name.is_none_or(<[u8]>::is_empty),
        Fields::Both => true,
    };
    let area = |room, bit| Area { room, bytes: Vec::new(), bit };
    // Option 52 itself, and what ends each place (RFC 2132 §9.3).
    let mut areas = vec![area(limit.checked_sub(super::request::HEADER + 3 + 1)?, 0)];
    areas.extend(usable(message.sname()).then(|| area(SNAME - 1, 2)));
    areas.extend(usable(message.fname()).then(|| area(FILE - 1, 1)));
    let encoded = message.opts().iter().map(|(code, option)| option.to_vec().map(|bytes| (*code, bytes)));
    let mut options: Vec<_> = encoded.collect::<Result<_, _>>().ok()?;
    // What kind of message it is must be known before option 52 is.
    options.sort_by_key(|(code, bytes)| (*code != OptionCode::MessageType, Reverse(bytes.len())));
    let mut out = message.clone();
    for (code, bytes) in options {
        let area = areas.iter_mut().find(|area| area.room >= bytes.len())?;
        area.room -= bytes.len();
        area.bytes.extend(bytes);
        if area.bit != 0 {
            out.opts_mut().remove(code);
        }
    }
    let mut used = 0;
    for mut area in areas.into_iter().filter(|area| area.bit != 0 && !area.bytes.is_empty()) {
        area.bytes.push(END);
        used |= area.bit;
        // Not longer than their fields, see `room`.
        if area.bit == 2 {
            out.set_sname(&area.bytes)
        } else {
            out.set_fname(&area.bytes)
        };
    }
    out.opts_mut().insert(DhcpOption::OptionOverload(used));
    (used != 0).then_some(out)
}

const SNAME: usize = 64;
const FILE: usize = 128;
const END: u8 = 255;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use dhcproto::{Decodable as _, Decoder, v4::MessageType};
    use proptest::prelude::*;

    use super::super::{Client, Reply, Request, pxe::BootFile, request, tests::discover};
    use super::*;
    use crate::{Dhcp, Segment};

    const IP: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 50);

    fn segment(domain: usize, dns: usize) -> Segment {
        Segment {
            gateway: Some(Ipv4Addr::new(10, 1, 0, 254)),
            domain: Some("d".repeat(domain)),
            dns: vec![Ipv4Addr::new(10, 1, 0, 2); dns],
            ..Segment::new("lab", "br0", Ipv4Addr::new(10, 1, 0, 1), 24)
        }
    }

    /// An answer as its client reads it, option 82 apart: options by code, also of `file` and `sname`.
    fn read(reply: &Reply) -> (usize, std::collections::BTreeMap<u8, Vec<u8>>) {
        let bytes = Reply { relay_info: None, ..reply.clone() }.bytes().unwrap();
        let (header, options) = bytes.split_at(request::HEADER);
        Message::decode(&mut Decoder::new(&bytes)).unwrap();
        let end = bytes.iter().rposition(|byte| *byte == END).unwrap() + 1;
        let options = request::all_options(header, options);
        (end, options.into_iter().map(|(code, value)| (code, value.into_owned())).collect())
    }

    fn lease(request: &Request, segment: &Segment, host: usize, boot: &BootFile) -> Reply {
        Reply::lease(request, segment, MessageType::Ack, IP, &"h".repeat(host), boot)
    }

    #[test]
    fn what_says_nothing_new_goes_first_and_then_the_fields_for_names_are_used() {
        let asks = |largest: Option<u16>, client| Request { largest, client, ..discover(1) };
        let system = asks(Some(576), Client::Other);
        // There is room for all of it.
        let (size, options) = read(&lease(&system, &segment(100, 8), 63, &BootFile::Nothing));
        assert!(size <= 548 && options.contains_key(&58) && !options.contains_key(&52), "{size} {options:?}");
        // Without T1 and T2 it fits.
        let reply = lease(&system, &segment(175, 8), 63, &BootFile::Nothing);
        let (size, options) = read(&reply);
        assert!(size <= 548 && !options.contains_key(&59) && options.contains_key(&15), "{size} {options:?}");
        assert!(
            !options.contains_key(&52) && reply.shortened().contains("without options 58 59"),
            "{options:?}"
        );
        // More than that is nowhere lost, but elsewhere.
        let (size, options) = read(&lease(&system, &segment(200, 8), 63, &BootFile::Nothing));
        assert!(size <= 548, "{size}");
        assert_eq!(options[&52].len(), 1);
        assert_eq!((options[&15].len(), options[&12].len(), options[&6].len()), (200, 63, 32));
        // Whoever takes more is told more.
        let (size, options) =
            read(&lease(&asks(Some(1500), Client::Other), &segment(200, 8), 63, &BootFile::Nothing));
        assert!(size > 548 && options.contains_key(&58) && !options.contains_key(&52), "{size}");
        // Firmware is told its file in `file`, and goes without its domain.
        let boot = BootFile::Script("http://10.1.0.1:8080/boot/52-54-00-00-00-01.ipxe".into());
        let reply = lease(&asks(None, Client::Ipxe), &segment(200, 8), 63, &boot);
        let (size, options) = read(&reply);
        assert!(size <= 548 && !options.contains_key(&15) && options.contains_key(&67), "{size} {options:?}");
        assert!(reply.message.fname_str().unwrap().unwrap().starts_with("http://10.1.0.1:8080/boot/"));
    }

    #[test]
    fn the_longest_identifier_and_the_longest_url_leave_an_address() {
        let id = Some(vec![7; 255]);
        let request = Request { client_id: id.clone(), client: Client::Http, ..discover(1) };
        let boot = BootFile::Http(format!("https://{}/firmware/snponly.efi", "n".repeat(253)));
        let reply = lease(&request, &segment(0, 0), 0, &boot);
        let (size, options) = read(&reply);
        assert!(size <= 548, "{size}");
        assert_eq!((options.get(&61), options.get(&67), options.get(&60)), (id.as_ref(), None, None));
        assert!(reply.shortened().contains("67"), "{}", reply.shortened());
    }

    #[test]
    fn who_boots_by_a_name_is_told_whom_to_ask_for_it() {
        let request = Request { client_id: Some(vec![7; 200]), client: Client::Http, ..discover(1) };
        let told = |host: &str| {
            let url = format!("https://{host}/{}", "f".repeat(110 - host.len()));
            let reply = lease(&request, &segment(200, 8), 63, &BootFile::Http(url.clone()));
            let (size, options) = read(&reply);
            assert!(
                size <= 548 && options[&67] == url.as_bytes() && !options.contains_key(&12),
                "{options:?}"
            );
            options.contains_key(&6)
        };
        assert!(told("boot.rack.example") && told("boot.rack.example:8443"));
        assert!(!told("10.1.0.1:8443") && !told("[2001:db8::1]:8443"));
    }

    prop_compose! {
        fn requests()(
            largest in prop_oneof![Just(None), any::<u16>().prop_map(Some), (540u16..700).prop_map(Some)],
            id in prop::option::of(prop::collection::vec(any::<u8>(), 1..=255)),
            guid in prop::option::of(prop::collection::vec(any::<u8>(), 2..=32)),
            relay in prop::option::of(prop::collection::vec(any::<u8>(), 1..600)),
            which in 0usize..4,
        ) -> Request {
            let client = [Client::Other, Client::Ipxe, Client::Pxe, Client::Http][which];
            let giaddr = if relay.is_some() { Ipv4Addr::new(10, 1, 0, 9) } else { Ipv4Addr::UNSPECIFIED };
            let subnet_selection = Some(IP).filter(|_| relay.is_some());
            let relay_info = relay;
            Request { largest, client_id: id, machine_id: guid, relay_info, giaddr, subnet_selection, client, ..discover(1) }
        }
    }

    proptest! {
        #[test]
        fn an_answer_fits_and_keeps_what_is_necessary(
            request in requests(), domain in 0usize..=255, dns in 0usize..12, host in 0usize..=255,
            url in 1usize..=300, proxy in any::<bool>(), kind in 0usize..3,
        ) {
            let segment = Segment { dhcp: if proxy { Dhcp::Proxy } else { Dhcp::Ours }, ..segment(domain, dns) };
            let name = "u".repeat(url);
            let boot = match request.client {
                Client::Other => BootFile::Nothing,
                Client::Ipxe => BootFile::Script(name),
                Client::Pxe => BootFile::Tftp(name),
                Client::Http => BootFile::Http(name),
            };
            let host = "h".repeat(host);
            let reply = match (proxy, kind) {
                (true, _) => Reply::proxy(&request, &segment, MessageType::Offer, &boot),
                (false, 0) => Reply::nak(&request, &segment, "wrong address"),
                (false, 1) => Reply::inform(&request, &segment, &host, &boot),
                (false, _) => Reply::lease(&request, &segment, MessageType::Offer, IP, &host, &boot),
            };
            // RFC 2131 §2: a datagram of 576 octets is what every client takes; headers of IP and UDP are 28 of them.
            let takes = usize::from(request.largest.unwrap_or(0).max(576)) - 28;
            let (size, options) = read(&reply);
            prop_assert!(size <= takes, "{size} of {takes}");
            prop_assert!(size <= 1472, "{size} on Ethernet");
            prop_assert_eq!(options[&53].len(), 1);
            prop_assert_eq!(&options[&54][..], &[10, 1, 0, 1]);
            // RFC 6842 §3, RFC 3011 §3.
            prop_assert_eq!(options.get(&61), request.client_id.as_ref());
            prop_assert_eq!(options.contains_key(&118), request.subnet_selection.is_some());
            let is_lease = !proxy && kind == 2;
            prop_assert_eq!(options.contains_key(&51), is_lease);
            prop_assert_eq!(options.contains_key(&1) && options.contains_key(&3), !proxy && kind != 0);
            prop_assert!(reply.relay_info == request.relay_info);
            let boots = boot != BootFile::Nothing && (proxy || kind != 0);
            // An identifier as long as RFC 8415 has them, and a file's address of a usual length.
            if boots && url <= 120 && request.client_id.as_ref().is_none_or(|id| id.len() <= 135) {
                prop_assert_eq!(options[&67].len(), url);
            }
            let all = request.largest.is_some_and(|largest| largest >= 1500) && request.relay_info.is_none();
            if all && !proxy && kind != 0 {
                prop_assert!(reply.shortened().is_empty() && !options.contains_key(&52));
            }
        }
    }
}
