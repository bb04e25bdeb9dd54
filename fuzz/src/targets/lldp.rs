//! A frame of a switch, or of whoever is at the other end of the cable.

use farrier_lldp::{ETHER_TYPE, MAX_ADDRESSES, MAX_TEXT_CHARS, Neighbour};

pub fn run(data: &[u8]) {
    let _any_protocol = Neighbour::parse(data);
    let mut frame = vec![0; 12];
    frame.extend_from_slice(&ETHER_TYPE.to_be_bytes());
    frame.extend_from_slice(data);
    if let Ok(seen) = Neighbour::parse(&frame) {
        let texts = [
            &seen.chassis_id,
            &seen.port_id,
            &seen.port_description,
            &seen.system_name,
            &seen.system_description,
        ];
        for text in texts {
            assert!(
                text.chars().count() <= MAX_TEXT_CHARS && !text.chars().any(char::is_control),
                "{text:?}"
            );
        }
        assert!(seen.management_addresses.len() <= MAX_ADDRESSES);
        assert!(seen.vlan.is_none_or(|vlan| (1..=0x0FFF).contains(&vlan)));
    }
}
