//! What other DHCPv6 servers and routers of a segment say, as it is looked at to find those that are not ours.

use farrier_netboot::Dhcp6;
use farrier_netboot::dhcp6::{describe_advertisement, describe_answer};

pub fn run(data: &[u8]) {
    // A server's head before the input, too, and a router's, so that options are reached.
    let server = [&[2, 1, 2, 3, 0, 2, 0, 2, 0, 9][..], data].concat();
    let router = [&[134, 0, 0, 0, 64, 0x80][..], &[0; 10], data].concat();
    let six = Dhcp6::new([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(), 64);
    let answers = [data, &server].map(describe_answer);
    let advertisements = [data, &router].map(|bytes| describe_advertisement(bytes, &six));
    for said in answers.into_iter().chain(advertisements).flatten() {
        assert!(said.bytes().all(|b| (0x20..0x7f).contains(&b)) && said.len() < 300, "{said}");
    }
}
