//! Checks of single fields. Each message says what was expected.

use farrier_model::{Collection, parse_name};
use farrier_runtime::error::invalid;
use std::collections::HashMap;
use std::net::Ipv6Addr;
use tonic::Status;

/// Longest text that people write, in bytes.
const TEXT: usize = 1024;
/// Longest word: a class, a trait, a label's value.
const WORD: usize = 255;
/// Labels or traits of one resource.
const MANY: usize = 100;

pub(super) fn name(field: &str, collection: Collection, name: &str) -> Result<(), Status> {
    parse_name(collection, name).map(drop).map_err(|e| invalid(field, e))
}

pub(super) fn text(field: &str, text: &str) -> Result<(), Status> {
    if text.len() > TEXT || text.chars().any(|c| c.is_control() && c != '\n') {
        return Err(invalid(
            field,
            format!("expected at most {TEXT} bytes of text without control characters"),
        ));
    }
    Ok(())
}

/// Letters, digits and `-_.:/`, or nothing.
pub(super) fn word(field: &str, word: &str) -> Result<(), Status> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
    if word.len() > WORD || !word.chars().all(plain) {
        return Err(invalid(field, format!("expected at most {WORD} letters, digits and any of -_.:/")));
    }
    Ok(())
}

pub(super) fn words(field: &str, words: &[String]) -> Result<(), Status> {
    if words.len() > MANY || words.iter().any(String::is_empty) {
        return Err(invalid(field, format!("expected at most {MANY} words, none empty")));
    }
    words.iter().try_for_each(|w| word(field, w))
}

pub(super) fn labels(field: &str, labels: &HashMap<String, String>) -> Result<(), Status> {
    if labels.len() > MANY || labels.keys().any(String::is_empty) {
        return Err(invalid(field, format!("expected at most {MANY} labels, no key empty")));
    }
    for (key, value) in labels {
        word(field, key)?;
        if value.len() > WORD || value.chars().any(char::is_control) {
            return Err(invalid(
                field,
                format!("{key}: expected a value of at most {WORD} bytes on one line"),
            ));
        }
    }
    Ok(())
}

pub(super) fn architecture(field: &str, architecture: &str) -> Result<(), Status> {
    match architecture {
        "" | "x86_64" | "aarch64" => Ok(()),
        _ => Err(invalid(field, "expected \"x86_64\", \"aarch64\" or nothing")),
    }
}

pub(super) fn not_negative(field: &str, number: i64) -> Result<(), Status> {
    if number < 0 { Err(invalid(field, "expected 0 or more")) } else { Ok(()) }
}

/// DNS name or address, as a certificate names it.
pub(super) fn is_host(host: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    host.parse::<Ipv6Addr>().is_ok() || (host.len() <= 253 && host.split('.').all(label))
}

/// `host` or `host:port`; an IPv6 address with a port is in brackets.
pub(super) fn host_port(field: &str, text: &str) -> Result<(), Status> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or_default())),
        // More than one colon and no brackets: an IPv6 address alone.
        None if text.matches(':').count() > 1 => (text, None),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let good_port =
        port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|p| p > 0));
    if is_host(host) && good_port {
        return Ok(());
    }
    Err(invalid(
        field,
        format!("expected host or host:port (IPv6 with a port: [address]:port), saw {text:?}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_nonsense() {
        for good in
            ["10.0.0.1", "10.0.0.1:623", "bmc1.example", "bmc1:6230", "fe80::1", "[fe80::1]:623", "[::1]"]
        {
            assert!(host_port("f", good).is_ok(), "{good}");
        }
        for bad in
            ["", ":623", "a:0", "a:65536", "a:b", "a b", "[::1", "[::1]623", "http://a", "a:+1", "-a", "a..b"]
        {
            assert!(host_port("f", bad).is_err(), "{bad}");
        }
    }
}
