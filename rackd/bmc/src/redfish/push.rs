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
use super::http::{Answer, Http};
use super::link::{Ask, Link};
use super::persist::Asked;
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
        let pusher = self.call(deadline, move |link, call| Box::pin(link.pusher(call, parts))).await?;
        let ask = pusher.ask.clone();
        let answer = pusher.push(file, deadline).await?;
        self.call(deadline, move |link, call| Box::pin(async move { link.pushed(call, &ask, &answer).await }))
            .await
    }
}

/// All that a push needs of a link.
struct Pusher {
    http: Http,
    /// Without a body yet.
    head: http::request::Parts,
    ask: Ask,
    parameters: Value,
    max_body: usize,
}

impl Link {
    async fn pusher(&mut self, call: &mut Call, parts: Vec<String>) -> Result<Pusher, BmcError> {
        let absent = BmcError::Unsupported { driver: DRIVER, capability: "firmware by push on this BMC" };
        let (_, service) = self.update_service(call).await?.ok_or(absent.clone())?;
        let place = service.text("MultipartHttpPushUri").and_then(|uri| self.same_origin(&uri));
        let path = place.ok_or(absent)?;
        let targets = if parts.is_empty() { Vec::new() } else { self.targets(call, &parts).await? };
        let targets: Vec<_> = targets.iter().map(Path::as_str).collect();
        let parameters = if targets.is_empty() { json!({}) } else { json!({ "Targets": targets }) };
        // Logged in by what was read.
        let ask = Ask { body: None, ..Ask::post(&path, Value::Null) }.once(EVENT);
        let (head, _) = self.build(&ask)?.into_parts();
        Ok(Pusher { http: self.http.another(), head, ask, parameters, max_body: self.tuning.max_body })
    }

    /// The task that the answer names.
    async fn pushed(&mut self, call: &mut Call, ask: &Ask, answer: &Answer) -> Result<String, BmcError> {
        if !answer.status.is_success() {
            return Err(self.refused(ask, answer));
        }
        let told = self.task_of(answer);
        let task = match told {
            None if self.vendor(call).await?.update_state => {
                self.update_service(call).await?.map(|(path, _)| path)
            }
            told => told,
        };
        Ok(task.map(|task| task.as_str().to_owned()).unwrap_or_default())
    }
}

impl Pusher {
    async fn push(self, file: FirmwareFile, deadline: Deadline) -> Result<Answer, BmcError> {
        let Self { http, mut head, ask, parameters, max_body } = self;
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
        sent.map_err(|failed| failed.told(http.address(), &call, &asked))
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
    use super::*;

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
