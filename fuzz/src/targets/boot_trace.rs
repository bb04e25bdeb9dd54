//! Packets of anybody as a boot trace tells them, DHCPv4 and DHCPv6: text for somebody's terminal.

use farrier_netboot::{dhcp_in_words, dhcp6_in_words};

pub fn run(data: &[u8]) {
    // The fixed fields of DHCPv4 before the input, too, so that options are reached.
    let mut packet = vec![1, 1, 6, 0];
    packet.resize(236, 0);
    packet.extend([99, 130, 83, 99]);
    packet.extend(data);
    for text in [dhcp_in_words(data), dhcp_in_words(&packet), dhcp6_in_words(data)] {
        assert!(text.bytes().all(|b| (0x20..0x7f).contains(&b)), "{text}");
        // The longest, and the word that there was more.
        assert!(text.len() <= 2048 + " and more".len(), "{}", text.len());
    }
}
