//! Paging by the last key of the page before (AIP-158): stable while rows come and go.

use crate::error::{Reason, refuse};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tonic::{Code, Status};

const DEFAULT: i32 = 100;
const MAX: i32 = 1000;

/// A page to read: rows after `after`, at most `size`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Rows wanted. A store reads one more to know whether a next page exists.
    pub size: usize,
    /// Key of the last row of the page before.
    pub after: Option<String>,
}

impl Page {
    pub fn parse(page_size: i32, page_token: &str) -> Result<Self, Status> {
        let bad = |field, text: &str| {
            refuse(Code::InvalidArgument, Reason::InvalidPageToken, format!("{field}: {text}"))
        };
        if page_size < 0 {
            return Err(bad("page_size", "expected 0 (default) or more"));
        }
        let size = if page_size == 0 { DEFAULT } else { page_size.min(MAX) };
        let after = match page_token {
            "" => None,
            token => Some(
                URL_SAFE_NO_PAD
                    .decode(token)
                    .ok()
                    .and_then(|bytes| String::from_utf8(bytes).ok())
                    .ok_or_else(|| bad("page_token", "expected the next_page_token of the page before"))?,
            ),
        };
        Ok(Self { size: usize::try_from(size).unwrap_or(100), after })
    }

    /// Cuts the extra row off and makes the token of the next page.
    pub fn finish<T>(&self, mut rows: Vec<T>, key: impl Fn(&T) -> String) -> (Vec<T>, String) {
        if rows.len() <= self.size {
            return (rows, String::new());
        }
        rows.truncate(self.size);
        let token = rows.last().map(|row| URL_SAFE_NO_PAD.encode(key(row))).unwrap_or_default();
        (rows, token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_chain_to_the_end() {
        let all: Vec<String> = (0..10).map(|i| format!("n{i}")).collect();
        let (mut token, mut seen) = (String::new(), Vec::new());
        loop {
            let page = Page::parse(3, &token).unwrap();
            let rows = all
                .iter()
                .filter(|n| page.after.as_ref().is_none_or(|a| *n > a))
                .take(page.size + 1)
                .cloned()
                .collect();
            let (rows, next) = page.finish(rows, Clone::clone);
            seen.extend(rows);
            token = next;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn foreign_tokens_are_refused() {
        assert!(Page::parse(1, "!!").is_err() && Page::parse(-1, "").is_err());
    }
}
