//! A request until an answer comes that is worth having, and what is said where none comes. For any REST API of a BMC.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;

use super::address::{RedfishAddress, Trust};
use super::dial::DialError;
use super::http::{Answer, Failed, Http};
use crate::BmcError;
use crate::actor::Call;

/// Longest wait that a BMC may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// A request in words.
pub(crate) struct Asked {
    /// The API.
    pub(crate) service: &'static str,
    /// Method and path, without secrets.
    pub(crate) name: String,
    /// It is an event of this name, which a second request would cause again; `None`: repeating does no harm.
    pub(crate) event: Option<&'static str>,
    /// Longest body taken.
    pub(crate) max_body: usize,
}

impl Http {
    /// Sends a request, again where that does no harm and may help.
    pub(crate) async fn persist(
        &mut self,
        call: &mut Call,
        request: &Request<Full<Bytes>>,
        asked: &Asked,
    ) -> Result<Answer, Failed> {
        let mut attempt = 0;
        loop {
            call.sent += 1;
            let outcome = self.exchange(request.clone(), call.deadline.instant(), asked.max_body).await;
            let more = attempt + 1 < self.tuning.tries;
            let again = more && asked.event.is_none();
            let pause = match outcome {
                // Never sent: the next one goes on a new connection.
                Err(Failed::Stale) => Duration::ZERO,
                Err(Failed::Broken(_)) if again => self.tuning.busy(attempt),
                Err(failed) => return Err(failed),
                Ok(answer) if again && is_busy(answer.status) || more && not_begun(answer.status) => {
                    let pause = retry_after(&answer).unwrap_or_else(|| self.tuning.busy(attempt));
                    if pause >= call.deadline.remaining() {
                        return Ok(answer);
                    }
                    pause
                }
                Ok(answer) => return Ok(answer),
            };
            attempt += 1;
            if !pause.is_zero() {
                tokio::time::sleep(pause.min(call.deadline.remaining())).await;
            }
        }
    }
}

impl Failed {
    /// In words.
    pub(crate) fn told(self, address: &RedfishAddress, call: &Call, asked: &Asked) -> BmcError {
        let (addr, elapsed) = (address.addr, call.elapsed());
        let request = asked.name.clone();
        let no_connection =
            |seen: String| BmcError::NoConnection { addr, service: asked.service, seen, elapsed };
        match (self, asked.event) {
            (Self::NoPlace, _) => BmcError::NoTurn { addr },
            (Self::Dial(DialError::Connect(error)), _) if is_of_this_host(&error) => {
                BmcError::OutOfFiles { addr }
            }
            (Self::Dial(DialError::Connect(error)), _) => no_connection(error.to_string()),
            (Self::Dial(DialError::Tls(seen)), _) => BmcError::Tls { addr, seen },
            // No advice to do without TLS, and so to tell the password to everybody.
            (Self::Dial(DialError::WeakKey(seen)), _) => {
                let expected = "a certificate with a key that proves who it is";
                BmcError::bad_answer(addr, format!("{request} over https"), expected, &seen)
            }
            (Self::Dial(DialError::Certificate(seen)), _) => {
                let seen = seen.iter().map(|byte| format!("{byte:02x}")).collect();
                let pinned = address.trust != Trust::Nothing;
                BmcError::Certificate { addr, expected: address.trust.expects(), seen, pinned }
            }
            (Self::NotConnected, _) => no_connection("no end of the connection's set-up".to_owned()),
            (Self::TooLong, None) => {
                let seen = format!("more than {} bytes", asked.max_body);
                BmcError::bad_answer(addr, request, "an answer of bounded size", &seen)
            }
            (Self::NoHttp(seen), None) => {
                let other = if address.trust.is_tls() { "" } else { ": is it https?" };
                BmcError::bad_answer(addr, request, "HTTP/1.1", &format!("no HTTP ({seen}){other}"))
            }
            (Self::TooLong | Self::NoHttp(_) | Self::Broken(_) | Self::Late, Some(command)) => {
                BmcError::AnswerLost { addr, command, power_now: None }
            }
            (Self::Broken(seen), None) => BmcError::NoAnswer { addr, request, seen, elapsed },
            (Self::Late | Self::Stale, None) | (Self::Stale, Some(_)) => {
                let seen = "nothing, or not all of it".to_owned();
                BmcError::NoAnswer { addr, request, seen, elapsed }
            }
        }
    }
}

impl Answer {
    /// For people, when it is something else than expected.
    pub(crate) fn describe(&self) -> String {
        let kind = self.header(&header::CONTENT_TYPE).unwrap_or("no content type");
        let start: String = String::from_utf8_lossy(&self.body).chars().take(40).collect();
        format!("{} bytes of {kind} that begin with {start:?}", self.body.len())
    }
}

/// EMFILE and ENFILE of Linux: of this process, and of the whole host.
fn is_of_this_host(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23))
}

/// Whether asking again may help.
fn is_busy(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502..=504)
}

/// Whether what was asked was surely not begun: then an event may be asked for again.
fn not_begun(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

fn retry_after(answer: &Answer) -> Option<Duration> {
    let seconds: u64 = answer.header(&header::RETRY_AFTER)?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}
