//! One BMC's service and how a request gets through to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use serde_json::Value;
use tokio::time::Instant;

use super::address::RedfishAddress;
use super::connections::Connections;
use super::dial::Dial;
use super::document::{Document, Path};
use super::http::{Answer, Http, X_AUTH_TOKEN};
use super::logins::{Login, Logins};
use super::persist::Asked;
use super::places::Root;
use super::refusal;
use super::session::Auth;
use super::tuning::Tuning;
use super::worked::Worked;
use crate::BmcError;
use crate::actor::{Call, Line};
use crate::breaker::Breaker;

/// Redirects followed for one request; a trailing slash needs one.
const MAX_REDIRECTS: u32 = 3;

/// Bytes of what is long.
const LONG: usize = 1 << 20;

/// State of one BMC, owned by its actor.
pub(crate) struct Link {
    pub(super) address: Arc<RedfishAddress>,
    pub(super) tuning: Tuning,
    pub(super) auth: Auth,
    /// Read once a session.
    pub(super) root: Option<Root>,
    /// Where the node's system is, once found.
    pub(super) system: Option<Path>,
    /// What a session that had just been opened was refused.
    refused_here: Option<Path>,
    /// Where the account is, told by a BMC that lets it do nothing but change its password.
    pub(super) to_change: Option<Path>,
    /// What all who log in there with this account know of it.
    pub(super) login: Arc<Login>,
    pub(super) logins: Arc<Logins>,
    worked: Arc<Worked>,
    pub(super) http: Http,
    breaker: Arc<Breaker>,
    last_used: Instant,
    /// Of those who use the session beside the calls.
    session: SessionUse,
}

/// While somebody has one, the session is not taken for unused.
#[derive(Debug, Clone, Default)]
pub(super) struct SessionUse(Arc<()>);

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) path: Path,
    pub(super) body: Option<Value>,
    pub(super) etag: Option<String>,
    /// It is an event of this name, which a second request would cause again; `None`: repeating does no harm.
    pub(super) event: Option<&'static str>,
    /// Longest body taken; 0: as long as of any resource.
    pub(super) max_body: usize,
}

impl Ask {
    pub(super) fn get(path: &Path) -> Self {
        Self { method: Method::GET, path: path.clone(), body: None, etag: None, event: None, max_body: 0 }
    }

    pub(super) fn post(path: &Path, body: Value) -> Self {
        Self { method: Method::POST, body: Some(body), ..Self::get(path) }
    }

    pub(super) fn patch(path: &Path, body: Value, etag: Option<String>) -> Self {
        Self { method: Method::PATCH, body: Some(body), etag, ..Self::get(path) }
    }

    pub(super) fn delete(path: &Path) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }

    pub(super) fn once(self, event: &'static str) -> Self {
        Self { event: Some(event), ..self }
    }

    /// Whether it is sent again where it is redirected to, with its body. iLO 4, older Supermicro boards and others redirect each
    /// path without a slash at its end: nothing was done then, so that an event may be asked for again too. What is changed is
    /// asked for nowhere else.
    fn may_go_on_at(&self, status: StatusCode, there: &Path) -> bool {
        self.method == Method::GET
            || matches!(status.as_u16(), 301 | 307 | 308) && self.path.is_but_for_a_slash(there)
    }

    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method, self.path.as_str())
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
        let connection = self.http.is_open().then(|| self.last_used + self.tuning.idle_disconnect);
        let session = self.auth.is_session().then(|| self.last_used + self.tuning.idle_close);
        connection.into_iter().chain(session).min()
    }

    fn idle(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if self.last_used.elapsed() >= self.tuning.idle_close {
                if Arc::strong_count(&self.session.0) > 1 {
                    self.last_used = Instant::now();
                } else {
                    self.close().await;
                }
            }
            self.http.close();
        })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.log_out().await;
            self.root = None;
            self.refused_here = None;
            self.http.close();
        })
    }
}

impl Link {
    pub(super) fn new(
        address: Arc<RedfishAddress>,
        dial: Arc<dyn Dial>,
        tuning: Tuning,
        worked: Arc<Worked>,
        logins: Arc<Logins>,
        breaker: Arc<Breaker>,
        connections: Arc<Connections>,
    ) -> Self {
        Self {
            worked,
            login: logins.of(&address),
            logins,
            to_change: None,
            refused_here: None,
            http: Http::new(Arc::clone(&address), dial, tuning, connections),
            breaker,
            address,
            tuning,
            auth: Auth::None,
            root: None,
            system: None,
            last_used: Instant::now(),
            session: SessionUse::default(),
        }
    }

    /// Until it is dropped, the session stays.
    pub(super) fn use_session(&self) -> SessionUse {
        self.session.clone()
    }

    /// Reads a resource.
    pub(super) async fn get(&mut self, call: &mut Call, path: &Path) -> Result<Document, BmcError> {
        let ask = Ask::get(path);
        let answer = self.send(call, &ask).await?;
        self.document(&ask, &answer)
    }

    /// Reads a resource that is long on some BMCs: a page of a log, or all BIOS settings.
    pub(super) async fn get_long(&mut self, call: &mut Call, path: &Path) -> Result<Document, BmcError> {
        let ask = Ask { max_body: LONG, ..Ask::get(path) };
        let answer = self.send(call, &ask).await?;
        self.document(&ask, &answer)
    }

    /// Changes a resource that was read with `etag` (DSP0266 §6.5). The answer may be a refusal.
    pub(super) async fn patch(
        &mut self,
        call: &mut Call,
        path: &Path,
        body: &Value,
        etag: Option<String>,
    ) -> Result<(Ask, Answer), BmcError> {
        self.patch_as(call, Ask::patch(path, body.clone(), etag)).await
    }

    /// As [`Link::patch`], of what must not be asked for a second time where its answer is lost.
    pub(super) async fn patch_once(
        &mut self,
        call: &mut Call,
        path: &Path,
        body: &Value,
        etag: Option<String>,
        event: &'static str,
    ) -> Result<(Ask, Answer), BmcError> {
        self.patch_as(call, Ask::patch(path, body.clone(), etag).once(event)).await
    }

    async fn patch_as(&mut self, call: &mut Call, mut ask: Ask) -> Result<(Ask, Answer), BmcError> {
        let mut answer = self.send(call, &ask).await?;
        if !is_about_condition(answer.status) {
            return Ok((ask, answer));
        }
        // Somebody else changed it in between, the BMC insists on a condition, or it takes no such condition.
        let path = ask.path.clone();
        for etag in conditions(self.get(call, &path).await?.etag) {
            ask.etag = etag;
            answer = self.send(call, &ask).await?;
            if !is_about_condition(answer.status) {
                break;
            }
        }
        Ok((ask, answer))
    }

    /// Sends a request, logged in. The answer may be a refusal.
    pub(super) async fn send(&mut self, call: &mut Call, ask: &Ask) -> Result<Answer, BmcError> {
        self.log_in(call).await?;
        let login = Arc::clone(&self.login);
        let pass = match self.auth {
            Auth::Basic(_) => Some(login.pass(&self.address, call.deadline).await?),
            _ => None,
        };
        let answer = self.follow(call, ask).await?;
        if refusal::must_change(&answer) {
            self.to_change = refusal::account_to_change(&answer).or(self.to_change.take());
        }
        if answer.status != StatusCode::UNAUTHORIZED {
            if let Some(pass) = pass.filter(|_| !answer.status.is_server_error()) {
                pass.took();
            }
            self.auth.took();
            self.is_given(ask);
            return Ok(answer);
        }
        if let Auth::Session(session) = &self.auth {
            let took = session.took.load(Ordering::Relaxed);
            // A new session was refused this as well, and has been taken for other things since: it is this alone.
            if took && self.refused_here.as_ref() == Some(&ask.path) {
                return Ok(answer);
            }
            // The session timed out or the BMC restarted; what was asked was not done. Where it did neither, the session still
            // has one of its few places.
            tracing::info!(bmc.addr = %self.address.addr, "session lost, opening another");
            self.give_up_session().await;
            self.log_in(call).await?;
            let answer = self.follow(call, ask).await?;
            if answer.status != StatusCode::UNAUTHORIZED || !self.auth.is_session() {
                self.auth.took();
                self.is_given(ask);
                return Ok(answer);
            }
            if took {
                // Not the password, which has just opened a session: what is wrong is with this resource, until more says otherwise.
                self.refused_here = Some(ask.path.clone());
                return Ok(answer);
            }
            self.give_up_session().await;
            return Err(BmcError::NoSession { addr: self.address.addr, request: ask.name() });
        }
        // Elsewhere it may be a BMC that starts and has no sessions yet.
        if self.root.as_ref().is_some_and(|root| root.sessions.is_none())
            && let Some(pass) = pass
        {
            self.auth = Auth::None;
            return Err(pass.refused(&self.address, &self.tuning).await);
        }
        Err(self.address.wrong_password())
    }

    /// What was refused while the BMC started is not refused any more: the next refusal is one of the session.
    fn is_given(&mut self, ask: &Ask) {
        self.refused_here.take_if(|refused| *refused == ask.path);
    }

    /// Sends a request as we are, and follows where it leads.
    pub(super) async fn follow(&mut self, call: &mut Call, ask: &Ask) -> Result<Answer, BmcError> {
        let mut ask = ask.clone();
        for _ in 0..MAX_REDIRECTS {
            let answer = self.request(call, &ask).await?;
            let location = answer.header(&header::LOCATION).filter(|_| answer.status.is_redirection());
            let Some(location) = location else { return Ok(answer) };
            let there = self.address.same_origin(location);
            match there.filter(|there| ask.may_go_on_at(answer.status, there)) {
                Some(path) => self.goes_on_at(&mut ask, path),
                None => return Err(self.bad_answer(&ask, "an answer of its own", location)),
            }
        }
        Err(self.bad_answer(&ask, "an answer", "redirects without end"))
    }

    fn goes_on_at(&mut self, ask: &mut Ask, path: Path) {
        // What is asked for most, and changed, is asked for there from now on.
        if self.system.as_ref() == Some(&ask.path) && ask.path.is_but_for_a_slash(&path) {
            self.system = Some(path.clone());
        }
        ask.path = path;
    }

    /// Sends a request until an answer comes that is worth having.
    async fn request(&mut self, call: &mut Call, ask: &Ask) -> Result<Answer, BmcError> {
        let request = self.build(ask)?;
        let outcome = self.http.persist(call, &request, &self.words(ask)).await;
        self.last_used = Instant::now();
        outcome.map_err(|failed| match failed.told(&self.address, call, &self.words(ask)) {
            error @ BmcError::Tls { .. } => self.unless_it_starts(error),
            error => error,
        })
    }

    fn words(&self, ask: &Ask) -> Asked {
        let max_body = ask.max_body.max(self.tuning.max_body);
        Asked { service: "Redfish", name: ask.name(), event: ask.event, max_body }
    }

    pub(super) fn build(&self, ask: &Ask) -> Result<Request<Full<Bytes>>, BmcError> {
        let host = if self.address.host.contains(':') {
            format!("[{}]:{}", self.address.host, self.address.addr.port())
        } else {
            format!("{}:{}", self.address.host, self.address.addr.port())
        };
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(ask.path.as_str())
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/json")
            // Without it some BMCs send gzip.
            .header(header::ACCEPT_ENCODING, "identity")
            .header("OData-Version", "4.0");
        request = match &self.auth {
            Auth::None => request,
            Auth::Basic(value) => request.header(header::AUTHORIZATION, value),
            Auth::Session(session) => request.header(X_AUTH_TOKEN, &session.token),
        };
        if let Some(etag) = ask.etag.as_deref().and_then(|etag| HeaderValue::from_str(etag).ok()) {
            request = request.header(header::IF_MATCH, etag);
        }
        let body = match &ask.body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        request.body(Full::new(body)).map_err(|error| {
            self.bad_answer(ask, "a path that can be asked for", &format!("{}: {error}", ask.path.as_str()))
        })
    }

    /// A successful answer's resource.
    pub(super) fn document(&self, ask: &Ask, answer: &Answer) -> Result<Document, BmcError> {
        if !answer.status.is_success() {
            return Err(self.refused(ask, answer));
        }
        let etag = answer.header(&header::ETAG).map(str::to_owned);
        Document::parse(&answer.body, etag)
            .ok_or_else(|| self.bad_answer(ask, "a JSON object", &answer.describe()))
    }

    pub(super) fn refused(&self, ask: &Ask, answer: &Answer) -> BmcError {
        refusal::refused(&self.address, ask, answer)
    }

    pub(super) fn bad_answer(&self, ask: &Ask, expected: &'static str, seen: &str) -> BmcError {
        BmcError::bad_answer(self.address.addr, ask.name(), expected, seen)
    }

    /// The system was read: this is a BMC that works.
    pub(super) fn it_works(&self) {
        self.worked.add(self.address.addr);
    }

    /// An answer that a BMC gives while it starts: of one that worked before it does not mean what it says.
    pub(super) fn unless_it_starts(&mut self, error: BmcError) -> BmcError {
        if error.is_transient() || !self.worked.has(self.address.addr) {
            return error;
        }
        // Without a session service it may have been taken for one that has none.
        if matches!(self.auth, Auth::Basic(_)) {
            self.auth = Auth::None;
        }
        self.root = None;
        BmcError::Restarting { addr: self.address.addr, reason: Box::new(error) }
    }
}

fn is_about_condition(status: StatusCode) -> bool {
    matches!(status, StatusCode::PRECONDITION_FAILED | StatusCode::PRECONDITION_REQUIRED)
}

/// What `If-Match` may say of a resource that has just been read, one after the other. By RFC 9110 §13.1.1 no weak tag matches,
/// not even itself: some BMCs give only such and go by that, and others by what is between the quotes.
fn conditions(etag: Option<String>) -> Vec<Option<String>> {
    let Some(etag) = etag else { return vec![Some("*".to_owned())] };
    let strong = etag.strip_prefix("W/").map(str::to_owned);
    let mut all = vec![Some(etag)];
    all.extend(strong.map(Some));
    all.push(None);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weak_tag_is_tried_as_it_is_then_as_a_strong_one_then_not_at_all() {
        let of = |etag: Option<&str>| conditions(etag.map(str::to_owned));
        let some = |etag: &str| Some(etag.to_owned());
        assert_eq!(of(Some("W/\"1\"")), [some("W/\"1\""), some("\"1\""), None]);
        assert_eq!(of(Some("\"1\"")), [some("\"1\""), None]);
        assert_eq!(of(None), [some("*")]);
    }
}
