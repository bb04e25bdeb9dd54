//! Chunks over iSCSI: a small initiator around `farrier_iscsi::initiator`, in user space, so that the ramdisk needs
//! neither a daemon nor a kernel module for it.

use super::iscsi_url::{self, Address};
use super::{Reading, SourceError};
use crate::limits::Limits;
use crate::manifest::Chunk;
use farrier_iscsi::initiator::{Capacity, Event, Initiator, InitiatorError};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A session with rackd's target.
#[derive(Default)]
pub(super) struct Iscsi {
    session: Option<Session>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum IscsiError {
    #[error("expected iscsi://[user%secret@]host:port/target/lun?initiator=name")]
    Url,
    #[error("no answer for {} s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error("{doing}: {source}")]
    Io { doing: &'static str, source: std::io::Error },
    #[error("the target closed the connection")]
    Closed,
    #[error("{0}")]
    Protocol(#[from] InitiatorError),
    #[error("SCSI status {status:#04x}, sense key {key:#x}, code {code}")]
    Status { status: u8, key: u8, code: String },
    #[error("READ CAPACITY: expected {expected} bytes at least, saw {seen}")]
    Capacity { expected: u64, seen: u64 },
    #[error("data outside of what was asked for")]
    Stray,
    #[error("the chunk does not begin at a block of the disk")]
    Unaligned,
}

struct Session {
    url: String,
    tcp: TcpStream,
    initiator: Initiator,
    capacity: Capacity,
    lun: u16,
    buffer: Vec<u8>,
}

impl Iscsi {
    pub(super) fn disconnect(&mut self) {
        self.session = None;
    }

    pub(super) async fn append(
        &mut self,
        url: &str,
        chunk: Chunk,
        data: &mut Vec<u8>,
        reading: &Reading<'_>,
    ) -> Result<(), SourceError> {
        if self.session.as_ref().is_none_or(|session| session.url != url) {
            self.session = Some(Session::open(url, reading.limits, reading.image_bytes).await?);
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        Ok(session.read(chunk, data, reading).await?)
    }
}

impl Session {
    async fn open(url: &str, limits: &Limits, image_bytes: u64) -> Result<Self, IscsiError> {
        let Address { host, login, lun } = iscsi_url::parse(url, rand::random()).ok_or(IscsiError::Url)?;
        let tcp = timeout(limits.connect_timeout, TcpStream::connect(&host))
            .await
            .map_err(|_| IscsiError::Timeout(limits.connect_timeout))?
            .map_err(|source| IscsiError::Io { doing: "connecting", source })?;
        let mut session = Self {
            url: url.to_owned(),
            tcp,
            initiator: Initiator::new(login),
            capacity: Capacity { blocks: 0, block_bytes: 512 },
            lun,
            buffer: vec![0; RECEIVE],
        };
        // Of all of it: a target that says a byte now and then would hold us for ever.
        let answer = timeout(limits.read_timeout, async {
            let mut out = Vec::new();
            session.initiator.login(&mut out);
            session.send(&out).await?;
            while !session.receive(limits).await?.contains(&Event::LoggedIn) {}
            session.capacity_data(limits).await
        });
        let answer = answer.await.map_err(|_| IscsiError::Timeout(limits.read_timeout))??;
        session.capacity = Capacity::parse(&answer).ok_or(IscsiError::Stray)?;
        let seen = session.capacity.blocks.saturating_mul(u64::from(session.capacity.block_bytes));
        if seen < image_bytes {
            return Err(IscsiError::Capacity { expected: image_bytes, seen });
        }
        Ok(session)
    }

    /// READ CAPACITY. A target tells a new initiator about earlier events first, each as the failure of a command
    /// (unit attention, SAM-5 section 5.14).
    async fn capacity_data(&mut self, limits: &Limits) -> Result<Vec<u8>, IscsiError> {
        let mut attentions = 0;
        loop {
            let mut out = Vec::new();
            let asked = self.initiator.read_capacity(self.lun, &mut out);
            self.send(&out).await?;
            match self.answer(asked, limits).await {
                Err(IscsiError::Status { key: UNIT_ATTENTION, .. }) if attentions < ATTENTIONS => {
                    attentions += 1
                }
                answer => return answer,
            }
        }
    }

    /// Appends what is missing of the chunk, a few reads under way at once.
    async fn read(
        &mut self,
        chunk: Chunk,
        data: &mut Vec<u8>,
        reading: &Reading<'_>,
    ) -> Result<(), IscsiError> {
        let block = u64::from(self.capacity.block_bytes);
        let have = data.len() as u64;
        // Whole blocks: what a broken read left of one is read again.
        let have = have / block * block;
        data.truncate(usize::try_from(have).unwrap_or(usize::MAX));
        if !chunk.offset.is_multiple_of(block) {
            return Err(IscsiError::Unaligned);
        }
        let (mut next, end) = (chunk.offset + have, chunk.offset + chunk.len.next_multiple_of(block));
        // Command → where its data goes; filled in order of arrival, handed over in order of place.
        let mut running: BTreeMap<u32, Piece> = BTreeMap::new();
        let mut order: std::collections::VecDeque<u32> = std::collections::VecDeque::new();
        while next < end || !order.is_empty() {
            let mut out = Vec::new();
            while next < end && order.len() < IN_FLIGHT && self.initiator.may_send() {
                let len = (end - next).min(READ_BYTES);
                let blocks = u32::try_from(len / block).unwrap_or(0);
                let first = next / block;
                let tag = self.initiator.read(self.lun, first, blocks, self.capacity.block_bytes, &mut out);
                let bytes = vec![0; usize::try_from(len).unwrap_or(0)];
                running.insert(tag, Piece { bytes, got: 0, ended: false });
                order.push_back(tag);
                next += len;
            }
            self.send(&out).await?;
            for event in self.receive(reading.limits).await? {
                match event {
                    Event::Data { tag, offset, data } => {
                        let piece = running.get_mut(&tag).ok_or(IscsiError::Stray)?;
                        piece.put(offset, &data)?;
                        reading.pulse.beat();
                    }
                    Event::Ended { tag, status, sense } => {
                        check_status(status, &sense)?;
                        let piece = running.get_mut(&tag).ok_or(IscsiError::Stray)?;
                        piece.ended = true;
                    }
                    Event::Leaving => return Err(IscsiError::Closed),
                    Event::LoggedIn => {}
                }
            }
            while let Some(tag) = order.front().copied() {
                let whole = running.get(&tag).is_some_and(|piece| piece.ended);
                if !whole {
                    break;
                }
                order.pop_front();
                let piece = running.remove(&tag).ok_or(IscsiError::Stray)?;
                if piece.got != piece.bytes.len() {
                    return Err(IscsiError::Stray);
                }
                data.extend_from_slice(&piece.bytes);
            }
        }
        data.truncate(usize::try_from(chunk.len).unwrap_or(usize::MAX));
        Ok(())
    }

    /// The whole answer to one command.
    async fn answer(&mut self, asked: u32, limits: &Limits) -> Result<Vec<u8>, IscsiError> {
        let mut answer = Piece { bytes: vec![0; ANSWER], got: 0, ended: false };
        loop {
            for event in self.receive(limits).await? {
                match event {
                    Event::Data { tag, offset, data } if tag == asked => answer.put(offset, &data)?,
                    Event::Ended { tag, status, sense } if tag == asked => {
                        check_status(status, &sense)?;
                        answer.bytes.truncate(answer.got);
                        return Ok(answer.bytes);
                    }
                    Event::Leaving => return Err(IscsiError::Closed),
                    _ => {}
                }
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), IscsiError> {
        self.tcp.write_all(bytes).await.map_err(|source| IscsiError::Io { doing: "sending", source })
    }

    /// What the next bytes mean; what needs an answer has got it.
    async fn receive(&mut self, limits: &Limits) -> Result<Vec<Event>, IscsiError> {
        let wait = limits.read_timeout;
        let read = timeout(wait, self.tcp.read(&mut self.buffer)).await;
        let len = read
            .map_err(|_| IscsiError::Timeout(wait))?
            .map_err(|source| IscsiError::Io { doing: "receiving", source })?;
        if len == 0 {
            return Err(IscsiError::Closed);
        }
        let mut out = Vec::new();
        let events = self.initiator.receive(self.buffer.get(..len).unwrap_or_default(), &mut out)?;
        self.send(&out).await?;
        Ok(events)
    }
}

/// The data of one command, as it comes in.
struct Piece {
    bytes: Vec<u8>,
    got: usize,
    ended: bool,
}

impl Piece {
    fn put(&mut self, offset: u32, data: &[u8]) -> Result<(), IscsiError> {
        let start = usize::try_from(offset).map_err(|_| IscsiError::Stray)?;
        let end = start.checked_add(data.len()).ok_or(IscsiError::Stray)?;
        self.bytes.get_mut(start..end).ok_or(IscsiError::Stray)?.copy_from_slice(data);
        self.got = self.got.saturating_add(data.len());
        Ok(())
    }
}

fn check_status(status: u8, sense: &[u8]) -> Result<(), IscsiError> {
    if status == 0 {
        return Ok(());
    }
    // Fixed format (SPC-4 section 4.5.3): sense key, additional sense code and qualifier.
    let byte = |at: usize| sense.get(at).copied().unwrap_or(0);
    Err(IscsiError::Status {
        status,
        key: byte(2) & 0x0f,
        code: format!("{:02x}/{:02x}", byte(12), byte(13)),
    })
}

/// Sense key (SPC-4 section 4.5.6).
const UNIT_ATTENTION: u8 = 6;
/// Events that a target may have waiting; more is no sane target.
const ATTENTIONS: u32 = 16;
/// 1 MiB a command, four at once: as many bytes under way as a 10 Gbit/s link holds over 3 ms.
const READ_BYTES: u64 = 1 << 20;
const IN_FLIGHT: usize = 4;
const RECEIVE: usize = 256 * 1024;
/// READ CAPACITY(16) answers with 32 bytes.
const ANSWER: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_target_that_drips_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let drip = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // A login response (RFC 7143 section 11.13) with much data, a byte at a time.
            let mut header = [0; 48];
            (header[0], header[6]) = (0x23, 0xff);
            stream.write_all(&header).await.unwrap();
            while stream.write_all(&[0]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let limits = Limits { read_timeout: Duration::from_millis(200), ..Limits::default() };
        let url = format!("iscsi://n1%secret@{address}/iqn.2026-01.dev.farrier:x/0?initiator=iqn.i");
        let opened = timeout(Duration::from_secs(60), Session::open(&url, &limits, 0)).await;
        assert!(matches!(opened, Ok(Err(IscsiError::Timeout(_)))));
        drip.await.unwrap();
    }
}
