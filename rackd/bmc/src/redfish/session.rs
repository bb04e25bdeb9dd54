//! Logging in and out (DSP0266 §13.3): a session where the BMC has them, else Basic.

use std::sync::Arc;
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
    /// A session, and its resource, which is deleted at the end.
    Session { token: HeaderValue, resource: Option<Path> },
}

impl Auth {
    pub(super) fn is_session(&self) -> bool {
        matches!(self, Self::Session { .. })
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
            drop(self.login.turn(&self.address, call.deadline).await?);
            self.use_basic(&password);
            return Ok(());
        };
        let login = Arc::clone(&self.login);
        let mut turn = login.turn(&self.address, call.deadline).await?;
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
                self.auth = Auth::Session { token, resource };
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
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(turn.refused(&self.address, &self.tuning))
            }
            StatusCode::BAD_REQUEST if complains("UnauthorizedLoginAttempt") => {
                Err(turn.refused(&self.address, &self.tuning))
            }
            _ if complains("SessionLimitExceeded") => {
                Err(BmcError::NoSessionSlot { addr: self.address.addr, elapsed: call.elapsed() })
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

    /// Deletes the session, if there is one: BMCs have few.
    pub(super) async fn log_out(&mut self) {
        let Auth::Session { resource: Some(resource), .. } = &self.auth else {
            self.auth = Auth::None;
            return;
        };
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
