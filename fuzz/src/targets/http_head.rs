//! Heads of HTTP requests, as the first bytes of a connection and as they come in parts.

#[path = "../../../rackd/netboot/src/http/head.rs"]
mod head;

use axum::http::{HeaderValue, Method, Response, StatusCode, Version, header};
use head::Head;

pub fn run(data: &[u8]) {
    let whole = head::parse(data);
    // What is decided of a beginning is not taken back when more comes.
    for len in [data.len() / 4, data.len() / 2, data.len().saturating_sub(1)] {
        match (head::parse(&data[..len]), &whole) {
            (Head::Partial, _) => {}
            (Head::Other, whole) => assert!(matches!(whole, Head::Other), "{whole:?}"),
            (Head::Read { len, .. }, whole) => {
                assert!(matches!(whole, Head::Read { len: same, .. } if *same == len), "{whole:?}");
            }
        }
    }
    let Head::Read { request, len } = whole else { return };
    assert!(len <= data.len() && matches!(data[len - 1], b'\n'));
    assert!([Method::GET, Method::HEAD].contains(request.method()) && request.version() == Version::HTTP_11);
    // Nothing behind it is a body: bytes that are left are the next request.
    for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::UPGRADE] {
        assert!(!request.headers().contains_key(name));
    }
    // What a request says comes back in an answer's headers, and stays one line.
    let value = request.headers().values().next().cloned().unwrap_or(HeaderValue::from_static("x"));
    let answer = Response::builder().status(StatusCode::OK).header("x-said", value).body(()).unwrap();
    let written = head::write(&answer, "Sun, 06 Nov 1994 08:49:37 GMT");
    let lines = written.split(|byte| *byte == b'\n').count();
    assert_eq!(lines, 5, "status, date, x-said, the empty one and its end");
    head::says(request.headers(), "close");
    head::has_no_body(request.method(), answer.status());
}
