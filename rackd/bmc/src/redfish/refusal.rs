//! What a refusal says (DSP0266 §8.6), as an error.

use http::StatusCode;

use super::address::RedfishAddress;
use super::document::{Document, Path};
use super::http::Answer;
use super::link::Ask;
use super::profile_values;
use super::vendor;
use crate::BmcError;

/// Message of the Base registry (DSP8011): the account may do nothing else before its password is changed (DSP0266, "password
/// change required handling"). Its argument is where the account is.
pub(super) const PASSWORD_CHANGE_REQUIRED: &str = "PasswordChangeRequired";

/// A refusal of this request, without what is secret in it.
pub(super) fn refused(address: &RedfishAddress, ask: &Ask, answer: &Answer) -> BmcError {
    let document = Document::parse(&answer.body, None).unwrap_or_default();
    let addr = address.addr;
    if must_change(answer) {
        return BmcError::PasswordChangeRequired { addr, user: address.user.clone() };
    }
    // The account's password, one that was asked for, and places that only who is told of them may read.
    let own = String::from_utf8_lossy(address.password.expose());
    let asked = |key| ask.body.as_ref().and_then(|body| body.get(key)?.as_str());
    let mut hide = vec![&*own];
    let values = asked("ImportBuffer").map(profile_values::of).unwrap_or_default();
    hide.extend(values.iter().map(String::as_str));
    for text in ["Password", "Image", "ImageURI", "ImportBuffer"].into_iter().filter_map(asked) {
        hide.push(text);
        // Some say it without its scheme, or only what comes last.
        hide.extend(text.split_once("://").and_then(|(_, rest)| rest.rsplit('/').next()));
    }
    let complaint = document.complaint(&hide);
    let detail = if complaint.is_empty() { String::new() } else { format!(": {complaint}") };
    let licence = vendor::LICENCES.iter().find(|(id, _)| document.complains_of(id));
    if let Some((_, licence)) = licence {
        return BmcError::Licence { addr, request: ask.name(), licence, detail };
    }
    if vendor::AT_WORK.iter().any(|id| document.complains_of(id)) {
        let seen = if complaint.is_empty() { "a refusal".to_owned() } else { complaint };
        return BmcError::AtWork { addr, task: format!("another job than {}", ask.name()), seen };
    }
    BmcError::Http { addr, request: ask.name(), status: answer.status.as_u16(), detail }
}

/// Whether the account may do nothing but change its password.
pub(super) fn must_change(answer: &Answer) -> bool {
    answer.status == StatusCode::FORBIDDEN
        && Document::parse(&answer.body, None).is_some_and(|body| body.complains_of(PASSWORD_CHANGE_REQUIRED))
}

/// Where the account is whose password must be changed: as a refusal says it, or the session that was opened all the same.
pub(super) fn account_to_change(answer: &Answer) -> Option<Path> {
    Document::parse(&answer.body, None)?.message_argument(PASSWORD_CHANGE_REQUIRED)
}
