//! One address of a pool and who has it, as it is remembered and as it is written to disk.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ClientKey;
use crate::MacAddr;

/// What is known of one address. The last one written for an address holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) network: String,
    pub(crate) ip: Ipv4Addr,
    pub(crate) client: ClientKey,
    pub(crate) mac: MacAddr,
    pub(crate) state: State,
    /// Until then nobody else gets the address; after that its client still gets it before others do.
    pub(crate) until: SystemTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Offered, and kept for a moment. Never on disk.
    Offered,
    /// Given.
    Bound,
    /// Found in use by a machine that did not get it from us (DHCPDECLINE).
    Declined,
}

/// What a file's checksums begin with, so that no client can write a record: its identifier is kept as it came, and where a
/// disk has harmed what is around it, what it has in it is looked at as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Salt(u32);

impl Salt {
    /// Of files that were written before there was one.
    pub(super) const NONE: Self = Self(0);

    /// Of a file that begins with these random bytes.
    pub(super) fn of(random: [u8; SALT]) -> Self {
        Self(crc32c::crc32c(&random))
    }

    fn checksum(self, body: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, body)
    }
}

/// Random bytes of a file.
pub(super) const SALT: usize = 8;

impl Record {
    /// Appends length, checksum and content.
    pub(super) fn write(&self, salt: Salt, out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(64);
        body.push(if self.state == State::Declined { DECLINED } else { BOUND });
        body.extend(self.ip.octets());
        body.extend(self.mac.0);
        let until = self.until.duration_since(UNIX_EPOCH).unwrap_or_default();
        body.extend(until.as_secs().to_le_bytes());
        text(&mut body, self.network.as_bytes());
        text(&mut body, self.client.id().unwrap_or_default());
        let len = u16::try_from(body.len()).unwrap_or(u16::MAX);
        out.extend(len.to_le_bytes());
        out.extend(salt.checksum(&body).to_le_bytes());
        out.extend(body);
    }

    /// Reads one from the front. `None` where nothing whole and unharmed is.
    pub(super) fn read<'a>(salt: Salt, bytes: &mut &'a [u8]) -> Option<Self> {
        let mut rest: &'a [u8] = bytes;
        let len = usize::from(u16::from_le_bytes(take(&mut rest)?));
        if len > MOST {
            return None;
        }
        let sum = u32::from_le_bytes(take(&mut rest)?);
        let (mut body, rest) = rest.split_at_checked(len)?;
        if salt.checksum(body) != sum {
            return None;
        }
        let [state] = take(&mut body)?;
        let ip = Ipv4Addr::from(take::<4>(&mut body)?);
        let mac = MacAddr(take(&mut body)?);
        let until = u64::from_le_bytes(take(&mut body)?);
        let network = String::from_utf8(read_text(&mut body)?.to_vec()).ok()?;
        let client = match read_text(&mut body)? {
            [] => ClientKey::Mac(mac),
            id => ClientKey::Id(id.into()),
        };
        let state = match state {
            BOUND => State::Bound,
            DECLINED => State::Declined,
            _ => return None,
        };
        let until = UNIX_EPOCH.checked_add(Duration::from_secs(until))?;
        *bytes = rest;
        Some(Self { network, ip, client, mac, state, until })
    }
}

/// At most 255 bytes, their number before them. Names of networks have 63, identifiers 255.
fn text(out: &mut Vec<u8>, text: &[u8]) {
    let text = text.get(..255).unwrap_or(text);
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend(text);
}

fn read_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let [len] = take(bytes)?;
    let (text, rest) = bytes.split_at_checked(usize::from(len))?;
    *bytes = rest;
    Some(text)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

/// State, address, port, time, and two texts with their lengths.
pub(super) const MOST: usize = 1 + 4 + 6 + 8 + 2 * 256;
const BOUND: u8 = 1;
const DECLINED: u8 = 2;
