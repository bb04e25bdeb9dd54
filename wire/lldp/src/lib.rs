//! LLDP, the listening half: what a switch says of itself and of the port at the other end of a cable (IEEE 802.1AB-2016).
//!
//! Sans-IO: an Ethernet frame in, a [`Neighbour`] out. It must never know where frames come from.
//!
//! ```text
//! frame   destination 6 | source 6 | EtherType 0x88CC | TLVs          §7, §8.1
//! TLV     type 7 bits | length 9 bits | value                         §8.4
//! order   chassis id, port id, time to live, any others, end          §8.2
//! ```
//!
//! Start with [`Neighbour::parse`].

mod id;
mod tlv;

use std::net::IpAddr;

pub use id::MAX_TEXT_CHARS;

/// EtherType of LLDP (§7.3).
pub const ETHER_TYPE: u16 = 0x88CC;
/// Management addresses that are kept of one neighbour: switches tell one or two.
pub const MAX_ADDRESSES: usize = 8;

/// What the other end of the cable says. Texts are printable and at most [`MAX_TEXT_CHARS`] long; those that it does not
/// say are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighbour {
    /// Which device: often the switch's MAC address, lower case with colons.
    pub chassis_id: String,
    /// Which of its ports: often a name such as `Ethernet1/7`.
    pub port_id: String,
    /// Seconds that this holds; 0: the neighbour goes (§8.5.4).
    pub ttl: u16,
    /// What somebody wrote at the port, or its name.
    pub port_description: String,
    pub system_name: String,
    /// Maker, model and software.
    pub system_description: String,
    /// Where it is managed.
    pub management_addresses: Vec<IpAddr>,
    /// VLAN of frames without a tag (IEEE 802.1Q annex D, Port VLAN ID); `None`: not said, or none.
    pub vlan: Option<u16>,
}

/// Why a frame is none of LLDP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another protocol's, or too short for any.
    #[error("expected EtherType 0x88cc, saw another")]
    NotLldp,
    /// A TLV is longer than what is left.
    #[error("expected {expected} more bytes of a TLV, saw {seen}")]
    Cut {
        /// Bytes that its length says.
        expected: usize,
        /// Bytes that came.
        seen: usize,
    },
    /// The three that every frame begins with are not there, each once and in order (§9.2.7.7.1).
    #[error("expected chassis id, port id and time to live first")]
    Incomplete,
}

impl Neighbour {
    /// Reads a whole Ethernet frame, as a packet socket gives it. Unknown TLVs are passed over; one that is known and
    /// malformed says nothing, as §9.2.7.7.2 has it.
    pub fn parse(frame: &[u8]) -> Result<Self, FrameError> {
        let kind = frame.get(12..14).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes);
        let payload = frame.get(14..).filter(|_| kind == Some(ETHER_TYPE)).ok_or(FrameError::NotLldp)?;
        let mut tlvs = tlv::Tlvs::new(payload);
        let mut next = |kind: u8| match tlvs.next() {
            Some(Ok(tlv)) if tlv.kind == kind => Ok(tlv.value),
            Some(Err(cut)) => Err(cut),
            _ => Err(FrameError::Incomplete),
        };
        let chassis_id = next(tlv::CHASSIS_ID).map(id::chassis)?.ok_or(FrameError::Incomplete)?;
        let port_id = next(tlv::PORT_ID).map(id::port)?.ok_or(FrameError::Incomplete)?;
        let ttl = next(tlv::TTL)?.first_chunk().copied().map(u16::from_be_bytes);
        let ttl = ttl.ok_or(FrameError::Incomplete)?;
        let mut seen = Self { chassis_id, port_id, ttl, ..Self::default() };
        for tlv in tlvs {
            seen.add(tlv?);
        }
        Ok(seen)
    }

    fn add(&mut self, tlv: tlv::Tlv<'_>) {
        match tlv.kind {
            tlv::PORT_DESCRIPTION => self.port_description = id::text(tlv.value),
            tlv::SYSTEM_NAME => self.system_name = id::text(tlv.value),
            tlv::SYSTEM_DESCRIPTION => self.system_description = id::text(tlv.value),
            tlv::MANAGEMENT_ADDRESS => {
                let address = tlv::management_address(tlv.value);
                let room = self.management_addresses.len() < MAX_ADDRESSES;
                self.management_addresses.extend(address.filter(|_| room));
            }
            tlv::ORGANISATION => {
                if let Some([a, b]) = tlv.value.strip_prefix(&tlv::PORT_VLAN_ID) {
                    // 0: the port takes no frame without a tag.
                    self.vlan = Some(u16::from_be_bytes([*a, *b]) & 0x0FFF).filter(|vlan| *vlan != 0);
                }
            }
            _ => {}
        }
    }
}
