//! Where a PDU ends: lengths, padding and digests (RFC 7143 section 11.2 and 13.1).

use std::ops::Range;

use crate::bhs::{BHS_LEN, Bhs};

/// What this direction of a connection agreed on.
#[derive(Debug, Clone, Copy)]
pub struct FrameRules {
    pub header_digest: bool,
    pub data_digest: bool,
    /// MaxRecvDataSegmentLength that was declared: a longer data segment is a protocol error.
    pub max_data: usize,
}

/// The next step with what has arrived.
#[derive(Debug)]
pub enum Step {
    /// This many bytes make the PDU (or tell its length).
    Need(usize),
    Frame(Frame),
}

/// A whole PDU inside the receive buffer.
#[derive(Debug)]
pub struct Frame {
    pub bhs: Bhs,
    pub ahs: Range<usize>,
    pub data: Range<usize>,
    /// Bytes to consume.
    pub len: usize,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    #[error("header digest does not match")]
    HeaderDigest,
    #[error("data digest does not match")]
    DataDigest(Box<Bhs>),
    #[error("data segment of {len} bytes, {max} are allowed")]
    TooLong { len: usize, max: usize },
}

/// Looks for a PDU at the start of `buffer`.
pub fn next(buffer: &[u8], rules: &FrameRules) -> Result<Step, FrameError> {
    let Some(header) = buffer.first_chunk::<BHS_LEN>() else { return Ok(Step::Need(BHS_LEN)) };
    let bhs = Bhs(*header);
    let data_len = bhs.data_len();
    if data_len > rules.max_data {
        return Err(FrameError::TooLong { len: data_len, max: rules.max_data });
    }
    let header_end = BHS_LEN + bhs.ahs_len();
    let data_start = header_end + if rules.header_digest { DIGEST } else { 0 };
    let data_end = data_start + data_len;
    let padded_end = data_start + data_len.next_multiple_of(4);
    // The digest of an empty data segment is not sent (RFC 7143 section 11.2.4).
    let len = padded_end + if rules.data_digest && data_len > 0 { DIGEST } else { 0 };
    if buffer.len() < len {
        return Ok(Step::Need(len));
    }
    if rules.header_digest && !digest_matches(buffer, 0..header_end, header_end) {
        return Err(FrameError::HeaderDigest);
    }
    // The digest covers the padding (RFC 7143 section 11.2.4).
    if rules.data_digest && data_len > 0 && !digest_matches(buffer, data_start..padded_end, padded_end) {
        return Err(FrameError::DataDigest(Box::new(bhs)));
    }
    Ok(Step::Frame(Frame { bhs, ahs: BHS_LEN..header_end, data: data_start..data_end, len }))
}

/// CRC32C as both digests carry it: least significant byte first (RFC 7143 section 13.1).
pub(crate) fn digest(bytes: &[u8]) -> [u8; DIGEST] {
    crc32c::crc32c(bytes).to_le_bytes()
}

fn digest_matches(buffer: &[u8], covered: Range<usize>, at: usize) -> bool {
    let sent = buffer.get(at..at + DIGEST);
    let covered = buffer.get(covered);
    matches!((sent, covered), (Some(sent), Some(covered)) if sent == digest(covered).as_slice())
}

pub(crate) const DIGEST: usize = 4;
