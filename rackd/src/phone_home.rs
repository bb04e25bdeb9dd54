//! Routes of rackd's HTTP server beside netboot's: image bytes for ramdisks, and the call by which a
//! deployed operating system proves that it runs (cloud-init's `phone_home`).

use crate::rack::Rack;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

/// cloud-init posts host keys and names: a few KiB.
const MAX_CALL: usize = 64 * 1024;
/// Read size when streaming an image, bytes.
const READ: usize = 256 * 1024;

pub(crate) fn routes(rack: Arc<Rack>) -> Router {
    Router::new()
        .route("/phone-home/{task}/{secret}", post(phone_home))
        .route("/images/{manifest}", get(image))
        .layer(DefaultBodyLimit::max(MAX_CALL))
        .with_state(rack)
}

async fn phone_home(
    State(rack): State<Arc<Rack>>,
    Path((task, secret)): Path<(String, String)>,
    _body: Bytes,
) -> StatusCode {
    let Some(handle) = rack.tasks.get(&task) else { return StatusCode::NOT_FOUND };
    match handle.phone_home(&secret).await {
        Ok(true) => {
            tracing::info!(operation.id = %task, node.id = %handle.node, "operating system called home");
            StatusCode::OK
        }
        Ok(false) => StatusCode::NOT_FOUND,
        Err(error) => {
            tracing::error!(%error, "a phone-home call could not be journaled");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

#[derive(Deserialize)]
struct Signature {
    expires: u64,
    signature: String,
}

async fn image(
    State(rack): State<Arc<Rack>>,
    Path(manifest): Path<String>,
    Query(query): Query<Signature>,
    headers: HeaderMap,
) -> Response {
    if !rack.signer.check(&manifest, query.expires, &query.signature) {
        return (StatusCode::FORBIDDEN, "this URL is not signed by this rack, or has expired\n")
            .into_response();
    }
    let Some(path) = rack.cache.path(&manifest) else {
        return (StatusCode::NOT_FOUND, "this image is not in the rack's cache\n").into_response();
    };
    match read_range(&path, headers.get(header::RANGE).and_then(|v| v.to_str().ok())).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "cannot read the image cache");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn read_range(path: &std::path::Path, range: Option<&str>) -> io::Result<Response> {
    let mut file = tokio::fs::File::open(path).await?;
    let size = file.metadata().await?.len();
    let (status, first, len) = match range.map(|r| parse_range(r, size)) {
        None => (StatusCode::OK, 0, size),
        Some(Some((first, last))) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Some(None) => {
            let all = format!("bytes */{size}");
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, all)]).into_response());
        }
    };
    file.seek(io::SeekFrom::Start(first)).await?;
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(len), READ));
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_LENGTH, len)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ACCEPT_RANGES, "bytes");
    if status == StatusCode::PARTIAL_CONTENT {
        response =
            response.header(header::CONTENT_RANGE, format!("bytes {first}-{}/{size}", first + len - 1));
    }
    response.body(body).map_err(io::Error::other)
}

/// One range of RFC 9110 §14.1.2, `bytes=a-b` or `bytes=a-`, both ends inclusive.
fn parse_range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let first: u64 = first.parse().ok()?;
    let end = size.checked_sub(1)?;
    let last = if last.is_empty() { end } else { last.parse::<u64>().ok()?.min(end) };
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::parse_range;

    #[test]
    fn ranges_stay_inside_the_file() {
        for (text, expected) in [
            ("bytes=0-9", Some((0, 9))),
            ("bytes=90-200", Some((90, 99))),
            ("bytes=5-", Some((5, 99))),
            ("bytes=100-", None),
            ("bytes=9-5", None),
            ("bytes=-5", None),
            ("bytes=0-1,3-4", None),
            ("lines=1-2", None),
        ] {
            assert_eq!(parse_range(text, 100), expected, "{text}");
        }
        assert_eq!(parse_range("bytes=0-", 0), None);
    }
}
