//! Routes of rackd's HTTP server beside netboot's: image bytes for ramdisks, and the call by which a
//! deployed operating system proves that it runs (cloud-init's `phone_home`).

use crate::rack::Rack;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use farrier_netboot::{Artifact, EventKind};
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// cloud-init posts host keys and names: a few KiB.
const MAX_CALL: usize = 64 * 1024;
const BODY_PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn routes(rack: Arc<Rack>) -> Router {
    Router::new()
        .route("/phone-home/{task}/{secret}", post(phone_home))
        .route("/images/{manifest}", get(image))
        .with_state(rack)
}

async fn phone_home(
    State(rack): State<Arc<Rack>>,
    Path((task, secret)): Path<(String, String)>,
    body: Body,
) -> StatusCode {
    // Nothing is read of somebody who knows no secret.
    let Some(handle) = rack.tasks.get(&task) else { return StatusCode::NOT_FOUND };
    match handle.phone_home(&secret).await {
        Ok(true) => {
            // What it says of itself is not used; it is taken, so that the caller sees an answer, no reset.
            let _ = tokio::time::timeout(BODY_PATIENCE, axum::body::to_bytes(body, MAX_CALL)).await;
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
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(manifest): Path<String>,
    Query(query): Query<Signature>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    // In the boot trace of the machine whose agent asks: the rest of the URL is a secret, and so is none of this.
    let tell = |status: StatusCode, why: &str| {
        let name = manifest.chars().filter(char::is_ascii_hexdigit).take(DIGITS).collect();
        let kind = EventKind::HttpFailed { status: status.as_u16(), name };
        rack.netboot.tell(peer.ip(), kind, format!("to {}: {why}", peer.ip()));
    };
    if !rack.signer.check(&manifest, query.expires, &query.signature) {
        const WHY: &str = "this URL is not signed by this rack, or has expired";
        tell(StatusCode::FORBIDDEN, WHY);
        return (StatusCode::FORBIDDEN, format!("{WHY}\n")).into_response();
    }
    let Some(path) = rack.cache.path(&manifest) else {
        const WHY: &str = "this image is not in the rack's cache";
        tell(StatusCode::NOT_FOUND, WHY);
        return (StatusCode::NOT_FOUND, format!("{WHY}\n")).into_response();
    };
    let netboot = rack.netboot.clone();
    let on_sent = move |bytes| netboot.count_sent("image", bytes);
    let answer = farrier_netboot::http::respond(Artifact::File(path), &method, &headers, on_sent).await;
    if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
        tell(answer.status(), "expected a range of the image, saw one beyond it");
    }
    answer
}

/// Of an image's digest, SHA-256.
const DIGITS: usize = 64;
