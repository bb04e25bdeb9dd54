//! HTTP for machines that boot: scripts for one machine each, files for all.

mod file;
mod range;
mod serve;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use axum::{
    Router,
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
pub use file::respond;
pub use serve::{Limits, serve};

use crate::{Artifact, BootTable, EventKind, MacAddr, given, script, server::Shared};

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/boot/{file}", get(boot_script))
        .route("/artifacts/{name}", get(artifact))
        .route("/firmware/{name}", get(firmware))
        .with_state(shared)
}

/// A boot script ([`given`]). It is not cached, and is not logged.
async fn boot_script(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(file): Path<String>,
) -> Response {
    let Some(mac) = file.strip_suffix(".ipxe").and_then(|mac| mac.parse::<MacAddr>().ok()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let table = shared.table.load_full();
    let Some((node, script)) = script_for(&shared, &table, mac, peer.ip()) else {
        if let Some(entry) = table.entries_of(mac).first() {
            let detail = format!("asked for by {}", peer.ip());
            shared.events.emit(Some(mac), Some(&entry.node), EventKind::HttpScriptRefused, detail);
        } else if shared.strangers.due(peer.ip(), Instant::now()) {
            // Where DHCP is somebody else's, this is all that is seen of it.
            let detail = format!("asks for a boot script from {}", peer.ip());
            let network = network_of(&table, peer.ip());
            shared.events.emit(Some(mac), None, EventKind::UnknownMac { network, boots: true }, detail);
        }
        return StatusCode::NOT_FOUND.into_response();
    };
    shared.events.emit(Some(mac), node.as_deref(), EventKind::HttpScript, format!("to {}", peer.ip()));
    let headers = [(header::CONTENT_TYPE, "text/plain"), (header::CACHE_CONTROL, "no-store")];
    (headers, script).into_response()
}

/// The network of an address; empty: none of ours.
fn network_of(table: &BootTable, peer: IpAddr) -> String {
    let segment = table.ipv4_of(peer).and_then(|ip| table.segments().iter().find(|s| s.contains(ip)));
    segment.map(|s| s.network.clone()).unwrap_or_default()
}

fn script_for(
    shared: &Shared,
    table: &BootTable,
    mac: MacAddr,
    peer: IpAddr,
) -> Option<(Option<String>, String)> {
    let given = given::to(shared, table, mac, peer)?;
    Some((given.node, script::render(&given.boot, given.server)?))
}

async fn artifact(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    method: Method,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Response {
    let artifact = name.parse().ok().and_then(|name| shared.table.load().artifact(&name).cloned());
    let Some(artifact) = artifact else { return StatusCode::NOT_FOUND.into_response() };
    let on_sent = move |bytes| {
        let (mac, node) = shared.who(peer.ip());
        let detail = format!("to {}", peer.ip());
        shared.events.emit(mac, node.as_deref(), EventKind::HttpArtifact { name, bytes }, detail);
    };
    file::respond(artifact, &method, &headers, on_sent).await
}

/// The TFTP server's files, for UEFI HTTP boot.
async fn firmware(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    method: Method,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Response {
    let Some(bytes) = shared.config.files.get(&name).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let on_sent = move |bytes| {
        let (mac, node) = shared.who(peer.ip());
        let detail = format!("to {}", peer.ip());
        shared.events.emit(mac, node.as_deref(), EventKind::HttpFirmware { name, bytes }, detail);
    };
    file::respond(Artifact::Bytes(bytes), &method, &headers, on_sent).await
}
