//! One file as an HTTP answer: entity tag, ranges, streamed.

use std::{io, path::Path, time::UNIX_EPOCH};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;

use super::content::{Content, Offered, Slice, Source};
use super::range::{Part, part};
use crate::{Artifact, Joined, Piece};

/// Why an answer is no file, for the boot trace: beside the answer, and not in it.
#[derive(Debug, Clone)]
pub(super) struct Failed(pub(super) String);

fn failed(mut answer: Response, why: String) -> Response {
    answer.extensions_mut().insert(Failed(why));
    answer
}

/// An answer without the file, to who asked about it: for the boot trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked;

/// Answers GET and HEAD. `on_sent` hears how many bytes went out when the body is done or dropped.
pub async fn respond(
    artifact: Artifact,
    method: &Method,
    headers: &HeaderMap,
    on_sent: impl FnOnce(u64) + Send + 'static,
) -> Response {
    let opened = match artifact {
        Artifact::Bytes(bytes) => Opened::from_bytes(bytes),
        Artifact::Joined(joined) => Opened::joined(&joined),
        Artifact::File(path) => match Opened::open(&path).await {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "published artifact cannot be read");
                let why = format!(
                    "expected a file to read at {}, saw {error}; put it there, or mount what it is on",
                    path.display()
                );
                return failed(StatusCode::INTERNAL_SERVER_ERROR.into_response(), why);
            }
        },
    };
    let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    let tag = opened.tag.clone();
    if text(header::IF_NONE_MATCH).is_some_and(|known| known.split(',').any(|t| t.trim() == tag)) {
        let mut answer = (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
        answer.extensions_mut().insert(Asked);
        return answer;
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
            let answer =
                (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, range)]).into_response();
            return failed(answer, format!("expected a range of its {size} bytes, saw one beyond them"));
        }
    };
    let mut response = if method == Method::HEAD {
        let mut answer = (status, Body::empty()).into_response();
        answer.extensions_mut().insert(Asked);
        answer
    } else {
        let offered = Offered::new(Content::new(opened.slices(start, len), on_sent));
        let mut response = (status, offered.body()).into_response();
        response.extensions_mut().insert(offered);
        response
    };
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
struct Opened {
    pieces: Vec<(Slice, u64)>,
    size: u64,
    tag: String,
}

impl Opened {
    fn from_bytes(bytes: Bytes) -> Self {
        let (hash, size) = (hash(FNV, &bytes), bytes.len() as u64);
        Self { size, tag: format!("\"{hash:016x}\""), pieces: vec![(Slice::Bytes(bytes), size)] }
    }

    fn joined(joined: &Joined) -> Self {
        let piece = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => (Slice::Bytes(bytes.clone()), piece.len()),
            Piece::File { path, len } => {
                (Slice::File { file: Source::Closed(path.clone(), *len), start: 0, len: *len }, *len)
            }
        };
        let size = joined.pieces.iter().map(Piece::len).sum();
        Self { size, tag: joined.tag.clone(), pieces: joined.pieces.iter().map(piece).collect() }
    }

    async fn open(path: &Path) -> io::Result<Self> {
        let file = tokio::fs::File::open(path).await?;
        let meta = file.metadata().await?;
        if !meta.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let changed = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let (file, len) = (Source::Open(file.into_std().await), meta.len());
        Ok(Self {
            size: len,
            tag: format!("\"{len:x}-{changed:x}\""),
            pieces: vec![(Slice::File { file, start: 0, len }, len)],
        })
    }

    /// `len` bytes from `start` on.
    fn slices(self, start: u64, len: u64) -> Vec<Slice> {
        let (mut at, end) = (0_u64, start.saturating_add(len));
        let mut slices = Vec::new();
        for (slice, size) in self.pieces {
            let (from, to) = (start.max(at), end.min(at.saturating_add(size)));
            if from < to {
                slices.push(slice.part(from - at, to - from));
            }
            at = at.saturating_add(size);
        }
        slices
    }
}

/// FNV-1a: good enough to tell two builds of a boot file apart, and it never leaves the rack.
fn hash(before: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(before, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

/// What an FNV-1a hash of 64 bits begins with.
const FNV: u64 = 0xcbf2_9ce4_8422_2325;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
