//! Logging in and out (DSP0266 §13.3): a session where the BMC has them, else Basic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use serde_json::json;

use super::document::{Document, Path};
use super::http::X_AUTH_TOKEN;
use super::link::{Ask, Link};
use super::refusal;
use crate::actor::Call;
use crate::{BmcError, Deadline};

/// Wait for the answer to the end of a session: a courtesy, so not long.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// How requests say who we are.
pub(super) enum Auth {
    /// Not logged in.
    None,
    /// The BMC has no sessions: the password goes along with every request.
    Basic(HeaderValue),
    /// A session, which all who log in there with this account share.
    Session(Arc<Session>),
}

/// A session of a BMC: it has four to sixteen of them for everybody.
pub(super) struct Session {
    pub(super) token: HeaderValue,
    /// Deleted at the end.
    resource: Option<Path>,
    /// It was taken for something.
    pub(super) took: AtomicBool,
}

impl Auth {
    /// A request was answered, and not refused for who we are.
    pub(super) fn took(&self) {
        if let Self::Session(session) = self {
            session.took.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_session(&self) -> bool {
        matches!(self, Self::Session(_))
    }
}

impl Link {
    /// Opens a session if there is none.
    pub(super) async fn log_in(&mut self, call: &mut Call) -> Result<(), BmcError> {
        if !matches!(self.auth, Auth::None) {
            return Ok(());
        }
        let password = String::from_utf8_lossy(self.address.password.expose()).into_owned();
        let Some(sessions) = self.root(call).await?.sessions.clone() else {
            // Nothing is sent here: it is only whether the password was refused not long ago.
            drop(self.login.pass(&self.address, call.deadline).await?);
            self.use_basic(&password);
            return Ok(());
        };
        let login = Arc::clone(&self.login);
        let mut turn = login.turn(&self.address, call.deadline).await?;
        // Another system of the same BMC has one.
        if let Some(session) = login.session() {
            self.auth = Auth::Session(session);
            return Ok(());
        }
        let body = json!({ "UserName": self.address.user, "Password": password });
        let ask = Ask::post(&sessions, body).once("opening a session");
        // A session whose answer nobody waits for stays until the BMC's own time-out: the answer is waited for, whatever
        // becomes of the call.
        let _finishing = call.log_in.clone().lock_owned().await;
        let mut patient = Call::new(call.deadline.max(Deadline::after(self.tuning.request_timeout)));
        let answer = match self.follow(&mut patient, &ask).await {
            Ok(answer) => answer,
            // A session that nobody has the token of ends by the BMC's own time-out.
            Err(BmcError::AnswerLost { addr, .. }) => {
                return Err(BmcError::NoAnswer {
                    addr,
                    request: format!("POST {}", sessions.as_str()),
                    seen: "a connection that broke, or nothing".to_owned(),
                    elapsed: call.elapsed(),
                });
            }
            Err(error) => return Err(error),
        };
        let complains = |id: &str| Document::parse(&answer.body, None).is_some_and(|d| d.complains_of(id));
        match answer.status {
            status if status.is_success() => {
                let Some(token) = answer.header(&X_AUTH_TOKEN).and_then(sensitive) else {
                    return Err(self.bad_answer(&ask, "a session with X-Auth-Token", "none"));
                };
                let resource = answer.header(&header::LOCATION).and_then(path_of).or_else(|| {
                    let document = Document::parse(&answer.body, None)?;
                    Path::of(&document.text("@odata.id")?)
                });
                turn.took();
                self.to_change = refusal::account_to_change(&answer);
                let session = Arc::new(Session { token, resource, took: AtomicBool::new(false) });
                login.share(&session);
                self.auth = Auth::Session(session);
                tracing::debug!(bmc.addr = %self.address.addr, "session open");
                Ok(())
            }
            // One status of three, by the vendor's taste.
            StatusCode::FORBIDDEN if refusal::must_change(&answer) => {
                turn.took();
                // It opens no session before, and takes the change with the password itself.
                self.to_change = refusal::account_to_change(&answer);
                self.use_basic(&password);
                Ok(())
            }
            // With a 403, too: the password is not what is wrong.
            _ if complains("SessionLimitExceeded") => {
                Err(BmcError::NoSessionSlot { addr: self.address.addr, elapsed: call.elapsed() })
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(turn.refused(&self.address, &self.tuning))
            }
            StatusCode::BAD_REQUEST if complains("UnauthorizedLoginAttempt") => {
                Err(turn.refused(&self.address, &self.tuning))
            }
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                self.use_basic(&password);
                Ok(())
            }
            _ => Err(self.refused(&ask, &answer)),
        }
    }

    fn use_basic(&mut self, password: &str) {
        let pair = STANDARD.encode(format!("{}:{password}", self.address.user));
        // Base64 is always a header's value.
        self.auth = sensitive(&format!("Basic {pair}")).map_or(Auth::None, Auth::Basic);
        tracing::debug!(bmc.addr = %self.address.addr, "no sessions here, basic authentication");
    }

    /// As [`Link::log_out`], of a session that nobody shall be given any more; who has it keeps it until he finds out himself.
    pub(super) async fn give_up_session(&mut self) {
        if let Auth::Session(session) = &self.auth {
            self.login.forget_session(session);
        }
        self.log_out().await;
    }

    /// Deletes the session, if there is one and nobody else uses it: BMCs have few.
    pub(super) async fn log_out(&mut self) {
        let Auth::Session(session) = std::mem::replace(&mut self.auth, Auth::None) else { return };
        // Of all who let go of it at the same time one is the last.
        let Some(session) = Arc::into_inner(session) else { return };
        let Some(resource) = &session.resource.clone() else { return };
        self.auth = Auth::Session(Arc::new(session));
        let ask = Ask { method: Method::DELETE, ..Ask::get(resource) }.once("ending a session");
        // The connection is given up long before the session, and a BMC takes its time to make another.
        let connects = if self.http.is_open() { Duration::ZERO } else { self.tuning.connect_timeout };
        let mut call = Call::new(Deadline::after(CLOSE_WAIT + connects));
        let deleted = self.follow(&mut call, &ask).await.is_ok_and(|answer| answer.status.is_success());
        tracing::debug!(bmc.addr = %self.address.addr, deleted, "session closed");
        self.auth = Auth::None;
    }
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A session's place. It is only ever asked for on the same connection, so a BMC that calls itself by another name
/// than we do, behind a NAT, is fine.
fn path_of(location: &str) -> Option<Path> {
    Path::of(location).or_else(|| Path::of(location.parse::<Uri>().ok()?.path()))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::redfish::scripted;

    const ROOT: &str = r#"{"RedfishVersion": "1.15.0", "Systems": {"@odata.id": "/S"}, "Links": {"Sessions": {"@odata.id": "/X"}}}"#;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    /// Each of its log-ins is a place that is taken until it is given back.
    #[tokio::test(start_paused = true)]
    async fn a_bmc_that_ends_each_session_it_opens_keeps_none_and_is_left_alone() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&heard);
        let hub = scripted::hub(move |request| {
            asked.lock().unwrap().push(request.to_owned());
            Some(match request {
                "GET /redfish/v1/" => (200, ROOT.to_owned()),
                "POST /X" => (201, "{}".to_owned()),
                "DELETE /X/1" => (204, String::new()),
                _ => (401, "{}".to_owned()),
            })
        });
        let count = |what: &str| heard.lock().unwrap().iter().filter(|one| *one == what).count();
        let bmc = hub.bmc(scripted::address());
        let failures = usize::try_from(crate::redfish::Tuning::default().breaker_failures).unwrap();
        for nth in 1..=failures {
            let error = bmc.power_status(soon()).await.unwrap_err();
            assert!(matches!(error, BmcError::NoSession { .. }), "{error}");
            assert_eq!((count("POST /X"), count("DELETE /X/1")), (2 * nth, 2 * nth));
        }
        let error = bmc.power_status(soon()).await.unwrap_err();
        assert!(matches!(error, BmcError::CircuitOpen { .. }), "{error}");
        assert_eq!(count("POST /X"), 2 * failures);
        hub.shutdown().await;
    }

    /// A resource that the account may not see: it costs one log-in more, once, and nothing else suffers.
    #[tokio::test(start_paused = true)]
    async fn a_refusal_of_one_resource_is_not_one_of_the_password() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&heard);
        let hub = scripted::hub(move |request| {
            asked.lock().unwrap().push(request.to_owned());
            let system = r#"{"@odata.id": "/S/1", "PowerState": "On", "Links": {"ManagedBy": [{"@odata.id": "/M/1"}]}}"#;
            Some(match request {
                "GET /redfish/v1/" => (200, ROOT.to_owned()),
                "POST /X" => (201, "{}".to_owned()),
                "DELETE /X/1" => (204, String::new()),
                "GET /S" => (200, r#"{"Members": [{"@odata.id": "/S/1"}]}"#.to_owned()),
                "GET /S/1" => (200, system.to_owned()),
                _ => (401, "{}".to_owned()),
            })
        });
        let bmc = hub.bmc(scripted::address());
        for _ in 0..2 * crate::redfish::Tuning::default().breaker_failures {
            let error = bmc.network(soon()).await.unwrap_err();
            assert!(matches!(error, BmcError::Http { status: 401, .. }), "{error}");
            assert_eq!(bmc.power_status(soon()).await, Ok(crate::PowerState::On));
        }
        let logged_in = heard.lock().unwrap().iter().filter(|one| *one == "POST /X").count();
        assert_eq!(logged_in, 2);
        hub.shutdown().await;
    }

    /// The systems of a chassis: one session for all, which the last of them ends.
    #[tokio::test(start_paused = true)]
    async fn the_systems_of_one_bmc_share_a_session() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&heard);
        let hub = scripted::hub(move |request| {
            asked.lock().unwrap().push(request.to_owned());
            let system = || r#"{"PowerState": "On", "Id": "x"}"#.to_owned();
            Some(match request {
                "GET /redfish/v1/" => (200, ROOT.to_owned()),
                "POST /X" => (201, "{}".to_owned()),
                "DELETE /X/1" => (204, String::new()),
                _ => (200, system()),
            })
        });
        let count = |what: &str| heard.lock().unwrap().iter().filter(|one| *one == what).count();
        let of = |n: u32| {
            let system = format!("/S/{n}");
            hub.bmc(crate::redfish::RedfishAddress { system, ..scripted::address() })
        };
        let mut bmcs: Vec<_> = (0..8).map(of).collect();
        let looks = bmcs.iter().map(|bmc| bmc.power_status(soon()));
        for seen in futures::future::join_all(looks).await {
            assert_eq!(seen, Ok(crate::PowerState::On));
        }
        assert_eq!((count("POST /X"), count("DELETE /X/1")), (1, 0));
        // Whether the password is right is asked of the BMC, not of a session.
        bmcs[0].prove_password(soon()).await.unwrap();
        assert_eq!(count("POST /X"), 2);
        bmcs.truncate(1);
        // Long enough for the actors to end: the first session was that of the seven others.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(count("DELETE /X/1"), 1);
        assert_eq!(bmcs[0].power_status(soon()).await, Ok(crate::PowerState::On));
        hub.shutdown().await;
        assert_eq!((count("POST /X"), count("DELETE /X/1")), (2, 2));
    }

    /// HTTP 403 with the Base registry's message, as some BMCs say it.
    #[tokio::test(start_paused = true)]
    async fn a_limit_of_sessions_that_is_forbidden_is_no_wrong_password() {
        let hub = scripted::hub(|request| {
            let limit =
                r#"{"error": {"@Message.ExtendedInfo": [{"MessageId": "Base.1.8.SessionLimitExceeded"}]}}"#;
            Some(match request {
                "GET /redfish/v1/" => (200, ROOT.to_owned()),
                "POST /X" => (403, limit.to_owned()),
                _ => (401, "{}".to_owned()),
            })
        });
        let error = hub.bmc(scripted::address()).power_status(soon()).await.unwrap_err();
        assert!(matches!(error, BmcError::NoSessionSlot { .. }), "{error}");
        hub.shutdown().await;
    }
}
