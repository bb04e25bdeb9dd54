//! Type, length, value (§8.4), and the values that are no ids.

use crate::FrameError;
use crate::id::network_address;
use std::net::IpAddr;

pub(crate) const CHASSIS_ID: u8 = 1;
pub(crate) const PORT_ID: u8 = 2;
pub(crate) const TTL: u8 = 3;
pub(crate) const PORT_DESCRIPTION: u8 = 4;
pub(crate) const SYSTEM_NAME: u8 = 5;
pub(crate) const SYSTEM_DESCRIPTION: u8 = 6;
pub(crate) const MANAGEMENT_ADDRESS: u8 = 8;
pub(crate) const ORGANISATION: u8 = 127;
/// OUI of IEEE 802.1 and its subtype of the Port VLAN ID (IEEE 802.1Q §D.2.1).
pub(crate) const PORT_VLAN_ID: [u8; 4] = [0x00, 0x80, 0xC2, 1];
const END: u8 = 0;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Tlv<'a> {
    pub(crate) kind: u8,
    pub(crate) value: &'a [u8],
}

/// Those of a frame, without the end. A frame may end without one: senders that forget it exist.
pub(crate) struct Tlvs<'a>(&'a [u8]);

impl<'a> Tlvs<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<Tlv<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.0.split_first_chunk::<2>()?;
        let head = u16::from_be_bytes(*head);
        let (kind, length) = ((head >> 9) as u8, usize::from(head & 0x1FF));
        if kind == END {
            // What follows is the padding of a short frame.
            self.0 = &[];
            return None;
        }
        let Some((value, rest)) = rest.split_at_checked(length) else {
            self.0 = &[];
            return Some(Err(FrameError::Cut { expected: length, seen: rest.len() }));
        };
        self.0 = rest;
        Some(Ok(Tlv { kind, value }))
    }
}

/// Length of family and address, both, and the interface it is of (§8.5.9). Others than IP are passed over.
pub(crate) fn management_address(value: &[u8]) -> Option<IpAddr> {
    let (length, rest) = value.split_first()?;
    network_address(rest.get(..usize::from(*length))?)
}
