//! HTTP in the [`golden`](crate::golden) files: each request, and the head of its answer.
//!
//! A firmware's HTTP client is met by the headers that matter, and so is what it is told; bodies are what files and scripts are.
//! Of a script the length is left out: it is that of its kernel arguments, which are a secret of their boot. So are dates, and
//! tags, which are those of one build of a boot file.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{HeaderMap, Request},
};
use farrier_netboot::{Artifact, BootTable, Config, Netboot, Segment};
use tower::ServiceExt as _;

use crate::golden::World;
use crate::lab::noise;

/// A request and the head of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) from: IpAddr,
    /// The request line, then headers.
    pub(crate) asked: Vec<String>,
    /// The status, then headers.
    pub(crate) told: Vec<String>,
}

impl Exchange {
    pub(crate) fn path(&self) -> &str {
        self.asked[0].split(' ').nth(1).unwrap_or_default()
    }

    fn told(&self, header: &str) -> Option<&str> {
        self.told.iter().find_map(|line| line.strip_prefix(header)?.strip_prefix(": "))
    }

    /// Of the whole file, where there is one.
    fn size(&self) -> Option<usize> {
        let status = self.told[0].as_str();
        let all = self.told("content-range").and_then(|range| range.rsplit('/').next());
        ["200", "206"].contains(&status).then(|| all.or(self.told("content-length"))?.parse().ok())?
    }

    pub(crate) fn render(&self, out: &mut String) {
        let _ = writeln!(out, "http {}", self.from);
        self.asked.iter().for_each(|line| writeln!(out, "  << {line}").unwrap());
        self.told.iter().for_each(|line| writeln!(out, "  >> {line}").unwrap());
    }
}

/// What would be told now, without a socket: the server's whole service, as it is called for a request.
pub(crate) fn replay(world: &World, exchanges: &[Exchange]) -> Vec<Exchange> {
    let mut config = Config::new(world.files.http_port);
    let mut table = BootTable::new();
    table.set_segments(vec![Segment { interface: String::new(), ..world.segment.clone() }]);
    table.publish(world.entry.clone());
    for exchange in exchanges {
        let Some(bytes) = exchange.size().map(noise) else { continue };
        match exchange.path().split('/').collect::<Vec<_>>()[..] {
            ["", "firmware", name] => drop(config.files.insert(name.to_owned(), bytes.into())),
            ["", "artifacts", name] => {
                table.publish_artifact(name.parse().unwrap(), Artifact::Bytes(bytes.into()));
            }
            _ => {}
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let netboot = Netboot::start(config, table).await;
        let mut out = Vec::new();
        for exchange in exchanges {
            let line: Vec<_> = exchange.asked[0].split(' ').collect();
            let mut request = Request::builder().method(line[0]).uri(line[1]);
            for (name, value) in exchange.asked[1..].iter().filter_map(|line| line.split_once(": ")) {
                request = request.header(name, value);
            }
            let mut request = request.body(Body::empty()).unwrap();
            request.extensions_mut().insert(ConnectInfo(SocketAddr::new(exchange.from, 1024)));
            let answer = netboot.router().oneshot(request).await.unwrap();
            let value = |name: &str, headers: &HeaderMap| {
                headers.get(name).map(|value| value.to_str().unwrap().to_owned())
            };
            let told = told(exchange.path(), answer.status().as_str(), |name| value(name, answer.headers()));
            out.push(Exchange { told, ..exchange.clone() });
        }
        netboot.shutdown().await;
        out
    })
}

/// A TCP segment to or from the server.
pub(crate) struct Piece<'a> {
    pub(crate) client: (IpAddr, u16),
    pub(crate) from_client: bool,
    pub(crate) syn: bool,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// The bytes of one direction, by their places in it. Of what the capture cut short there are the beginnings.
#[derive(Default)]
struct Stream<'a> {
    first: u32,
    parts: BTreeMap<u32, &'a [u8]>,
}

impl<'a> Stream<'a> {
    fn take(&mut self, piece: &Piece<'a>) {
        if piece.syn {
            self.first = piece.sequence.wrapping_add(1);
        } else if !piece.payload.is_empty() {
            let part = self.parts.entry(piece.sequence.wrapping_sub(self.first)).or_default();
            if part.len() < piece.payload.len() {
                *part = piece.payload;
            }
        }
    }

    /// The head of a message that begins there.
    fn head(&self, at: usize) -> Option<String> {
        let mut bytes = Vec::new();
        loop {
            let next = at + bytes.len();
            let (start, part) = self.parts.range(..=u32::try_from(next).ok()?).next_back()?;
            bytes.extend(part.get(next - *start as usize..).filter(|rest| !rest.is_empty())?);
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                bytes.truncate(end + 4);
                return String::from_utf8(bytes).ok();
            }
        }
    }
}

/// What was asked and told, a connection after the other.
pub(crate) fn exchanges(pieces: &[Piece<'_>]) -> Vec<Exchange> {
    let mut connections: Vec<((IpAddr, u16), Stream<'_>, Stream<'_>)> = Vec::new();
    for piece in pieces {
        let begun = connections.iter().rev().find(|(client, ..)| *client == piece.client);
        // Sent twice, as before the server's address was resolved, it is one connection.
        let again = begun.is_some_and(|(_, asked, _)| asked.first == piece.sequence.wrapping_add(1));
        if piece.syn && piece.from_client && !again {
            connections.push((piece.client, Stream::default(), Stream::default()));
        }
        let its = connections.iter_mut().rev().find(|(client, ..)| *client == piece.client);
        if let Some((_, asked, told)) = its {
            if piece.from_client { asked.take(piece) } else { told.take(piece) }
        }
    }
    connections.iter().flat_map(|((client, _), asked, told)| of_connection(*client, asked, told)).collect()
}

fn of_connection(from: IpAddr, asked: &Stream<'_>, answered: &Stream<'_>) -> Vec<Exchange> {
    let (mut out, mut at, mut told_at) = (Vec::new(), 0, 0);
    while let (Some(request), Some(answer)) = (asked.head(at), answered.head(told_at)) {
        let line = request.lines().next().unwrap_or_default().to_owned();
        let value = |head: &str, name: &str| {
            let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
            let (_, value) = fields.find(|(its, _)| its.eq_ignore_ascii_case(name))?;
            Some(value.trim().to_owned())
        };
        let headers =
            ASKED.iter().filter_map(|name| Some(format!("{name}: {}", value(&request, name)?))).collect();
        let asked = [vec![line.clone()], headers].concat();
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let bare = line.starts_with("HEAD ") || ["204", "304"].contains(&status);
        let body = value(&answer, "content-length").filter(|_| !bare).and_then(|len| len.parse().ok());
        let path = line.split(' ').nth(1).unwrap_or_default();
        let told = told(path, status, |name| value(&answer, name));
        out.push(Exchange { from, asked, told });
        at += request.len();
        told_at += answer.len() + body.unwrap_or(0);
    }
    out
}

fn told(path: &str, status: &str, value: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let of_a_script = |name: &str| name == "content-length" && path.starts_with("/boot/");
    let headers = TOLD.iter().filter(|name| !of_a_script(name));
    let headers = headers.filter_map(|name| Some(format!("{name}: {}", value(name)?)));
    std::iter::once(status.to_owned()).chain(headers).collect()
}

const ASKED: [&str; 8] =
    ["host", "user-agent", "accept", "connection", "range", "if-range", "if-match", "if-none-match"];
const TOLD: [&str; 5] = ["content-type", "content-length", "content-range", "accept-ranges", "cache-control"];

#[test]
fn requests_of_one_connection_are_told_apart_whatever_the_capture_cut() {
    let (client, mut pieces) = ((IpAddr::from([10, 77, 0, 50]), 4000), Vec::new());
    let mut piece = |from_client, syn, sequence, payload: &'static str| {
        pieces.push(Piece { client, from_client, syn, sequence, payload: payload.as_bytes() });
    };
    piece(true, true, u32::MAX, "");
    piece(true, true, u32::MAX, "");
    piece(false, true, 9, "");
    piece(true, false, 0, "HEAD /firmware/f HTTP/1.1\r\nHost: rack\r\n");
    piece(true, false, 39, "\r\nGET /firmware/f HTTP/1.1\r\nRange: bytes=0-\r\n\r\n");
    piece(false, false, 10, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n");
    // Sent twice, and of its 5,000 bytes nothing was kept.
    piece(false, false, 51, "HTTP/1.1 206 Partial Content\r\n");
    piece(false, false, 51, "HTTP/1.1 206 Partial Content\r\ncontent-length: 5000\r\n\r\n");
    piece(true, false, 86, "GET /boot/x.ipxe HTTP/1.1\r\n\r\n");
    piece(false, false, 5105, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nDate: now\r\n\r\n");
    let found: Vec<_> = exchanges(&pieces).into_iter().map(|e| (e.asked, e.told)).collect();
    let line = |text: &str| text.to_owned();
    assert_eq!(
        found,
        [
            (
                vec![line("HEAD /firmware/f HTTP/1.1"), line("host: rack")],
                vec![line("200"), line("content-length: 5000")],
            ),
            (
                vec![line("GET /firmware/f HTTP/1.1"), line("range: bytes=0-")],
                vec![line("206"), line("content-length: 5000")],
            ),
            (vec![line("GET /boot/x.ipxe HTTP/1.1")], vec![line("404")]),
        ]
    );
}
