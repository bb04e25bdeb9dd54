//! One server of a chassis, and how a request gets through.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::API;
use super::hub::Undo;
use crate::BmcError;
use crate::actor::{Call, Line};
use crate::breaker::Breaker;
use crate::redfish::connections::Connections;
use crate::redfish::document::Document;
use crate::redfish::http::{Answer, Http};
use crate::redfish::logins::Login;
use crate::redfish::persist::Asked;
use crate::redfish::{Dial, RedfishAddress, Tuning};

/// State of one server, owned by its actor.
pub(crate) struct Link {
    pub(super) address: Arc<RedfishAddress>,
    pub(super) tuning: Tuning,
    pub(super) undo: Arc<Undo>,
    /// What all servers of the chassis know of their account.
    login: Arc<Login>,
    http: Http,
    breaker: Arc<Breaker>,
    last_used: Instant,
}

/// A request.
pub(super) struct Ask {
    method: Method,
    /// Below [`API`]; may have a query.
    path: String,
    body: Map<String, Value>,
    /// See [`Asked::event`].
    event: Option<&'static str>,
}

impl Ask {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: Map::new(), event: None }
    }

    pub(super) fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }

    /// `body` is an object; the account is added to it.
    pub(super) fn put(path: impl Into<String>, body: Value) -> Self {
        let Value::Object(body) = body else { return Self { method: Method::PUT, ..Self::get(path) } };
        Self { method: Method::PUT, body, ..Self::get(path) }
    }

    pub(super) fn once(self, event: &'static str) -> Self {
        Self { event: Some(event), ..self }
    }

    pub(super) fn name(&self) -> String {
        format!("{} {API}{}", self.method, self.path)
    }
}

impl Line for Link {
    fn addr(&self) -> SocketAddr {
        self.address.addr
    }

    fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    fn idle_at(&self) -> Option<Instant> {
        self.http.is_open().then(|| self.last_used + self.tuning.idle_disconnect)
    }

    fn idle(&mut self) -> BoxFuture<'_, ()> {
        self.close()
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.http.close() })
    }
}

impl Link {
    pub(super) fn new(
        address: Arc<RedfishAddress>,
        dial: Arc<dyn Dial>,
        tuning: Tuning,
        (login, breaker): (Arc<Login>, Arc<Breaker>),
        connections: Arc<Connections>,
        undo: Arc<Undo>,
    ) -> Self {
        Self {
            login,
            http: Http::new(Arc::clone(&address), dial, tuning, connections),
            breaker,
            address,
            tuning,
            undo,
            last_used: Instant::now(),
        }
    }

    /// The path of the server, or of something of it.
    pub(super) fn of_server(&self, rest: &str) -> String {
        format!("/servers/{}{rest}", self.address.system)
    }

    /// The server, as the chassis has it now.
    pub(super) async fn server(&mut self, call: &mut Call) -> Result<Document, BmcError> {
        let ask = Ask::get(self.of_server(""));
        let answer = self.send(call, &ask).await?;
        if answer.status == StatusCode::NOT_FOUND {
            let expected = format!("server {}", self.address.system);
            let seen = "no such server in the chassis".to_owned();
            return Err(BmcError::NoSystem { addr: self.address.addr, expected, seen, has_none: false });
        }
        self.document(&ask, &answer)
    }

    /// Reads an object.
    pub(super) async fn get(&mut self, call: &mut Call, path: &str) -> Result<Document, BmcError> {
        let ask = Ask::get(path);
        let answer = self.send(call, &ask).await?;
        self.document(&ask, &answer)
    }

    /// Asks for a change; its answer, where it is a yes.
    pub(super) async fn change(&mut self, call: &mut Call, ask: &Ask) -> Result<Answer, BmcError> {
        let answer = self.send(call, ask).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(self.refused(ask, &answer)) }
    }

    /// Sends a request. The answer may be a refusal, but not of the account.
    pub(super) async fn send(&mut self, call: &mut Call, ask: &Ask) -> Result<Answer, BmcError> {
        let request = self.build(ask)?;
        let asked = Asked {
            service: "SeaMicro's REST API",
            name: ask.name(),
            event: ask.event,
            max_body: self.tuning.max_body,
        };
        let pass = self.login.pass(&self.address, call.deadline).await?;
        let outcome = self.http.persist(call, &request, &asked).await;
        self.last_used = Instant::now();
        let answer = outcome.map_err(|failed| failed.told(&self.address, call, &asked))?;
        if answer.status == StatusCode::UNAUTHORIZED {
            return Err(pass.refused(&self.address, &self.tuning).await);
        }
        if !answer.status.is_server_error() {
            pass.took();
        }
        Ok(answer)
    }

    fn build(&self, ask: &Ask) -> Result<Request<Full<Bytes>>, BmcError> {
        let RedfishAddress { addr, host, user, password, .. } = &*self.address;
        let password = String::from_utf8_lossy(password.expose());
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let mut uri = format!("{API}{}", ask.path);
        let mut body = Bytes::new();
        if ask.method == Method::PUT {
            let mut object = ask.body.clone();
            object.insert("username".to_owned(), user.as_str().into());
            object.insert("password".to_owned(), password.as_ref().into());
            body = Value::Object(object).to_string().into();
        } else {
            uri.push(if ask.path.contains('?') { '&' } else { '?' });
            uri.push_str(&format!("username={}&password={}", encoded(user), encoded(&password)));
        }
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(uri)
            .header(header::HOST, format!("{host}:{}", addr.port()))
            .header(header::ACCEPT, "application/json");
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        // The error's own words might have the password.
        request
            .body(Full::new(body))
            .map_err(|_| self.bad_answer(ask, "a path that can be asked for", &ask.path))
    }

    /// A successful answer's object.
    pub(super) fn document(&self, ask: &Ask, answer: &Answer) -> Result<Document, BmcError> {
        if !answer.status.is_success() {
            return Err(self.refused(ask, answer));
        }
        Document::parse(&answer.body, None)
            .ok_or_else(|| self.bad_answer(ask, "a JSON object", &answer.describe()))
    }

    pub(super) fn refused(&self, ask: &Ask, answer: &Answer) -> BmcError {
        let own = String::from_utf8_lossy(self.address.password.expose());
        let complaint =
            Document::parse(&answer.body, None).unwrap_or_default().complaint(&[&own, &encoded(&own)]);
        let detail = if complaint.is_empty() { String::new() } else { format!(": {complaint}") };
        let status = answer.status.as_u16();
        BmcError::Http { addr: self.address.addr, request: ask.name(), status, detail }
    }

    pub(super) fn bad_answer(&self, ask: &Ask, expected: &'static str, seen: &str) -> BmcError {
        BmcError::bad_answer(self.address.addr, ask.name(), expected, seen)
    }
}

/// RFC 3986 §2.1: everything but the unreserved characters.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
