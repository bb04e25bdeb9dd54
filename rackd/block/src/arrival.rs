//! Waiting for bytes that come from far, without holding a thread: a rack whose link is cut has hundreds of commands
//! waiting, and each of its disks has writes to flush meanwhile.

use std::time::Duration;

use farrier_iscsi::scsi::{MediaError, MediaOp};
use tokio_util::sync::CancellationToken;

use crate::backing::{Arrival, Backing};
use crate::media::Medium;

/// What `op` reads and the backing does not have; `None`: nothing.
pub(crate) fn missing(backing: &dyn Backing, op: &MediaOp) -> Option<Arrival> {
    reads(op, backing.block()).into_iter().find_map(|(offset, len)| backing.arrival(offset, len))
}

/// Until everything is there that `op` reads, for `limit` at most.
pub(crate) async fn all(
    first: Arrival,
    medium: &Medium,
    op: &MediaOp,
    limit: Duration,
    gone: &CancellationToken,
) -> Result<(), MediaError> {
    let arrive = async {
        let mut next = Some(first);
        while let Some(arrival) = next {
            arrival.await?;
            next = missing(&*medium.backing, op);
        }
        Ok(())
    };
    tokio::select! {
        arrived = tokio::time::timeout(limit, arrive) => match arrived {
            Ok(arrived) => arrived.map_err(|error: std::io::Error| medium.read_error(&error)),
            Err(_) => Err(MediaError::Busy),
        },
        // Nobody waits for the answer any more.
        () = gone.cancelled() => Err(MediaError::Busy),
    }
}

/// The ranges that are read before the operation is done. Writes read what they change in part.
fn reads(op: &MediaOp, block: u64) -> Vec<(u64, u64)> {
    match op {
        MediaOp::Read { offset, len } => vec![(*offset, *len as u64)],
        MediaOp::CompareAndWrite { offset, len, .. } | MediaOp::OrWrite { offset, len, .. } => {
            vec![(*offset, *len as u64)]
        }
        MediaOp::Verify { offset, len, .. } | MediaOp::Prefetch { offset, len } => vec![(*offset, *len)],
        MediaOp::Write { offset, len, .. } | MediaOp::WriteAndVerify { offset, len } => {
            edges(*offset, *len as u64, block)
        }
        MediaOp::WriteSame { offset, len, .. } => edges(*offset, *len, block),
        MediaOp::Unmap { ranges } => {
            ranges.iter().flat_map(|(offset, len)| edges(*offset, *len, block)).collect()
        }
        MediaOp::Copy { segments, .. } => segments
            .iter()
            .flat_map(|segment| {
                [vec![(segment.from, segment.len)], edges(segment.to, segment.len, block)].concat()
            })
            .collect(),
        MediaOp::Flush | MediaOp::Extents { .. } | MediaOp::Sanitize { .. } | MediaOp::Settle => Vec::new(),
    }
}

/// Blocks that are written in part: the first, the last.
fn edges(offset: u64, len: u64, block: u64) -> Vec<(u64, u64)> {
    let block = block.max(1);
    let end = offset.saturating_add(len);
    let mut found = Vec::new();
    for at in [offset, end] {
        let begin = at / block * block;
        if begin != at && !found.contains(&(begin, block)) {
            found.push((begin, block));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_reads_only_the_blocks_that_it_changes_in_part() {
        let write = |offset, len| reads(&MediaOp::Write { offset, len, durable: false }, 4096);
        assert_eq!(write(4096, 8192), []);
        assert_eq!(write(4096, 512), [(4096, 4096)]);
        assert_eq!(write(4608, 512), [(4096, 4096)]);
        assert_eq!(write(512, 8192), [(0, 4096), (8192, 4096)]);
        assert_eq!(reads(&MediaOp::Read { offset: 512, len: 512 }, 4096), [(512, 512)]);
        assert_eq!(reads(&MediaOp::Flush, 4096), []);
    }
}
