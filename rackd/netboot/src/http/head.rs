//! The heads of HTTP/1.1 messages: of requests that are answered here, and of all answers to them. Pure.

use std::io::Write as _;

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
};

/// What the first bytes of a connection, or those after an answer, are.
#[derive(Debug)]
pub(super) enum Head {
    /// Its end has not come yet.
    Partial,
    /// A request without a body for something that is to be read; its head is so many bytes long.
    Read { request: Box<Request<()>>, len: usize },
    /// Anything else, right or wrong.
    Other,
}

/// Reads the head of a request.
pub(super) fn parse(bytes: &[u8]) -> Head {
    let mut room = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut room);
    let len = match parsed.parse(bytes) {
        // As long as it would have been waited for, whether it came at once or in parts.
        Ok(httparse::Status::Complete(len)) if len <= LONGEST => len,
        Ok(httparse::Status::Complete(_)) => return Head::Other,
        Ok(httparse::Status::Partial) if bytes.len() < LONGEST => return Head::Partial,
        Ok(httparse::Status::Partial) | Err(_) => return Head::Other,
    };
    request(&parsed).map_or(Head::Other, |request| Head::Read { request: Box::new(request), len })
}

fn request(parsed: &httparse::Request<'_, '_>) -> Option<Request<()>> {
    let method = match parsed.method? {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        _ => return None,
    };
    // 1.0 knows neither lengths nor further requests.
    if parsed.version? != 1 {
        return None;
    }
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = Uri::try_from(parsed.path?).ok()?;
    *request.version_mut() = Version::HTTP_11;
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        if OTHERS.contains(&name) {
            return None;
        }
        request.headers_mut().append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    (!says(request.headers(), "upgrade")).then_some(request)
}

/// Whether a connection option is there (RFC 9110 §7.6.1).
pub(super) fn says(headers: &HeaderMap, option: &str) -> bool {
    let options = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    options.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(option))
}

/// Whether an answer has no body whatever it says of its length (RFC 9112 §6.3).
pub(super) fn has_no_body(method: &Method, status: StatusCode) -> bool {
    method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

/// Writes the head of an answer.
pub(super) fn write<T>(response: &Response<T>, date: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let status = response.status();
    // Into memory: it cannot fail.
    let _ = write!(out, "HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or_default());
    if !response.headers().contains_key(header::DATE) {
        let _ = write!(out, "date: {date}\r\n");
    }
    for (name, value) in response.headers() {
        let _ = write!(out, "{name}: ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Headers of requests with a body, or that want another protocol.
const OTHERS: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::EXPECT, header::UPGRADE];
/// More headers than any firmware sends.
const HEADERS: usize = 48;
/// The longest head that is waited for, in bytes.
pub(super) const LONGEST: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn is_read(bytes: &str) -> bool {
        matches!(parse(bytes.as_bytes()), Head::Read { len, .. } if len == bytes.len())
    }

    #[test]
    fn what_is_to_be_read_is_answered_here_and_the_rest_is_left_to_hyper() {
        assert!(is_read("GET /artifacts/kernel HTTP/1.1\r\nHost: rack\r\nRange: bytes=0-1\r\n\r\n"));
        assert!(is_read("HEAD / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n"));
        let others = [
            "GET / HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nConnection: Keep-Alive, Upgrade\r\n\r\n",
            "GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
            "GET  HTTP/1.1\r\n\r\n",
            "\u{16}\u{3}\u{1}",
        ];
        for other in others {
            assert!(matches!(parse(other.as_bytes()), Head::Other), "{other}");
        }
        let many = "GET / HTTP/1.1\r\n".to_owned() + &"a: b\r\n".repeat(HEADERS + 1) + "\r\n";
        assert!(matches!(parse(many.as_bytes()), Head::Other));
    }

    #[test]
    fn a_head_is_waited_for_until_it_is_too_long() {
        let whole = "GET /artifacts/kernel HTTP/1.1\r\nHost: rack\r\n\r\n";
        for len in 0..whole.len() {
            assert!(matches!(parse(&whole.as_bytes()[..len]), Head::Partial), "{len}");
        }
        // A second request behind it is left where it is.
        let two = whole.repeat(2);
        assert!(matches!(parse(two.as_bytes()), Head::Read { len, .. } if len == whole.len()));
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(LONGEST));
        assert!(matches!(parse(long.as_bytes()), Head::Other));
        assert!(matches!(parse((long + "\r\n").as_bytes()), Head::Other), "whole, and too long");
    }

    #[test]
    fn a_head_is_written_as_it_is_read() {
        let response =
            Response::builder().status(206).header("content-range", "bytes 0-1/2").body(()).unwrap();
        let text = String::from_utf8(write(&response, "Sun, 06 Nov 1994 08:49:37 GMT")).unwrap();
        assert_eq!(
            text,
            "HTTP/1.1 206 Partial Content\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-range: bytes 0-1/2\r\n\r\n"
        );
    }
}
