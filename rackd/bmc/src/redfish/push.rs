//! Firmware by push (DSP0266 §14.4 multipart HTTP push, DSP0268 UpdateService `MultipartHttpPushUri`): a file, on a connection
//! beside the actor's, piece by piece.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{HeaderValue, Request, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use super::document::Path;
use super::driver::{DRIVER, RedfishBmc};
use super::firmware::NO_UPDATES;
use super::http::Http;
use super::link::{Ask, Link, SessionUse};
use super::persist::Asked;
use super::refusal;
use crate::actor::Call;
use crate::{BmcError, Deadline, FirmwareFile};

const PIECE: usize = 64 * 1024;
const EVENT: &str = "a firmware update";

impl RedfishBmc {
    pub(super) async fn push(
        &self,
        file: FirmwareFile,
        parts: Vec<String>,
        deadline: Deadline,
    ) -> Result<String, BmcError> {
        let targets = self.targets(parts, deadline).await?;
        let pusher = self.call(deadline, move |link, call| Box::pin(link.pusher(call, targets))).await?;
        pusher.push(file, deadline).await
    }
}

/// All that a push needs of a link, also for what its answer means: who asked the actor again would hear of the actor, and take
/// it for word of the push.
struct Pusher {
    http: Http,
    /// Without a body yet.
    head: http::request::Parts,
    ask: Ask,
    parameters: Value,
    max_body: usize,
    /// Where an update is told of whose answer names no task.
    told_at: Option<Path>,
    /// The push is of the session of the calls: it uses it for as long as it lasts.
    _session: SessionUse,
}

impl Link {
    async fn pusher(&mut self, call: &mut Call, targets: Vec<Path>) -> Result<Pusher, BmcError> {
        let absent = BmcError::Unsupported { driver: DRIVER, capability: "firmware by push on this BMC" };
        let (at, service) = self.update_service(call).await?.ok_or(NO_UPDATES)?;
        let place = service.text("MultipartHttpPushUri").and_then(|uri| self.address.same_origin(&uri));
        let path = place.ok_or(absent)?;
        let targets: Vec<_> = targets.iter().map(Path::as_str).collect();
        let parameters = if targets.is_empty() { json!({}) } else { json!({ "Targets": targets }) };
        let told_at = self.vendor(call).await?.update_state.then_some(at);
        // Logged in by what was read.
        let ask = Ask { body: None, ..Ask::post(&path, Value::Null) }.once(EVENT);
        let (head, _) = self.build(&ask)?.into_parts();
        let (http, max_body, _session) = (self.http.another(), self.tuning.max_body, self.use_session());
        Ok(Pusher { http, head, ask, parameters, max_body, told_at, _session })
    }
}

impl Pusher {
    /// The task that the answer names.
    async fn push(self, file: FirmwareFile, deadline: Deadline) -> Result<String, BmcError> {
        let Self { http, mut head, ask, parameters, max_body, told_at, _session } = self;
        let call = Call::new(deadline);
        let addr = http.address().addr;
        let unread = |error: &io::Error| BmcError::UnreadFile {
            addr,
            path: file.path.display().to_string(),
            seen: error.to_string(),
        };
        let opened = File::open(&file.path).await.map_err(|error| unread(&error))?;
        let has = opened.metadata().await.map_err(|error| unread(&error))?.len();
        if has < file.size {
            let short = io::Error::other(format!("expected {} bytes, saw {has}", file.size));
            return Err(unread(&short));
        }
        let form = Form::new(&parameters, &file.name);
        let length = form.before.len() as u64 + file.size + form.after.len() as u64;
        // Many BMCs take no chunked coding.
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        head.headers.insert(header::CONTENT_TYPE, form.content_type);
        let whole = |bytes: Vec<u8>| stream::iter([Ok(Bytes::from(bytes))]);
        let body = whole(form.before).chain(pieces(opened, file.size)).chain(whole(form.after));
        let body = StreamBody::new(Box::pin(body.map(|piece| piece.map(Frame::data))));
        let asked = Asked {
            service: "Redfish",
            name: format!("POST {}", ask.path.as_str()),
            event: ask.event,
            max_body,
        };
        let sent = http.send_large(Request::from_parts(head, body), deadline.instant(), max_body).await;
        let answer = sent.map_err(|failed| failed.told(http.address(), &call, &asked))?;
        if !answer.status.is_success() {
            return Err(refusal::refused(http.address(), &ask, &answer));
        }
        let task = answer.header(&header::LOCATION).and_then(|at| http.address().same_origin(at)).or(told_at);
        Ok(task.map(|task| task.as_str().to_owned()).unwrap_or_default())
    }
}

/// What stands around the file (RFC 7578).
struct Form {
    before: Vec<u8>,
    after: Vec<u8>,
    content_type: HeaderValue,
}

impl Form {
    fn new(parameters: &Value, name: &str) -> Self {
        // 128 random bits are in no file.
        let boundary = format!("farrier-{:032x}", rand::random::<u128>());
        // RFC 7578 §4.2: what would end the name is written otherwise.
        let name: String =
            name.chars().map(|c| if c == '"' || c == '\\' || c.is_control() { '_' } else { c }).collect();
        let before = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"UpdateParameters\"\r\n\
             Content-Type: application/json\r\n\r\n{parameters}\r\n\
             --{boundary}\r\nContent-Disposition: form-data; name=\"UpdateFile\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let content_type = format!("multipart/form-data; boundary={boundary}");
        Self {
            before: before.into_bytes(),
            after: format!("\r\n--{boundary}--\r\n").into_bytes(),
            // Hexadecimal digits are always a header's value.
            content_type: HeaderValue::from_str(&content_type)
                .unwrap_or(HeaderValue::from_static("multipart/form-data")),
        }
    }
}

/// The first `left` bytes of a file, as they are wanted: never all of it in memory.
fn pieces(file: File, left: u64) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold(file.take(left), |mut file| async move {
        if file.limit() == 0 {
            return Ok(None);
        }
        let mut piece = vec![0; PIECE];
        let count = file.read(&mut piece).await?;
        if count == 0 {
            return Err(io::Error::other("the file became shorter"));
        }
        piece.truncate(count);
        Ok(Some((Bytes::from(piece), file)))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::redfish::scripted;

    /// A BMC with sessions that takes an hour for a push, or answers at once and then hangs.
    fn hub(hour: bool) -> (crate::redfish::RedfishHub, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let hub = scripted::hub(move |request| {
            log.lock().unwrap().push(request.to_owned());
            let body = match request {
                "GET /redfish/v1/" => {
                    r#"{"RedfishVersion": "1.15.0", "Systems": {"@odata.id": "/S"}, "UpdateService": {"@odata.id": "/U"},
                        "Links": {"Sessions": {"@odata.id": "/X"}}}"#
                }
                "POST /X" => return Some((201, "{}".to_owned())),
                "GET /U" => r#"{"MultipartHttpPushUri": "/U/push"}"#,
                "POST /U/push" if hour => return None,
                "POST /U/push" => return Some((202, String::new())),
                "GET /S" => return None,
                _ => "{}",
            };
            Some((200, body.to_owned()))
        });
        (hub, asked)
    }

    fn file(dir: &tempfile::TempDir) -> FirmwareFile {
        let path = dir.path().join("fw.bin");
        std::fs::write(&path, b"firmware").unwrap();
        FirmwareFile { path, size: 8, name: "fw.bin".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_push_that_was_answered_is_never_told_as_one_that_was_not_begun() {
        let dir = tempfile::tempdir().unwrap();
        let (hub, asked) = hub(false);
        let bmc = hub.bmc(scripted::address());
        let pushed = bmc.push_firmware(file(&dir), Vec::new(), Deadline::after(Duration::from_secs(10)));
        // Somebody has the actor from then on until long after the push's deadline.
        let other = async {
            while !asked.lock().unwrap().iter().any(|request| request == "POST /U/push") {
                tokio::task::yield_now().await;
            }
            bmc.power_status(Deadline::after(Duration::from_secs(60))).await
        };
        let (pushed, _) = tokio::join!(pushed, other);
        assert_eq!(pushed, Ok("/T/1".to_owned()));
        hub.shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_stays_while_its_push_lasts() {
        let dir = tempfile::tempdir().unwrap();
        let (hub, asked) = hub(true);
        let bmc = hub.bmc(scripted::address());
        let pushed =
            bmc.push_firmware(file(&dir), Vec::new(), Deadline::after(Duration::from_secs(3600))).await;
        assert!(matches!(pushed, Err(BmcError::AnswerLost { .. })), "{pushed:?}");
        let has = |request: &str| asked.lock().unwrap().iter().any(|asked| asked == request);
        assert!(has("POST /U/push") && !has("DELETE /X/1"), "{asked:?}");
        hub.shutdown().await;
        assert!(has("DELETE /X/1"), "{asked:?}");
    }

    #[test]
    fn a_form_has_its_parameters_first_and_a_name_that_cannot_end_it() {
        let form = Form::new(&json!({ "Targets": ["/a"] }), "nic\"\r\n1.bin");
        let before = String::from_utf8(form.before).unwrap();
        assert!(before.contains("filename=\"nic___1.bin\"\r\n"), "{before}");
        let (first, second) = (before.find("UpdateParameters").unwrap(), before.find("UpdateFile").unwrap());
        assert!(first < second && before.contains(r#"{"Targets":["/a"]}"#), "{before}");
        let boundary = form.content_type.to_str().unwrap().split("boundary=").nth(1).unwrap().to_owned();
        assert!(before.starts_with(&format!("--{boundary}\r\n")) && before.ends_with("\r\n\r\n"));
        assert_eq!(form.after, format!("\r\n--{boundary}--\r\n").into_bytes());
    }
}
