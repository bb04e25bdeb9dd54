//! A resource as a BMC sent it. Anything may be missing, of another type, or absurd: readers get an option.

use serde_json::Value;

/// Longest text taken over into reports, in characters.
const MAX_TEXT: usize = 200;
/// Longest path followed.
const MAX_PATH: usize = 512;

/// One JSON object.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Document {
    value: Value,
    /// The answer's `ETag` header, else `@odata.etag`.
    pub(super) etag: Option<String>,
}

/// Where another resource is: an absolute path on the same BMC.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Path(String);

impl Document {
    /// `None`: no JSON object. serde_json itself stops at a depth of 128.
    pub(crate) fn parse(body: &[u8], etag: Option<String>) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let own = value.get("@odata.etag").and_then(Value::as_str).map(str::to_owned);
        value.is_object().then_some(Self { etag: etag.or(own), value })
    }

    /// A property; `path` has its names with `/` between.
    pub(crate) fn at(&self, path: &str) -> Option<&Value> {
        path.split('/').try_fold(&self.value, |value, name| value.get(name)).filter(|value| !value.is_null())
    }

    /// All properties.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.value.as_object().into_iter().flatten()
    }

    /// Text that is there and not blank, fit for a report: one line, not long.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        self.at(path)?.as_str().and_then(line)
    }

    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        let value = self.at(path)?;
        // Memory sizes come as 96.0 too, and what is negative or absurd is none.
        value.as_u64().or_else(|| value.as_f64().filter(|f| (0.0..1e15).contains(f)).map(|f| f as u64))
    }

    /// A number with a fraction; JSON has none that is not finite.
    pub(super) fn float(&self, path: &str) -> Option<f64> {
        self.at(path)?.as_f64()
    }

    /// The objects in an array, as many as `most`.
    pub(super) fn parts(&self, path: &str, most: usize) -> Vec<Self> {
        let parts = self.at(path).and_then(Value::as_array).into_iter().flatten();
        let parts = parts.filter(|part| part.is_object()).take(most);
        parts.map(|part| Self { value: part.clone(), etag: None }).collect()
    }

    pub(super) fn link(&self, path: &str) -> Option<Path> {
        Path::of(self.at(path)?.get("@odata.id")?.as_str()?)
    }

    /// The links in an array, as many as `most`.
    pub(super) fn links(&self, path: &str, most: usize) -> Vec<Path> {
        let links = self.at(path).and_then(Value::as_array).into_iter().flatten();
        links.filter_map(|link| Path::of(link.get("@odata.id")?.as_str()?)).take(most).collect()
    }

    /// The texts in an array.
    pub(super) fn words(&self, path: &str) -> Vec<String> {
        let words = self.at(path).and_then(Value::as_array).into_iter().flatten();
        words.filter_map(Value::as_str).filter_map(line).take(64).collect()
    }

    /// The BMC's words for a refusal (DSP0266 §8.6): the messages, or the one that sums them up. The registries' messages
    /// quote the value that is complained of (DSP0268, Base.PropertyValueFormatError): what is in `hide` is taken out,
    /// before anything is cut.
    pub(crate) fn complaint(&self, hide: &[&str]) -> String {
        let list = self.at("error/@Message.ExtendedInfo").and_then(Value::as_array).into_iter().flatten();
        let told = |text: &str| line(&without(text, hide));
        let messages: Vec<_> =
            list.filter_map(|m| m.get("Message")?.as_str()).filter_map(told).take(3).collect();
        if messages.is_empty() {
            return self.at("error/message").and_then(Value::as_str).and_then(told).unwrap_or_default();
        }
        messages.join("; ")
    }

    /// Whether a refusal has this message id, whatever the registry's version (`Base.1.8.NoValidSession`).
    pub(super) fn complains_of(&self, id: &str) -> bool {
        let ids = self.messages("error/@Message.ExtendedInfo").filter_map(|m| m.get("MessageId")?.as_str());
        ids.chain(self.at("error/code").and_then(Value::as_str)).any(|seen| is_message(seen, id))
    }

    /// The path that is an argument of the message with this id, in a refusal or beside a resource's properties (DSP0266 §8.6).
    pub(super) fn message_argument(&self, id: &str) -> Option<Path> {
        let all = self.messages("error/@Message.ExtendedInfo").chain(self.messages("@Message.ExtendedInfo"));
        let mut named = all
            .filter(|m| m.get("MessageId").and_then(Value::as_str).is_some_and(|seen| is_message(seen, id)));
        named.find_map(|m| m.get("MessageArgs")?.as_array()?.iter().find_map(|arg| Path::of(arg.as_str()?)))
    }

    fn messages(&self, path: &str) -> impl Iterator<Item = &Value> {
        self.at(path).and_then(Value::as_array).into_iter().flatten()
    }
}

impl Path {
    /// `None`: another host's, or nothing to ask a server for.
    pub(crate) fn of(text: &str) -> Option<Self> {
        // A fragment names a part of the resource (DSP0266 §6.1).
        let text = text.split('#').next().unwrap_or_default();
        let good = text.starts_with('/')
            && !text.starts_with("//")
            && text.len() <= MAX_PATH
            && text.bytes().all(|b| b.is_ascii_graphic())
            && text.parse::<::http::uri::PathAndQuery>().is_ok();
        good.then(|| Self(text.to_owned()))
    }

    /// A path of ours; one that is none becomes the service root's.
    pub(super) fn ours(text: &str) -> Self {
        Self::of(text).unwrap_or_else(|| Self(super::places::ROOT.to_owned()))
    }

    /// The member of this collection with an id.
    pub(super) fn member(&self, id: &str) -> Option<Self> {
        Self::of(&format!("{}/{id}", self.0.trim_end_matches('/')))
    }

    /// The same but for the slash at the end, which one of them has.
    pub(super) fn is_but_for_a_slash(&self, other: &Self) -> bool {
        self != other && self.0.trim_end_matches('/') == other.0.trim_end_matches('/')
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_message(seen: &str, id: &str) -> bool {
    seen.rsplit('.').next() == Some(id)
}

fn line(text: &str) -> Option<String> {
    let text: String = text.trim().chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
    (!text.is_empty()).then_some(text)
}

/// The longest first: one may be a part of another.
fn without(text: &str, hide: &[&str]) -> String {
    let mut hide: Vec<_> = hide.iter().filter(|secret| !secret.is_empty()).collect();
    hide.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    hide.into_iter().fold(text.to_owned(), |text, secret| text.replace(*secret, "(the password)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_of_another_type_is_none() {
        let text = br##"{"A": {"B": " x\ny "}, "N": 96.5, "M": -1, "L": {"@odata.id": "/redfish/v1/S#/1"},
            "Ls": [{"@odata.id": "/a"}, 7, {"@odata.id": "http://evil/"}, {"@odata.id": "//evil"}],
            "W": ["On", 1, null], "Z": null, "@odata.etag": "W/\"1\""}"##;
        let document = Document::parse(text, None).unwrap();
        assert_eq!(document.text("A/B").as_deref(), Some("xy"));
        assert_eq!((document.text("A"), document.text("A/B/C"), document.text("Z")), (None, None, None));
        assert_eq!(
            (document.number("N"), document.number("M"), document.number("A")),
            (Some(96), None, None)
        );
        assert_eq!(document.link("L").unwrap().as_str(), "/redfish/v1/S");
        assert_eq!(document.links("Ls", 9), [Path("/a".to_owned())]);
        assert_eq!(document.words("W"), ["On"]);
        assert_eq!((document.float("N"), document.float("A")), (Some(96.5), None));
        assert_eq!(document.parts("Ls", 9).len(), 3, "a number is no object");
        assert_eq!(document.etag.as_deref(), Some("W/\"1\""));
        for bad in [&b"[]"[..], b"", b"nope", b"\xff", "[".repeat(100_000).as_bytes()] {
            assert_eq!(Document::parse(bad, None), None);
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_bmcs_words() {
        let text =
            br#"{"error": {"code": "Base.1.8.GeneralError", "message": "see below", "@Message.ExtendedInfo":
            [{"MessageId": "Base.1.8.SessionLimitExceeded", "Message": "No more."}, {"Message": 3}]}}"#;
        let document = Document::parse(text, None).unwrap();
        assert_eq!(document.complaint(&[""]), "No more.");
        assert!(document.complains_of("SessionLimitExceeded") && document.complains_of("GeneralError"));
        assert!(!document.complains_of("Exceeded"));
    }

    #[test]
    fn a_complaint_does_not_tell_the_passwords() {
        let text = format!(r#"{{"error": {{"message": "{} no s3cret-Word, no s3cret"}}}}"#, "x".repeat(190));
        let document = Document::parse(text.as_bytes(), None).unwrap();
        let told = document.complaint(&["s3cret", "s3cret-Word"]);
        assert!(told.starts_with("xxx") && told.ends_with(" no (the p"), "{told}");
    }

    #[test]
    fn only_paths_on_the_same_bmc_are_followed() {
        for bad in ["", "a", "//h/x", "http://h/x", "/a b", "/a\nb", &format!("/{}", "x".repeat(600))] {
            assert_eq!(Path::of(bad), None, "{bad}");
        }
        assert_eq!(Path::ours("/redfish/v1/Systems/").member("1").unwrap().as_str(), "/redfish/v1/Systems/1");
    }
}
