//! Why does it not boot? What the DHCP server gave and would give, and what was seen and decided, as JSON over HTTP on a socket
//! of this host: `curl --unix-socket DIR/control/http.sock http://rackd/leases`.
//!
//! Only reads. Whoever may enter the directory may ask, and it is our user's alone; there is no secret in the answers.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use crate::grpc::boot_event_word;
use anyhow::Context as _;
use axum::extract::{Path as Segment, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Router, http::header, response::IntoResponse as _, response::Response};
use farrier_netboot::{Boot, BootEntry, BootEvent, BootTable, Lease, LeaseKind, MacAddr, Netboot, http};
use prost_types::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

/// The server, bound; it runs until `shutdown`.
pub(super) fn listen(
    data: &Path,
    netboot: Netboot,
    shutdown: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send + use<>> {
    let directory = data.join(DIRECTORY);
    let socket = directory.join(SOCKET);
    let bind = || {
        // A socket's own mode comes after it is there; nobody else gets as far as that.
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        std::fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
        // What a killed one left: two of us cannot have these leases open.
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        UnixListener::bind(&socket)
    };
    let listener = bind().with_context(|| format!("cannot listen on {}", socket.display()))?;
    let limits = http::Limits { connections: CONNECTIONS, ..http::Limits::default() };
    Ok(http::serve_unix(listener, router(netboot), limits, shutdown))
}

fn router(netboot: Netboot) -> Router {
    Router::new()
        .route("/leases", get(async |State(netboot): State<Netboot>| json(&leases(&netboot))))
        .route("/reservations", get(async |State(netboot): State<Netboot>| json(&reservations(&netboot))))
        .route("/log", get(log))
        .route("/trace/{mac}", get(trace))
        .fallback(async || (StatusCode::NOT_FOUND, PATHS))
        .with_state(netboot)
}

/// What there is.
const PATHS: &str = "expected /leases, /reservations, /log, /log?mac=MAC or /trace/MAC\n";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    /// One machine's; missing: everybody's.
    mac: Option<String>,
}

/// Who asked for an address, and what was decided about it: also who was given none, and other servers.
async fn log(State(netboot): State<Netboot>, Query(which): Query<Which>) -> Response {
    let events = match which.mac.as_deref().map(str::parse::<MacAddr>) {
        Some(Err(_)) => return no_mac(),
        // What is kept of one outlasts a storm of others.
        Some(Ok(mac)) => netboot.trace(mac),
        None => netboot.log(),
    };
    json(&events.iter().filter(|event| event.kind.is_dhcp()).map(|event| seen(event)).collect::<Vec<_>>())
}

/// All that one machine did on its way to its system, and what it was told.
async fn trace(State(netboot): State<Netboot>, Segment(mac): Segment<String>) -> Response {
    let Ok(mac) = mac.parse() else { return no_mac() };
    json(&netboot.trace(mac).iter().map(|event| seen(event)).collect::<Vec<_>>())
}

fn no_mac() -> Response {
    let text = "expected a MAC address such as 52:54:00:00:00:01\n";
    (StatusCode::BAD_REQUEST, text).into_response()
}

/// A line at its end, for terminals.
fn json<T: Serialize>(rows: &[T]) -> Response {
    match serde_json::to_vec_pretty(rows) {
        Ok(mut body) => {
            body.push(b'\n');
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[derive(Serialize)]
struct LeaseText {
    network: String,
    ip_address: String,
    mac_address: String,
    /// `reserved`, `pool`, or `declined`: a stranger uses it, and nobody is given it.
    kind: &'static str,
    /// Empty where it is of the pool.
    machine: String,
    expire_time: String,
    /// By DHCPv6, where it is reserved on a segment that has that; else empty.
    ipv6_address: String,
}

fn leases(netboot: &Netboot) -> Vec<LeaseText> {
    let table = netboot.table();
    let text = |lease: Lease| {
        let kind = match lease.kind {
            LeaseKind::Reserved => "reserved",
            LeaseKind::Pool(_) => "pool",
            LeaseKind::Declined => "declined",
        };
        let entry = table.entry(lease.mac, &lease.network).filter(|_| kind == "reserved");
        LeaseText {
            machine: entry.map(|entry| entry.node.clone()).unwrap_or_default(),
            ipv6_address: entry.map(|entry| six(&table, entry)).unwrap_or_default(),
            network: lease.network,
            ip_address: lease.ip.to_string(),
            mac_address: lease.mac.to_string(),
            kind,
            expire_time: Timestamp::from(lease.expires_at).to_string(),
        }
    };
    netboot.leases().into_iter().map(text).collect()
}

#[derive(Serialize)]
struct ReservationText {
    network: String,
    ip_address: String,
    mac_address: String,
    machine: String,
    hostname: String,
    /// `none`, `local_disk`, `linux` or `iscsi`.
    boot: &'static str,
    /// By DHCPv6, where the segment has that; else empty.
    ipv6_address: String,
}

fn six(table: &BootTable, entry: &BootEntry) -> String {
    table.ipv6_of(entry).map(|ip| ip.to_string()).unwrap_or_default()
}

fn reservations(netboot: &Netboot) -> Vec<ReservationText> {
    let table = netboot.table();
    let mut entries: Vec<&BootEntry> = table.entries().map(AsRef::as_ref).collect();
    entries.sort_by(|a, b| (&a.network, a.ip).cmp(&(&b.network, b.ip)));
    let text = |entry: &BootEntry| ReservationText {
        network: entry.network.clone(),
        ip_address: entry.ip.to_string(),
        mac_address: entry.mac.to_string(),
        machine: entry.node.clone(),
        hostname: entry.hostname.clone(),
        ipv6_address: six(&table, entry),
        boot: match entry.boot {
            Boot::None => "none",
            Boot::LocalDisk => "local_disk",
            Boot::Script { .. } | Boot::Signed { .. } => "linux",
            Boot::San(_) | Boot::Wait => "iscsi",
        },
    };
    entries.into_iter().map(text).collect()
}

#[derive(Serialize)]
struct EventText {
    time: String,
    /// Grows by one with each event of this process.
    sequence: u64,
    /// Empty where it is not known.
    mac_address: String,
    machine: String,
    /// For programs: `dhcp_ack`, as in the API.
    r#type: String,
    /// For people.
    kind: String,
    detail: String,
}

fn seen(event: &BootEvent) -> EventText {
    EventText {
        time: Timestamp::from(event.at).to_string(),
        sequence: event.sequence,
        mac_address: event.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        machine: event.node.clone().unwrap_or_default(),
        r#type: boot_event_word(&event.kind),
        kind: event.kind.to_string(),
        detail: event.detail.clone(),
    }
}

const DIRECTORY: &str = "control";
const SOCKET: &str = "http.sock";
/// More than people ask at once.
const CONNECTIONS: usize = 16;
