//! The IPMI message inside a LAN session (§13.8, Figure 13-4): who asks whom what, two checksums.

use ipmi_rs_core::connection::Message;

use crate::ParseError;
use crate::reader::Reader;

/// The BMC's slave address on the IPMB (§13.8).
pub const BMC_ADDRESS: u8 = 0x20;
/// The remote console's software id (§5.5: 81h is "remote console software 0").
pub const CONSOLE_ADDRESS: u8 = 0x81;

/// Network function codes are even in requests, odd in responses (§5.1).
const NETFN_RESPONSE_BIT: u8 = 0x01;

/// One request or response.
///
/// ```text
///  to | netFn<<2 + LUN | sum1 | from | rqSeq<<2 + LUN | cmd | data … | sum2
/// ```
/// In a response the first data byte is the completion code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanMessage {
    /// rsAddr in a request, rqAddr in a response.
    pub to: u8,
    /// Network function, 6 bits.
    pub netfn: u8,
    /// LUN of the addressee, 2 bits.
    pub to_lun: u8,
    /// rqAddr in a request, rsAddr in a response.
    pub from: u8,
    /// Request sequence number, 6 bits: pairs a response with its request.
    pub rq_seq: u8,
    /// LUN of the sender, 2 bits.
    pub from_lun: u8,
    /// Command number.
    pub cmd: u8,
    /// Request data, or completion code and response data.
    pub data: Vec<u8>,
}

impl LanMessage {
    /// A request to the BMC itself.
    #[must_use]
    pub fn request(message: &Message, rq_seq: u8) -> Self {
        Self {
            to: BMC_ADDRESS,
            netfn: message.netfn_raw() & 0x3F,
            to_lun: 0,
            from: CONSOLE_ADDRESS,
            rq_seq: rq_seq & 0x3F,
            from_lun: 0,
            cmd: message.cmd(),
            data: message.data().to_vec(),
        }
    }

    /// The response to this request: addresses swapped, same rqSeq, odd netFn.
    #[must_use]
    pub fn respond(&self, completion_code: u8, data: &[u8]) -> Self {
        let mut body = Vec::with_capacity(data.len() + 1);
        body.push(completion_code);
        body.extend_from_slice(data);
        Self {
            to: self.from,
            netfn: self.netfn | NETFN_RESPONSE_BIT,
            to_lun: self.from_lun,
            from: self.to,
            rq_seq: self.rq_seq,
            from_lun: self.to_lun,
            cmd: self.cmd,
            data: body,
        }
    }

    /// Whether this is a request by its network function.
    #[must_use]
    pub fn is_request(&self) -> bool {
        self.netfn & NETFN_RESPONSE_BIT == 0
    }

    /// **Invariant:** a response answers a request only if rqSeq, network function and command all
    /// agree. A late answer to an earlier request of the same command differs in rqSeq.
    #[must_use]
    pub fn answers(&self, request: &Self) -> bool {
        self.rq_seq == request.rq_seq
            && self.netfn == request.netfn | NETFN_RESPONSE_BIT
            && self.cmd == request.cmd
            && !self.is_request()
    }

    /// The bytes of the payload.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.data.len() + 7);
        let first = [self.to, (self.netfn << 2) | (self.to_lun & 0x03)];
        out.extend_from_slice(&first);
        out.push(checksum(&first));
        let second = [self.from, (self.rq_seq << 2) | (self.from_lun & 0x03), self.cmd];
        out.extend_from_slice(&second);
        out.extend_from_slice(&self.data);
        out.push(checksum(&second).wrapping_add(checksum(&self.data)));
        out
    }

    /// Reads a whole payload; both checksums must be right.
    pub fn parse(payload: &[u8]) -> Result<Self, ParseError> {
        const WHAT: &str = "IPMI LAN message";
        let Some((&seen, body)) = payload.split_last() else {
            return Err(ParseError::Truncated { what: WHAT, expected: 7, seen: 0 });
        };
        let mut reader = Reader::new(WHAT, body);
        let [to, netfn_lun, sum1] = reader.array()?;
        let expected = checksum(&[to, netfn_lun]);
        if sum1 != expected {
            return Err(ParseError::Checksum { what: WHAT, expected, seen: sum1 });
        }
        let [from, seq_lun, cmd] = reader.array()?;
        let data = reader.rest();
        let expected = checksum(&[from, seq_lun, cmd]).wrapping_add(checksum(data));
        if seen != expected {
            return Err(ParseError::Checksum { what: WHAT, expected, seen });
        }
        Ok(Self {
            to,
            netfn: netfn_lun >> 2,
            to_lun: netfn_lun & 0x03,
            from,
            rq_seq: seq_lun >> 2,
            from_lun: seq_lun & 0x03,
            cmd,
            data: data.to_vec(),
        })
    }
}

/// Two's complement of the sum, so that bytes and checksum add up to zero (§13.8).
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::LanMessage;

    /// Get Channel Authentication Capabilities as `ipmitool -I lanplus` 1.8.19 sends it.
    const IPMITOOL_GET_AUTH_CAP: [u8; 9] = [0x20, 0x18, 0xC8, 0x81, 0x00, 0x38, 0x8E, 0x04, 0xB5];

    #[test]
    fn reads_and_writes_the_bytes_of_ipmitool() {
        let message = LanMessage::parse(&IPMITOOL_GET_AUTH_CAP).unwrap();
        assert_eq!((message.netfn, message.cmd, message.data.as_slice()), (0x06, 0x38, &[0x8E, 0x04][..]));
        assert_eq!(message.to_bytes(), IPMITOOL_GET_AUTH_CAP);
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        for bit in 0..IPMITOOL_GET_AUTH_CAP.len() * 8 {
            let mut bytes = IPMITOOL_GET_AUTH_CAP;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(LanMessage::parse(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_late_answer_to_an_earlier_request_is_not_taken() {
        let first = LanMessage::parse(&IPMITOOL_GET_AUTH_CAP).unwrap();
        let second = LanMessage { rq_seq: 1, ..first.clone() };
        assert!(first.respond(0, &[]).answers(&first));
        assert!(!first.respond(0, &[]).answers(&second));
        assert!(!first.answers(&first));
    }
}
