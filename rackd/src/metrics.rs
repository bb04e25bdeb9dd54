//! What is counted, for Prometheus, at `/metrics` of an address on loopback: there is no TLS and no password.

use axum::Router;
use axum::http::header;
use axum::routing::get;
use farrier_netboot::{Netboot, http};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves until `shutdown`.
pub(crate) async fn serve(listener: TcpListener, netboot: Netboot, shutdown: CancellationToken) {
    let answer = move || {
        let text = netboot.metrics();
        async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text) }
    };
    let router = Router::new().route("/metrics", get(answer));
    http::serve(listener, |_| (), router, http::Limits::default(), shutdown).await;
}
