//! Update masks (AIP-134).

use crate::error::{Reason, refuse};
use prost_types::FieldMask;
use tonic::{Code, Status};

/// The fields to update: the mask's, or all of `allowed` that `is_set` when there is no mask.
pub fn fields<'a>(
    mask: Option<&FieldMask>,
    allowed: &[&'a str],
    is_set: impl Fn(&str) -> bool,
) -> Result<Vec<&'a str>, Status> {
    let Some(mask) = mask.filter(|m| !m.paths.is_empty()) else {
        return Ok(allowed.iter().copied().filter(|f| is_set(f)).collect());
    };
    mask.paths
        .iter()
        .map(|path| {
            allowed.iter().copied().find(|f| f == path).ok_or_else(|| {
                refuse(
                    Code::InvalidArgument,
                    Reason::InvalidMask,
                    format!(
                        "update_mask: {path:?} cannot be updated; expected some of {}",
                        allowed.join(", ")
                    ),
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_chooses_and_its_absence_takes_what_is_set() {
        let mask = FieldMask { paths: vec!["b".into()] };
        assert_eq!(fields(Some(&mask), &["a", "b"], |_| false).unwrap(), ["b"]);
        assert_eq!(fields(None, &["a", "b"], |f| f == "a").unwrap(), ["a"]);
    }

    #[test]
    fn a_field_that_cannot_be_updated_is_named() {
        let mask = FieldMask { paths: vec!["state".into()] };
        assert!(fields(Some(&mask), &["a"], |_| true).unwrap_err().message().contains("state"));
    }
}
