//! What an answer is made of: bytes at hand and parts of files, in order. Whoever sends it takes it out, once: hyper reads
//! it into memory, a connection without TLS has the kernel send the files.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use crate::sending;

/// Bytes per read: large enough that a read is a few system calls a megabyte, small enough for fifty machines.
const READ: usize = 256 << 10;

/// A part of the answer.
#[derive(Debug)]
pub(super) enum Slice {
    Bytes(Bytes),
    /// `len` bytes from `start` on.
    File {
        file: Source,
        start: u64,
        len: u64,
    },
}

impl Slice {
    /// `len` bytes of it, from `start` on.
    pub(super) fn part(self, start: u64, len: u64) -> Self {
        match self {
            Self::Bytes(bytes) => {
                let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
                Self::Bytes(bytes.slice(at(start)..at(start.saturating_add(len))))
            }
            Self::File { file, start: before, .. } => Self::File { file, start: before + start, len },
        }
    }
}

/// A file that is open, or is opened when its turn comes.
#[derive(Debug)]
pub(super) enum Source {
    Open(File),
    /// Its size has to be this one still.
    Closed(PathBuf, u64),
}

impl Source {
    /// For a thread that may wait for the disk.
    fn open(self) -> io::Result<File> {
        match self {
            Self::Open(file) => Ok(file),
            Self::Closed(path, len) => {
                let file = File::open(&path)?;
                if file.metadata()?.len() != len {
                    return Err(io::Error::other(format!("{}: its size has changed", path.display())));
                }
                Ok(file)
            }
        }
    }

    pub(super) async fn opened(self) -> io::Result<File> {
        match self {
            Self::Open(file) => Ok(file),
            closed @ Self::Closed(..) => blocking(move || closed.open()).await,
        }
    }
}

/// All of it, and who wants to know how much of it went out.
pub(super) struct Content {
    pub(super) slices: Vec<Slice>,
    pub(super) sent: Sent,
}

impl Content {
    pub(super) fn new(slices: Vec<Slice>, tell: impl FnOnce(u64) + Send + 'static) -> Self {
        Self { slices, sent: Sent { bytes: 0, file: None, tell: Some(Box::new(tell)) } }
    }
}

/// Counts, and tells when it is over, also when the machine breaks off.
pub(super) struct Sent {
    bytes: u64,
    /// Who wants to know that it goes on.
    file: Option<sending::File>,
    tell: Option<Box<dyn FnOnce(u64) + Send>>,
}

impl Sent {
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if let Some(file) = &self.file {
            file.took(Instant::now());
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if let Some(tell) = self.tell.take() {
            tell(self.bytes);
        }
    }
}

/// Goes with the response, for whoever sends it.
#[derive(Clone)]
pub(super) struct Offered(Arc<Mutex<Option<Content>>>);

impl Offered {
    pub(super) fn new(content: Content) -> Self {
        Self(Arc::new(Mutex::new(Some(content))))
    }

    /// Each part of it that goes out is a sign of life.
    pub(super) fn follow(&self, file: sending::File) {
        if let Some(content) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            content.sent.file = Some(file);
        }
    }

    pub(super) fn take(&self) -> Option<Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The same as a body that is read into memory.
    pub(super) fn body(&self) -> Body {
        let offered = self.clone();
        let chunks = futures::stream::once(async move { offered.take() })
            .flat_map(|content| content.map_or_else(|| futures::stream::empty().boxed(), read));
        Body::from_stream(chunks)
    }
}

type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

fn read(content: Content) -> Chunks {
    let Content { slices, sent } = content;
    let stream = futures::stream::iter(slices).then(chunks).try_flatten().boxed();
    Counted { stream, sent }.boxed()
}

async fn chunks(slice: Slice) -> io::Result<Chunks> {
    match slice {
        Slice::Bytes(bytes) => Ok(futures::stream::iter([Ok(bytes)]).boxed()),
        Slice::File { file, start, len } => {
            let mut file = tokio::fs::File::from_std(file.opened().await?);
            file.seek(SeekFrom::Start(start)).await?;
            file.set_max_buf_size(READ);
            Ok(ReaderStream::with_capacity(file.take(len), READ).boxed())
        }
    }
}

struct Counted {
    stream: Chunks,
    sent: Sent,
}

impl Stream for Counted {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.stream.as_mut().poll_next(cx));
        if let Some(Ok(chunk)) = &next {
            self.sent.add(chunk.len());
        }
        Poll::Ready(next)
    }
}

/// Reads a part of a file and throws it away: then the kernel has it in memory. How much of it there was.
pub(super) async fn bring_in(file: &Arc<File>, start: u64, len: u64) -> io::Result<u64> {
    let file = Arc::clone(file);
    blocking(move || {
        let mut file = &*file;
        file.seek(SeekFrom::Start(start))?;
        let mut buffer = vec![0; READ];
        let (mut part, mut there) = (file.take(len), 0);
        loop {
            match part.read(&mut buffer)? {
                0 => return Ok(there),
                read => there += read as u64,
            }
        }
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_part_that_goes_out_is_a_sign_of_life_until_it_is_over() {
        let (sending, to) = (Arc::<sending::Sending>::default(), [10, 0, 0, 1].into());
        let wrong = Instant::now() + Duration::from_secs(3600);
        let offered = Offered::new(Content::new(vec![Slice::Bytes(Bytes::from_static(b"kernel"))], |_| ()));
        offered.follow(sending.begin(to, wrong));
        let mut content = offered.take().unwrap();
        assert_eq!(sending.last(), [(to, wrong)]);
        content.sent.add(3);
        assert!(sending.last()[0].1 < wrong);
        drop(content);
        assert_eq!(sending.last(), []);
    }
}
