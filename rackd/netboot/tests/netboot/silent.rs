//! Answers that go to addresses that nobody has. They wait for ARP for three seconds, some two hundred of them, and keep nobody
//! else from an answer.

use std::net::{Ipv4Addr, UdpSocket};

use dhcproto::{
    Encodable as _,
    v4::{DhcpOption, Message, MessageType},
};
use farrier_netboot::{Boot, BootEntry, Config, MacAddr, Segment};

use crate::dhcp_clients::{script, told, udhcpc};
use crate::lab::{Cable, HTTP_PORT, MAC, Namespace, Running, SERVER_IP, entry, noise, segment, table, text};
use crate::relay::Routed;

/// As many as would be a minute's worth of answers, were each waited for.
const FORGED: u32 = 3000;

/// Of 150 addresses of the segment that nobody has.
fn silent(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 77, 0, 100).to_bits() + n % 150)
}

fn forge(
    from: &Namespace,
    mac: MacAddr,
    kind: MessageType,
    ciaddr: fn(u32) -> Ipv4Addr,
    giaddr: fn(u32) -> Ipv4Addr,
) {
    from.inside(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let any = Ipv4Addr::UNSPECIFIED;
        for n in 0..FORGED {
            // None of them says what another said.
            let mut message = Message::new_with_id(n, ciaddr(n), any, any, giaddr(n), &mac.0);
            message.opts_mut().insert(DhcpOption::MessageType(kind));
            let _ = socket.send_to(&message.to_vec().unwrap(), (SERVER_IP, 67));
        }
    });
}

fn none(_: u32) -> Ipv4Addr {
    Ipv4Addr::UNSPECIFIED
}

fn without_room(server: &Running, protocol: &str) -> bool {
    let sample = format!("unsent_answers_total{{protocol=\"{protocol}\",why=\"no_room\"}}");
    server.netboot.metrics().lines().any(|line| line.contains(&sample))
}

#[test]
fn informs_from_addresses_that_nobody_has_keep_udhcpc_from_nothing() {
    let cable = Cable::addressed();
    let server = Running::start(&cable.server, Config::new(HTTP_PORT), table(segment(), Boot::None));
    forge(&cable.client, MAC, MessageType::Inform, silent, none);
    let output = udhcpc(&cable, &[]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(told(&cable).contains("ip=10.77.0.50"), "{}", told(&cable));
    assert!(without_room(&server, "dhcp"), "nothing was too much: {}", server.netboot.metrics());
}

#[test]
fn relays_that_nobody_is_keep_no_relay_from_its_answer() {
    let routed = Routed::new();
    let behind = Segment {
        behind_relay: Some("10.79.0.0".parse().unwrap()),
        gateway: Some("10.79.0.1".parse().unwrap()),
        ..Segment::new("far", "", SERVER_IP.parse().unwrap(), 24)
    };
    let other = MacAddr([0x52, 0x54, 0, 0x77, 0, 9]);
    let mut table = table(segment(), Boot::None);
    table.unpublish_mac(MAC);
    table.set_segments(vec![segment(), behind]);
    table.publish(BootEntry { mac: other, ..entry(Boot::None) });
    table.publish(BootEntry { network: "far".into(), ip: [10, 79, 0, 50].into(), ..entry(Boot::None) });
    let server = Running::start(&routed.near.server, Config::new(HTTP_PORT), table);
    forge(&routed.near.client, other, MessageType::Discover, none, silent);
    let args = ["-f", "-q", "-n", "-t", "5", "-T", "1", "-i", "c0", "-s", &script(&routed.far)];
    let output = routed.far.client.client(30, "udhcpc", "udhcpc", &args);
    assert!(output.status.success(), "{} {:#?}", text(&output), server.netboot.trace(MAC));
    assert!(told(&routed.far).contains("ip=10.79.0.50"));
    assert!(without_room(&server, "dhcp"), "nothing was too much: {}", server.netboot.metrics());
}

/// With a port for each transfer, and with one for all.
#[test]
fn refusals_to_addresses_that_nobody_has_keep_curl_from_no_file() {
    for single in [false, true] {
        let cable = Cable::addressed();
        let mut config = Config::new(HTTP_PORT);
        config.tftp_single_port = single;
        config.files.insert("f".into(), noise(100_000).into());
        let server = Running::start(&cable.server, config, table(segment(), Boot::None));
        // They can be sent from, and nobody answers ARP for them; nor is one of them named when the server is asked for.
        cable.client.sh("echo 1 > /proc/sys/net/ipv4/conf/c0/arp_ignore; echo 2 > /proc/sys/net/ipv4/conf/c0/arp_announce");
        let add: Vec<_> = (0..150).map(|n| format!("ip addr add {}/32 dev lo", silent(n))).collect();
        cable.client.sh(&add.join("; "));
        cable.client.inside(|| {
            let sockets: Vec<_> = (0..150).map(|n| UdpSocket::bind((silent(n), 0)).unwrap()).collect();
            for socket in sockets.iter().cycle().take(FORGED as usize) {
                let _ = socket.send_to(b"\0\x01missing\0octet\0", (SERVER_IP, 69));
            }
        });
        let url = format!("tftp://{SERVER_IP}/f");
        let args = ["-sS", "--fail", "--interface", crate::lab::CLIENT_IP, "-o", "-", &url];
        let output = cable.client.client(10, "curl", "curl", &args);
        assert!(
            output.stdout == noise(100_000),
            "single port: {single}, {}",
            String::from_utf8_lossy(&output.stderr)
        );
        drop(server);
    }
}
