//! Parts of files to a socket without passing through this process (`sendfile(2)`).

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::sync::Arc;

use rustix::io::ReadWriteFlags;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;

use super::content::{Content, Slice, bring_in};

/// Sends all of it.
pub(super) async fn send(stream: &mut TcpStream, content: Content) -> io::Result<()> {
    let Content { slices, mut sent } = content;
    for slice in slices {
        match slice {
            Slice::Bytes(mut bytes) => {
                while !bytes.is_empty() {
                    sent.add(stream.write_buf(&mut bytes).await?);
                }
            }
            Slice::File { file, start, len } => {
                let file = Arc::new(file.opened().await?);
                part(stream, &file, start, len, |bytes| sent.add(bytes)).await?;
            }
        }
    }
    Ok(())
}

async fn part(
    stream: &TcpStream,
    file: &Arc<File>,
    start: u64,
    len: u64,
    mut sent: impl FnMut(usize),
) -> io::Result<()> {
    let (mut at, end) = (start, start.saturating_add(len));
    // Up to here it was in memory a moment ago.
    let mut in_memory = start;
    while at < end {
        if at >= in_memory {
            let window = WINDOW.min(end - at);
            if !is_in_memory(file, at, window) && bring_in(file, at, window).await? == 0 {
                return Err(cut_off(at, end));
            }
            in_memory = at + window;
        }
        let count = usize::try_from(in_memory - at).unwrap_or(usize::MAX);
        let done = stream
            .async_io(Interest::WRITABLE, || {
                let mut offset = at;
                Ok(rustix::fs::sendfile(stream, file, Some(&mut offset), count)?)
            })
            .await?;
        if done == 0 {
            return Err(cut_off(at, end));
        }
        sent(done);
        at += done as u64;
    }
    Ok(())
}

fn cut_off(at: u64, end: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("the file ends at byte {at}, expected {end}: it was changed while it was published"),
    )
}

/// Whether a part can be sent without a wait for the disk, which would be every other machine's wait too. Its ends stand
/// for what is between them: the kernel reads ahead.
fn is_in_memory(file: &File, start: u64, len: u64) -> bool {
    let there = |offset: u64| {
        let mut byte = [0];
        let read =
            rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT);
        read.is_ok_and(|bytes| bytes == 1)
    };
    there(start) && there(start + len.saturating_sub(1))
}

/// Bytes between two looks whether they are in memory; what is sent in one go at most.
const WINDOW: u64 = 1 << 20;
