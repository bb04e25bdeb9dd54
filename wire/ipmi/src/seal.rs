//! A packet of an established session: encrypt, then MAC; and the other way round.

use zeroize::Zeroizing;

use crate::crypto::{BLOCK, SessionKeys};
use crate::v20::{self, Packet, PayloadType};

/// RMCP+ "next header" (§13.6, Table 13-8): always 07h.
const NEXT_HEADER: u8 = 0x07;

/// Why a packet of the session was thrown away. None of these ends the session: anyone on the
/// network can send rubbish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The session requires a MAC and encryption on every packet.
    #[error("packet is not both encrypted and authenticated, as this session requires")]
    Unprotected,
    /// Session id is another one.
    #[error("session id expected {expected:#010x}, seen {seen:#010x}")]
    OtherSession {
        /// The id we chose.
        expected: u32,
        /// The id in the packet.
        seen: u32,
    },
    /// The MAC is wrong, or there are too few bytes for one.
    #[error("integrity check (MAC) of the packet is wrong")]
    BadMac,
    /// The MAC is right, so the peer itself built a malformed packet.
    #[error("malformed although its MAC is right: {0}")]
    Malformed(&'static str),
    /// The session sequence number was seen before, or is too old.
    #[error("session sequence number {0} was seen before or is too old")]
    Replayed(u32),
}

/// The whole datagram. `iv` must be fresh random bytes for each packet (§13.29).
pub(crate) fn seal(
    keys: &SessionKeys,
    payload_type: PayloadType,
    session_id: u32,
    sequence: u32,
    payload: &[u8],
    iv: &[u8; BLOCK],
) -> Vec<u8> {
    let mut out = v20::emit_header(payload_type, true, session_id, sequence, &encrypt(keys, payload, iv));
    // Integrity pad: FFh until the bytes the MAC covers, pad length and next header included, are a
    // multiple of 4 (Table 13-8). The RMCP header, itself 4 bytes, is not covered.
    let pad = (4 - (out.len() + 2) % 4) % 4;
    out.resize(out.len() + pad, 0xFF);
    out.push(u8::try_from(pad).unwrap_or(0));
    out.push(NEXT_HEADER);
    let mac = out.get(crate::rmcp::HEADER_LEN..).map(|covered| keys.mac(covered));
    if let Some(mac) = mac {
        out.extend_from_slice(&mac);
    }
    out
}

/// The payload in clear.
///
/// **Invariant:** the MAC is verified before anything else in the packet is used.
pub(crate) fn open(
    keys: &SessionKeys,
    session_id: u32,
    packet: &Packet<'_>,
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    if packet.session_id != session_id {
        return Err(OpenError::OtherSession { expected: session_id, seen: packet.session_id });
    }
    if !(packet.encrypted && packet.authenticated) {
        return Err(OpenError::Unprotected);
    }
    let mac_len = keys.suite.mac_len();
    let covered_len = packet.authenticated_part.len().checked_sub(mac_len).ok_or(OpenError::BadMac)?;
    let trailer_len = packet.trailer.len().checked_sub(mac_len).ok_or(OpenError::BadMac)?;
    let (covered, mac) = packet.authenticated_part.split_at_checked(covered_len).ok_or(OpenError::BadMac)?;
    if !keys.verify(covered, mac) {
        return Err(OpenError::BadMac);
    }
    let trailer = packet.trailer.get(..trailer_len).ok_or(OpenError::BadMac)?;
    let [pad @ .., pad_len, next_header] = trailer else {
        return Err(OpenError::Malformed("no pad length and next header"));
    };
    if *next_header != NEXT_HEADER {
        return Err(OpenError::Malformed("next header is not 07h"));
    }
    // The content of the pad is not checked: the MAC covers it and some BMCs fill it with zeroes.
    if usize::from(*pad_len) != pad.len() {
        return Err(OpenError::Malformed("integrity pad length is wrong"));
    }
    decrypt(keys, packet.payload)
}

/// §13.29: IV, then the payload padded 01h 02h … and the pad length to whole blocks, encrypted.
fn encrypt(keys: &SessionKeys, payload: &[u8], iv: &[u8; BLOCK]) -> Vec<u8> {
    let pad = (BLOCK - (payload.len() + 1) % BLOCK) % BLOCK;
    let mut blocks = Vec::with_capacity(payload.len() + pad + 1);
    blocks.extend_from_slice(payload);
    blocks.extend((1_u8..).take(pad));
    blocks.push(u8::try_from(pad).unwrap_or(0));
    keys.encrypt(iv, &mut blocks);
    let mut out = Vec::with_capacity(BLOCK + blocks.len());
    out.extend_from_slice(iv);
    out.extend_from_slice(&blocks);
    out
}

fn decrypt(keys: &SessionKeys, payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (iv, blocks) = payload
        .split_first_chunk::<BLOCK>()
        .ok_or(OpenError::Malformed("no room for an initialisation vector"))?;
    if blocks.is_empty() || blocks.len() % BLOCK != 0 {
        return Err(OpenError::Malformed("encrypted payload is not whole blocks"));
    }
    let mut clear = Zeroizing::new(blocks.to_vec());
    keys.decrypt(iv, &mut clear);
    let pad = usize::from(clear.last().copied().unwrap_or(0));
    // §13.29 says the receiver should check the pad bytes; the length must fit. A pad of 16 never
    // occurs by the rule above, yet some BMCs send it, so only the length of the data bounds it.
    let length = clear
        .len()
        .checked_sub(pad + 1)
        .ok_or(OpenError::Malformed("confidentiality pad is longer than the payload"))?;
    clear.truncate(length);
    Ok(clear)
}

#[cfg(test)]
mod tests {
    use crate::v20::PayloadType;
    use proptest::prelude::*;

    use super::{OpenError, open, seal};
    use crate::CipherSuite;
    use crate::crypto::SessionKeys;
    use crate::datagram::Datagram;
    use crate::v20::Packet;

    fn packet(datagram: &[u8]) -> Packet<'_> {
        let Ok(Datagram::V20(packet)) = Datagram::parse(datagram) else { panic!("not RMCP+") };
        packet
    }

    proptest! {
        #[test]
        fn seal_then_open_gives_the_payload_back(
            payload in proptest::collection::vec(any::<u8>(), 0..300),
            iv in any::<[u8; 16]>(), sik in any::<[u8; 32]>(), id in 1_u32.., sequence in any::<u32>(),
            sha256 in any::<bool>(),
        ) {
            let suite = if sha256 { CipherSuite::Suite17 } else { CipherSuite::Suite3 };
            let keys = SessionKeys::derive(suite, &sik);
            let datagram = seal(&keys, PayloadType::Ipmi, id, sequence, &payload, &iv);
            let packet = packet(&datagram);
            prop_assert_eq!(packet.sequence, sequence);
            let clear = open(&keys, id, &packet).unwrap();
            prop_assert_eq!(clear.as_slice(), payload.as_slice());
        }

        #[test]
        fn a_changed_byte_is_never_opened(
            payload in proptest::collection::vec(any::<u8>(), 1..64),
            at in any::<prop::sample::Index>(), flip in 1_u8..,
        ) {
            let keys = SessionKeys::derive(CipherSuite::Suite17, &[7; 32]);
            let mut datagram = seal(&keys, PayloadType::Ipmi, 5, 9, &payload, &[3; 16]);
            let at = at.index(datagram.len() - 4) + 4;
            datagram[at] ^= flip;
            if let Ok(Datagram::V20(packet)) = Datagram::parse(&datagram) {
                prop_assert!(open(&keys, 5, &packet).is_err());
            }
        }
    }

    #[test]
    fn another_key_is_a_bad_mac() {
        let ours = SessionKeys::derive(CipherSuite::Suite3, &[1; 20]);
        let theirs = SessionKeys::derive(CipherSuite::Suite3, &[2; 20]);
        let datagram = seal(&theirs, PayloadType::Ipmi, 5, 9, b"payload", &[3; 16]);
        assert_eq!(open(&ours, 5, &packet(&datagram)), Err(OpenError::BadMac));
    }
}
