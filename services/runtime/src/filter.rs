//! List filters: the small part of AIP-160 that operators use: `field=value` terms joined by ` AND `,
//! values bare or in double quotes.

use crate::error::{Reason, refuse};
use tonic::{Code, Status};

/// One `field=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    pub field: String,
    pub value: String,
}

/// Longest filter read, in bytes.
const MAX: usize = 2048;

/// Reads a filter; `fields` are the ones this list knows. `labels` there allows `labels.KEY`.
pub fn parse(text: &str, fields: &[&str]) -> Result<Vec<Term>, Status> {
    let bad = |why: String| {
        refuse(
            Code::InvalidArgument,
            Reason::InvalidFilter,
            format!("filter: {why}; expected FIELD=VALUE joined by ' AND ', fields: {}", fields.join(", ")),
        )
    };
    if text.len() > MAX {
        return Err(bad(format!("{} bytes are more than {MAX}", text.len())));
    }
    let mut terms = Vec::new();
    if text.trim().is_empty() {
        return Ok(terms);
    }
    for part in text.split(" AND ") {
        let (field, value) = part.split_once('=').ok_or_else(|| bad(format!("no '=' in {part:?}")))?;
        let (field, value) = (field.trim(), value.trim());
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        let known = fields.contains(&field) || (field.starts_with("labels.") && fields.contains(&"labels"));
        if !known {
            return Err(bad(format!("unknown field {field:?}")));
        }
        terms.push(Term { field: field.to_owned(), value: value.to_owned() });
    }
    Ok(terms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn terms_are_read() {
        let terms = parse("state=active AND labels.row=\"a b\"", &["state", "labels"]).unwrap();
        assert_eq!(terms.len(), 2);
        assert_eq!(terms[1], Term { field: "labels.row".into(), value: "a b".into() });
    }

    #[test]
    fn unknown_fields_are_named() {
        let status = parse("colour=red", &["state"]).unwrap_err();
        assert!(status.message().contains("colour") && status.message().contains("state"));
    }

    proptest! {
        #[test]
        fn no_input_panics(text in ".*") {
            let _ = parse(&text, &["state", "labels"]);
        }
    }
}
