//! What a command does to a backing, on a thread that may wait.

use std::io;
use std::sync::{PoisonError, RwLock};

use farrier_iscsi::scsi::{Compare, CopySegment, MediaError, MediaOp, MediaReply};

use crate::backing::Backing;
use crate::running::Running;
use crate::trouble::Trouble;

/// One medium: its backing, and the order of what must not mix.
#[derive(Debug)]
pub(crate) struct Medium {
    pub(crate) backing: std::sync::Arc<dyn Backing>,
    /// What touches it now.
    pub(crate) running: Running,
    /// Held alone by what reads and then writes, shared by what writes: COMPARE AND WRITE is one step to everybody else.
    turns: RwLock<()>,
    trouble: Trouble,
}

impl Medium {
    pub(crate) fn new(backing: std::sync::Arc<dyn Backing>, trouble: Trouble) -> Medium {
        Medium { backing, running: Running::default(), turns: RwLock::default(), trouble }
    }

    pub(crate) fn read_error(&self, error: &io::Error) -> MediaError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return MediaError::OutOfRange;
        }
        if error.kind() == io::ErrorKind::TimedOut {
            return MediaError::Busy;
        }
        self.trouble.tell("read", error);
        MediaError::Read
    }

    fn write_error(&self, error: &io::Error) -> MediaError {
        // What a block had around the data has not arrived.
        if error.kind() == io::ErrorKind::TimedOut {
            return MediaError::Busy;
        }
        self.trouble.tell("written", error);
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => MediaError::NoSpace,
            _ => MediaError::Write,
        }
    }

    /// Does what needs no waiting at once: `None` is not among it.
    pub(crate) fn try_perform(&self, op: &MediaOp, data: &[u8]) -> Option<Result<MediaReply, MediaError>> {
        match op {
            MediaOp::Write { offset, durable: false, .. } => {
                let _shared = self.turns.try_read().ok()?;
                match self.backing.try_write_at(data, *offset) {
                    Ok(()) => Some(Ok(MediaReply::Done)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                    Err(error) => Some(Err(self.write_error(&error))),
                }
            }
            _ => None,
        }
    }

    /// Long operations end early when `stop` says so: nobody asks for the outcome any more.
    pub(crate) fn perform(
        &self,
        op: &MediaOp,
        data: &[u8],
        stop: &dyn Fn() -> bool,
    ) -> Result<MediaReply, MediaError> {
        let backing = &*self.backing;
        let alone = reads_and_writes(op);
        let writes = changes(op) && !alone;
        let _alone = alone.then(|| self.turns.write().unwrap_or_else(PoisonError::into_inner));
        let shared = writes.then(|| self.turns.read().unwrap_or_else(PoisonError::into_inner));
        match op {
            MediaOp::Read { offset, len } => {
                let mut buffer = vec![0; *len];
                backing.read_at(&mut buffer, *offset).map_err(|error| self.read_error(&error))?;
                return Ok(MediaReply::Data(buffer));
            }
            MediaOp::Extents { offset, max, .. } => {
                let extents = backing.extents(*offset, *max).map_err(|error| self.read_error(&error))?;
                return Ok(MediaReply::Extents(extents));
            }
            MediaOp::Write { offset, durable, .. } => {
                write(self, data, *offset)?;
                // A sync takes long, and nobody has to wait for it.
                drop(shared);
                flush_if(self, *durable)?;
            }
            MediaOp::WriteAndVerify { offset, .. } => {
                write(self, data, *offset)?;
                drop(shared);
                // Verified on what is stored, so it is stored first.
                flush_if(self, true)?;
                compare(self, data, *offset)?;
            }
            MediaOp::Verify { offset, len, compare: how, block } => {
                verify(self, *offset, *len, *how, *block, data, stop)?
            }
            MediaOp::CompareAndWrite { offset, len, durable } => {
                let (expected, new) = data.split_at_checked(*len).ok_or(MediaError::Write)?;
                compare(self, expected, *offset)?;
                write(self, new, *offset)?;
                flush_if(self, *durable)?;
            }
            MediaOp::OrWrite { offset, durable, .. } => {
                let mut stored = vec![0; data.len()];
                backing.read_at(&mut stored, *offset).map_err(|error| self.read_error(&error))?;
                for (old, new) in stored.iter_mut().zip(data) {
                    *old |= new;
                }
                write(self, &stored, *offset)?;
                flush_if(self, *durable)?;
            }
            MediaOp::WriteSame { offset, len, unmap, zeros, .. } => {
                let zero = *zeros || data.iter().all(|byte| *byte == 0);
                if zero && (*unmap || backing.can_discard()) {
                    backing.discard(*offset, *len).map_err(|error| self.write_error(&error))?;
                } else {
                    repeat(self, if zero { &ZEROS } else { data }, *offset, *len, stop)?;
                }
            }
            MediaOp::Unmap { ranges } => {
                for (offset, len) in ranges {
                    backing.discard(*offset, *len).map_err(|error| self.write_error(&error))?;
                }
            }
            MediaOp::Flush => flush_if(self, true)?,
            MediaOp::Prefetch { offset, len } => {
                // A hint: what cannot be had early is read when it is needed.
                let _ = backing.prefetch(*offset, *len);
            }
            MediaOp::Copy { segments, .. } => {
                segments.iter().try_for_each(|segment| copy(self, segment, stop))?;
            }
            MediaOp::Sanitize { pattern } => sanitize(self, pattern.as_deref(), stop)?,
            // Whoever runs operations waits; there is nothing to do.
            MediaOp::Settle => {}
        }
        Ok(MediaReply::Done)
    }
}

/// Whether it changes what the medium holds. A sanitize is apart: it goes on whatever happens to its task.
pub(crate) fn changes(op: &MediaOp) -> bool {
    let writes = matches!(
        op,
        MediaOp::Write { .. }
            | MediaOp::WriteAndVerify { .. }
            | MediaOp::WriteSame { .. }
            | MediaOp::Unmap { .. }
    );
    writes || reads_and_writes(op)
}

/// Whether what it writes depends on what it has read.
fn reads_and_writes(op: &MediaOp) -> bool {
    matches!(op, MediaOp::CompareAndWrite { .. } | MediaOp::OrWrite { .. } | MediaOp::Copy { .. })
}

fn write(medium: &Medium, data: &[u8], offset: u64) -> Result<(), MediaError> {
    medium.backing.write_at(data, offset).map_err(|error| medium.write_error(&error))
}

fn flush_if(medium: &Medium, durable: bool) -> Result<(), MediaError> {
    if durable { medium.backing.flush().map_err(|error| medium.write_error(&error)) } else { Ok(()) }
}

fn compare(medium: &Medium, data: &[u8], offset: u64) -> Result<(), MediaError> {
    let mut stored = vec![0; data.len().min(CHUNK)];
    let mut at = 0;
    for part in data.chunks(CHUNK) {
        let stored = stored.get_mut(..part.len()).unwrap_or_default();
        medium.backing.read_at(stored, offset + at).map_err(|error| medium.read_error(&error))?;
        if let Some(wrong) = stored.iter().zip(part).position(|(stored, sent)| stored != sent) {
            return Err(MediaError::Miscompare { at: at + wrong as u64 });
        }
        at += part.len() as u64;
    }
    Ok(())
}

fn verify(
    medium: &Medium,
    offset: u64,
    len: u64,
    how: Compare,
    block: u32,
    data: &[u8],
    stop: &dyn Fn() -> bool,
) -> Result<(), MediaError> {
    match how {
        Compare::Data => compare(medium, data, offset),
        // Every block with the one that was sent.
        Compare::OneBlock => {
            let block = u64::from(block.max(1));
            (0..len / block).try_for_each(|number| {
                go_on(stop)?;
                compare(medium, data, offset + number * block).map_err(|error| match error {
                    MediaError::Miscompare { at } => MediaError::Miscompare { at: number * block + at },
                    other => other,
                })
            })
        }
        Compare::Nothing => {
            let mut buffer = vec![0; CHUNK];
            chunks(len).try_for_each(|(at, part)| {
                go_on(stop)?;
                let place = buffer.get_mut(..part).unwrap_or_default();
                medium.backing.read_at(place, offset + at).map_err(|error| medium.read_error(&error))
            })
        }
    }
}

fn repeat(
    medium: &Medium,
    block: &[u8],
    offset: u64,
    len: u64,
    stop: &dyn Fn() -> bool,
) -> Result<(), MediaError> {
    if block.is_empty() {
        return Err(MediaError::Write);
    }
    let pattern = block.repeat(CHUNK / block.len());
    let step = pattern.len() as u64;
    let mut at = 0;
    while at < len {
        go_on(stop)?;
        let part = usize::try_from((len - at).min(step)).unwrap_or(0);
        write(medium, pattern.get(..part).unwrap_or_default(), offset + at)?;
        at += part as u64;
    }
    Ok(())
}

/// Copies so that an overlap comes out as if all was read first (SPC-4 section 6.4.5).
fn copy(medium: &Medium, segment: &CopySegment, stop: &dyn Fn() -> bool) -> Result<(), MediaError> {
    let mut buffer = vec![0; CHUNK];
    let mut parts: Vec<(u64, usize)> = chunks(segment.len).collect();
    if segment.to > segment.from {
        parts.reverse();
    }
    for (at, part) in parts {
        go_on(stop)?;
        let place = buffer.get_mut(..part).unwrap_or_default();
        medium.backing.read_at(place, segment.from + at).map_err(|error| medium.read_error(&error))?;
        write(medium, place, segment.to + at)?;
    }
    Ok(())
}

fn sanitize(medium: &Medium, pattern: Option<&[u8]>, stop: &dyn Fn() -> bool) -> Result<(), MediaError> {
    let size = medium.backing.size();
    match pattern {
        None if medium.backing.can_discard() => {
            medium.backing.discard(0, size).map_err(|error| medium.write_error(&error))?
        }
        None => repeat(medium, &ZEROS, 0, size, stop)?,
        // A pattern shorter than a block begins again with each block.
        Some(pattern) => {
            let block: Vec<u8> = pattern.iter().copied().cycle().take(ZEROS.len()).collect();
            repeat(medium, &block, 0, size, stop)?;
        }
    }
    flush_if(medium, true)
}

fn go_on(stop: &dyn Fn() -> bool) -> Result<(), MediaError> {
    if stop() { Err(MediaError::Busy) } else { Ok(()) }
}

fn chunks(len: u64) -> impl Iterator<Item = (u64, usize)> {
    (0..len.div_ceil(CHUNK as u64)).map(move |number| {
        let at = number * CHUNK as u64;
        (at, usize::try_from((len - at).min(CHUNK as u64)).unwrap_or(0))
    })
}

/// What is moved at once: bounded memory, and few system calls.
const CHUNK: usize = 256 * 1024;
const ZEROS: [u8; 512] = [0; 512];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backing::{FileBacking, Mode};

    #[test]
    fn what_takes_for_ever_ends_with_its_target() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 40).unwrap();
        let medium =
            Medium::new(FileBacking::open(file.path(), Mode::ReadWrite).unwrap(), Trouble::nobody_hears());
        let len = 1 << 40;
        // A tebibyte each: no test would see their end.
        let copy = CopySegment { from: 0, to: 512, len: len - 512 };
        for op in [
            MediaOp::Sanitize { pattern: Some(vec![7]) },
            MediaOp::WriteSame { offset: 0, len, block: 512, unmap: false, zeros: false },
            MediaOp::Verify { offset: 0, len, compare: Compare::Nothing, block: 512 },
            MediaOp::Copy { segments: vec![copy], by: 0, list: 0 },
        ] {
            assert_eq!(medium.perform(&op, &[7; 512], &|| true), Err(MediaError::Busy), "{op:?}");
        }
    }
}
