//! One file as an HTTP answer: entity tag, ranges, streamed.

use std::{
    io::{self, SeekFrom},
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::UNIX_EPOCH,
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::range::{Part, part};
use crate::{Artifact, Joined, Piece};

/// Bytes per read: large enough that a read is a few system calls a megabyte, small enough for fifty machines.
const READ: usize = 256 << 10;

/// Answers GET and HEAD. `on_sent` hears how many bytes went out when the body is done or dropped.
pub async fn respond(
    artifact: Artifact,
    method: &Method,
    headers: &HeaderMap,
    on_sent: impl FnOnce(u64) + Send + Unpin + 'static,
) -> Response {
    let opened = match artifact {
        Artifact::Bytes(bytes) => Source::from_bytes(bytes),
        Artifact::Joined(joined) => Source::joined(joined),
        Artifact::File(path) => match Source::open(&path).await {
            Ok(source) => source,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "published artifact cannot be read");
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
        },
    };
    let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    let tag = opened.tag.clone();
    if text(header::IF_NONE_MATCH).is_some_and(|known| known.split(',').any(|t| t.trim() == tag)) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    // RFC 9110 §13.1.5: a range of another version of the file would be put together wrongly.
    let same = text(header::IF_RANGE).is_none_or(|known| known == tag);
    let range = text(header::RANGE).filter(|_| same && method == Method::GET);
    let size = opened.size;
    let (status, start, len) = match part(range, size) {
        Part::Whole => (StatusCode::OK, 0, size),
        Part::Some { start, end } => (StatusCode::PARTIAL_CONTENT, start, end - start + 1),
        Part::Unsatisfiable => {
            let range = format!("bytes */{size}");
            return (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, range)]).into_response();
        }
    };
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        match opened.body(start, len, on_sent).await {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(%error, "published artifact cannot be read");
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
        }
    };
    let mut response = (status, body).into_response();
    let out = response.headers_mut();
    let mut set = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            out.insert(name, value);
        }
    };
    set(header::CONTENT_LENGTH, len.to_string());
    set(header::CONTENT_TYPE, "application/octet-stream".to_owned());
    set(header::ACCEPT_RANGES, "bytes".to_owned());
    set(header::ETAG, tag);
    if status == StatusCode::PARTIAL_CONTENT {
        set(header::CONTENT_RANGE, format!("bytes {start}-{}/{size}", start + len - 1));
    }
    response
}

impl Joined {
    /// Its files are known by their paths and sizes.
    #[must_use]
    pub fn new(pieces: impl IntoIterator<Item = Piece>) -> Self {
        let pieces: Box<[Piece]> = pieces.into_iter().collect();
        let hash = pieces.iter().fold(FNV, |before, piece| match piece {
            Piece::Bytes(bytes) => hash(before, bytes),
            Piece::File { path, len } => {
                hash(hash(before, path.as_os_str().as_encoded_bytes()), &len.to_le_bytes())
            }
        });
        Self { pieces, tag: format!("\"{hash:016x}\"") }
    }
}

/// An opened artifact.
struct Source {
    content: Content,
    size: u64,
    tag: String,
}

enum Content {
    Bytes(Bytes),
    File(tokio::fs::File),
    Joined(Arc<Joined>),
}

impl Source {
    fn from_bytes(bytes: Bytes) -> Self {
        let hash = hash(FNV, &bytes);
        Self { size: bytes.len() as u64, tag: format!("\"{hash:016x}\""), content: Content::Bytes(bytes) }
    }

    fn joined(joined: Arc<Joined>) -> Self {
        let size = joined.pieces.iter().map(Piece::len).sum();
        Self { size, tag: joined.tag.clone(), content: Content::Joined(joined) }
    }

    async fn open(path: &Path) -> io::Result<Self> {
        let file = tokio::fs::File::open(path).await?;
        let meta = file.metadata().await?;
        if !meta.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let changed = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Ok(Self {
            size: meta.len(),
            tag: format!("\"{:x}-{changed:x}\"", meta.len()),
            content: Content::File(file),
        })
    }

    async fn body(
        self,
        start: u64,
        len: u64,
        on_sent: impl FnOnce(u64) + Send + Unpin + 'static,
    ) -> io::Result<Body> {
        let stream: Chunks = match self.content {
            Content::Bytes(bytes) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(usize::try_from(len).unwrap_or(usize::MAX)).min(bytes.len());
                Box::pin(futures::stream::iter([Ok(bytes.slice(start..end))]))
            }
            Content::File(file) => part_of(file, start, len).await?,
            Content::Joined(joined) => {
                let parts = futures::stream::iter(overlap(&joined.pieces, start, len)).then(open_part);
                Box::pin(parts.try_flatten())
            }
        };
        Ok(Body::from_stream(Counted { stream, sent: 0, on_sent: Some(on_sent) }))
    }
}

/// FNV-1a: good enough to tell two builds of a boot file apart, and it never leaves the rack.
fn hash(before: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(before, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

/// What an FNV-1a hash of 64 bits begins with.
const FNV: u64 = 0xcbf2_9ce4_8422_2325;

async fn part_of(mut file: tokio::fs::File, start: u64, len: u64) -> io::Result<Chunks> {
    file.seek(SeekFrom::Start(start)).await?;
    file.set_max_buf_size(READ);
    Ok(Box::pin(ReaderStream::with_capacity(file.take(len), READ)))
}

/// The pieces that `len` bytes from `start` on touch, and which bytes of each.
fn overlap(pieces: &[Piece], start: u64, len: u64) -> Vec<(Piece, u64, u64)> {
    let (mut at, end) = (0_u64, start.saturating_add(len));
    let mut parts = Vec::new();
    for piece in pieces {
        let (from, to) = (start.max(at), end.min(at.saturating_add(piece.len())));
        if from < to {
            parts.push((piece.clone(), from - at, to - from));
        }
        at = at.saturating_add(piece.len());
    }
    parts
}

async fn open_part((piece, start, len): (Piece, u64, u64)) -> io::Result<Chunks> {
    match piece {
        Piece::Bytes(bytes) => {
            let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
            let part = bytes.slice(at(start)..at(start.saturating_add(len)));
            Ok(Box::pin(futures::stream::iter([Ok(part)])))
        }
        Piece::File { path, len: whole } => {
            let file = tokio::fs::File::open(&path).await?;
            if file.metadata().await?.len() != whole {
                return Err(io::Error::other(format!("{}: its size has changed", path.display())));
            }
            part_of(file, start, len).await
        }
    }
}

type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A body that says how much of it was taken, also when the machine breaks off.
struct Counted<F: FnOnce(u64) + Unpin> {
    stream: Chunks,
    sent: u64,
    on_sent: Option<F>,
}

impl<F: FnOnce(u64) + Unpin> Stream for Counted<F> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.stream.as_mut().poll_next(cx));
        if let Some(Ok(chunk)) = &next {
            self.sent += chunk.len() as u64;
        }
        Poll::Ready(next)
    }
}

impl<F: FnOnce(u64) + Unpin> Drop for Counted<F> {
    fn drop(&mut self) {
        if let Some(on_sent) = self.on_sent.take() {
            on_sent(self.sent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every part of a joined artifact is what the same part of the whole is.
    #[tokio::test]
    async fn a_joined_artifact_is_read_from_anywhere_to_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kernel");
        std::fs::write(&path, b"0123456789").unwrap();
        let file = Piece::File { path: path.clone(), len: 10 };
        let pieces =
            [Piece::Bytes(Bytes::from_static(b"abc")), file, Piece::Bytes(Bytes::from_static(b"xyz"))];
        let pieces = Arc::new(Joined::new(pieces));
        let whole = b"abc0123456789xyz";
        let read = async |header: String| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, header.parse().unwrap());
            let answer = respond(Artifact::Joined(Arc::clone(&pieces)), &Method::GET, &headers, |_| ()).await;
            assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
            axum::body::to_bytes(answer.into_body(), 1024).await.unwrap()
        };
        for start in 0..whole.len() {
            for end in start..whole.len() {
                assert_eq!(read(format!("bytes={start}-{end}")).await, &whole[start..=end]);
            }
        }
        // Another size is another file: no bytes of it.
        std::fs::write(&path, b"012345678").unwrap();
        let answer = respond(Artifact::Joined(pieces), &Method::GET, &HeaderMap::new(), |_| ()).await;
        assert!(axum::body::to_bytes(answer.into_body(), 1024).await.is_err());
    }
}
