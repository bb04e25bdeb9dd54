//! HTTP for machines that boot: scripts for one machine each, files for all.

mod content;
mod file;
mod head;
mod plain;
mod range;
mod sendfile;
mod serve;

use std::{
    fmt::Write as _,
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
pub use serve::{Limits, serve, serve_unix, serve_with};

use farrier_model::size::exact;

use crate::given::{self, Given};
use crate::{Artifact, Boot, BootEntry, BootTable, EventKind, MacAddr, script, server::Shared};

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
    method: Method,
    headers: HeaderMap,
    Path(file): Path<String>,
) -> Response {
    let Some(mac) = file.strip_suffix(".ipxe").and_then(|mac| mac.parse::<MacAddr>().ok()) else {
        return no_such(&shared, peer.ip(), &file, "a script's name, such as 52-54-00-00-00-01.ipxe");
    };
    let table = shared.table.load_full();
    let Some((given, script)) = script_for(&shared, &table, mac, peer.ip()) else {
        if let Some(entry) = table.entries_of(mac).first() {
            let why = refusal(&shared, &table, entry, peer.ip());
            let detail = format!("{why}; {}", asked(peer, &method, &headers));
            shared.events.emit(Some(mac), Some(&entry.node), EventKind::HttpScriptRefused, detail);
        } else if shared.strangers.load().due(peer.ip(), Instant::now()) {
            // Where DHCP is somebody else's, this is all that is seen of it.
            let detail = format!("asks for a boot script from {}", peer.ip());
            let network = network_of(&table, peer.ip());
            shared.events.emit(Some(mac), None, EventKind::UnknownMac { network, boots: true }, detail);
        }
        return StatusCode::NOT_FOUND.into_response();
    };
    let node = given.node;
    // Who asks how long it is was not given it (RFC 9110 §9.3.2), and what is in it stays a secret.
    if method != Method::HEAD {
        if let Some(node) = &node {
            shared.scripts.note(node);
        }
        let mut detail = asked(peer, &method, &headers);
        if given.boot == Boot::Wait {
            detail.push_str(" what it boots is not here yet: it is told to ask again");
        }
        shared.events.emit(Some(mac), node.as_deref(), EventKind::HttpScript, detail);
    } else {
        let kind = EventKind::HttpAsked { status: StatusCode::OK.as_u16(), name: file };
        shared.events.emit(Some(mac), node.as_deref(), kind, asked(peer, &method, &headers));
    }
    let headers = [(header::CONTENT_TYPE, "text/plain"), (header::CACHE_CONTROL, "no-store")];
    (headers, script).into_response()
}

/// Who asked, and every header of it by name and value: text of anybody, so what is not plain is not shown, nor what may be a
/// secret.
fn asked(peer: SocketAddr, method: &Method, headers: &HeaderMap) -> String {
    let mut out = format!("to {} [{method}", peer.ip());
    for (name, value) in headers.iter().take(HEADERS) {
        let secret = [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE].contains(name);
        let value = value.to_str().ok().filter(|_| !secret).unwrap_or("not shown");
        let value: String = value.chars().take(VALUE).collect();
        let _ = write!(out, ", {}: {value}", name.as_str().get(..VALUE).unwrap_or(name.as_str()));
    }
    // Anybody can cause one, and each is kept.
    let end = out.floor_char_boundary(LINE);
    if end < out.len() {
        out.truncate(end);
        out.push_str(", …");
    }
    out.push(']');
    out
}

/// Firmware has five, and none of them is long.
const HEADERS: usize = 16;
const VALUE: usize = 80;
/// All of them, and who asked.
const LINE: usize = 512;

/// What was expected of who asks for a machine's script, and what was seen.
fn refusal(shared: &Shared, table: &BootTable, entry: &BootEntry, peer: IpAddr) -> String {
    let (ip, mac, network) = (entry.ip, entry.mac, &entry.network);
    if given::to(shared, table, mac, peer).is_some() {
        return format!(
            "asked for by {peer}: expected something to boot, saw `boot: none`, an address and nothing else; nothing to boot: \
             set `boot`, to `local_disk` for its own disk"
        );
    }
    let Some(segment) = table.segment(network).filter(|s| s.addresses_are_foreign()) else {
        return format!("asked for by {peer}: expected {ip}, which is reserved for it on {network}");
    };
    let seen = table.ipv4_of(peer).filter(|peer| segment.contains(*peer));
    if seen.is_some() && !segment.is_on_link() {
        return format!(
            "asked for by {peer}: expected an address that {mac} was heard to take on {network} from its DHCP server, saw \
             another; let the relay of {network} bring DHCP to {} too",
            segment.server_ip
        );
    }
    match seen.map(|peer| shared.neighbours.who(peer, Instant::now())) {
        None => format!(
            "asked for by {peer}: expected {ip}, or an address of {network} that {mac} has, saw one of elsewhere; \
             behind a router let its relay bring DHCP here (`behind_relay`)"
        ),
        Some(None) => {
            format!("asked for by {peer}: expected {mac} to answer ARP for it on {network}, saw nobody")
        }
        Some(Some(other)) => {
            format!("asked for by {peer}: expected {mac} to have it on {network}, saw {other}")
        }
    }
}

/// The network of an address; empty: none of ours.
fn network_of(table: &BootTable, peer: IpAddr) -> String {
    let segment = table.ipv4_of(peer).and_then(|ip| table.segments().iter().find(|s| s.contains(ip)));
    segment.map(|s| s.network.clone()).unwrap_or_default()
}

fn script_for(shared: &Shared, table: &BootTable, mac: MacAddr, peer: IpAddr) -> Option<(Given, String)> {
    let given = given::to(shared, table, mac, peer)?;
    let script = script::render(&given.boot, mac, given.server)?;
    Some((given, script))
}

async fn artifact(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    method: Method,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Response {
    let artifact = name.parse().ok().and_then(|name| shared.table.load().artifact(&name).cloned());
    let Some(artifact) = artifact else {
        return no_such(&shared, peer.ip(), &name, "an artifact that is published");
    };
    let (detail, wanted, to) = (asked(peer, &method, &headers), name.clone(), Arc::clone(&shared));
    let on_sent = move |bytes| {
        let kind = EventKind::HttpArtifact { name, bytes };
        to.events.emit_from(peer.ip(), to.who(peer.ip()), kind, detail);
    };
    let answer = followed(&shared, peer.ip(), file::respond(artifact, &method, &headers, on_sent).await);
    told_asked(&shared, (peer, &method, &headers), &wanted, &answer);
    told(&shared, peer.ip(), &wanted, answer)
}

/// A file on its way says that its machine boots.
fn followed(shared: &Shared, peer: IpAddr, answer: Response) -> Response {
    if let Some(offered) = answer.extensions().get::<content::Offered>() {
        offered.follow(shared.sending.begin(peer, Instant::now()));
    }
    answer
}

/// Firmware asks how long a file is before it fetches it: where it stops at that, it is the last that is seen of it.
fn told_asked(
    shared: &Shared,
    (peer, method, headers): (SocketAddr, &Method, &HeaderMap),
    name: &str,
    answer: &Response,
) {
    if answer.extensions().get::<file::Asked>().is_some() {
        let kind = EventKind::HttpAsked { status: answer.status().as_u16(), name: name.to_owned() };
        let bytes =
            answer.headers().get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
        let bytes = bytes.map(|len| exact(len) + " ").unwrap_or_default();
        let detail = format!("{bytes}{}", asked(peer, method, headers));
        shared.events.emit_from(peer.ip(), shared.who(peer.ip()), kind, detail);
    }
}

/// Why an answer is no file is told where somebody looks who wants to know why a machine does not boot.
fn told(shared: &Shared, peer: IpAddr, name: &str, answer: Response) -> Response {
    if let Some(file::Failed(why)) = answer.extensions().get() {
        // Anybody can ask for anything.
        let printable = name.chars().take(LONGEST).map(|c| if c.is_ascii_graphic() { c } else { '?' });
        let kind = EventKind::HttpFailed { status: answer.status().as_u16(), name: printable.collect() };
        shared.events.emit_from(peer, shared.who(peer), kind, format!("to {peer}: {why}"));
    }
    answer
}

fn no_such(shared: &Shared, peer: IpAddr, name: &str, expected: &str) -> Response {
    let mut answer = StatusCode::NOT_FOUND.into_response();
    answer.extensions_mut().insert(file::Failed(format!("expected {expected}, saw a name of nothing here")));
    told(shared, peer, name, answer)
}

/// As long as an artifact's name may be.
const LONGEST: usize = 100;

/// The TFTP server's files, for UEFI HTTP boot.
async fn firmware(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    method: Method,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Response {
    let Some(bytes) = shared.config.files.get(&name).cloned() else {
        return no_such(&shared, peer.ip(), &name, "a boot file of the directory of boot files");
    };
    let (detail, wanted, to) = (asked(peer, &method, &headers), name.clone(), Arc::clone(&shared));
    let on_sent = move |bytes| {
        let kind = EventKind::HttpFirmware { name, bytes };
        to.events.emit_from(peer.ip(), to.who(peer.ip()), kind, detail);
    };
    let answer = file::respond(Artifact::Bytes(bytes), &method, &headers, on_sent).await;
    let answer = followed(&shared, peer.ip(), answer);
    told_asked(&shared, (peer, &method, &headers), &wanted, &answer);
    told(&shared, peer.ip(), &wanted, answer)
}
