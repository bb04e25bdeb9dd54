//! One BMC's session and how a command gets through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use farrier_ipmi::client::ClientSession;
use farrier_ipmi::command::{CloseSession, SetSessionPrivilegeLevel};
use farrier_ipmi::completion::{CompletionCode, command_name};
use farrier_ipmi::{CipherSuite, completion};
use futures::future::BoxFuture;
use ipmi_rs_core::app::auth::PrivilegeLevel;
use ipmi_rs_core::connection::{IpmiCommand, Message};
use tokio::time::Instant;

use super::address::BmcAddress;
use super::exchange::{self, Effort, InSession};
use super::hub::Shared;
use super::quirks::Quirks;
use super::reason::{Reason, excerpt};
use super::tuning::Tuning;
use super::wire::Wire;
use crate::actor::{Call, Line, Repeat};
use crate::breaker::Breaker;
use crate::{BmcError, Deadline};

/// Wait for the answer to Close Session: a courtesy, so not long.
const CLOSE_WAIT: Duration = Duration::from_millis(250);

/// State of one BMC, owned by its actor.
pub(crate) struct Link {
    pub(super) address: Arc<BmcAddress>,
    pub(super) shared: Arc<Shared>,
    pub(super) wire: Wire,
    /// The suite that worked last.
    pub(super) suite: Option<CipherSuite>,
    breaker: Breaker,
    pub(super) quirks: Option<Quirks>,
    session: Option<ClientSession>,
    last_used: Instant,
}

impl Line for Link {
    fn addr(&self) -> SocketAddr {
        self.address.addr
    }

    fn breaker(&mut self) -> &mut Breaker {
        &mut self.breaker
    }

    fn idle_at(&self) -> Option<Instant> {
        self.session.as_ref().map(|_| self.last_used + self.tuning().idle_close)
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(Link::close(self))
    }
}

impl Link {
    pub(crate) fn new(address: Arc<BmcAddress>, shared: Arc<Shared>, wire: Wire) -> Self {
        let breaker = Breaker::new(shared.tuning.breaker());
        Self {
            address,
            shared,
            wire,
            suite: None,
            breaker,
            quirks: None,
            session: None,
            last_used: Instant::now(),
        }
    }

    pub(super) fn tuning(&self) -> &Tuning {
        &self.shared.tuning
    }

    /// Sends a command and reads its answer; the session is opened, and re-opened, as needed.
    pub(crate) async fn command<C>(&mut self, call: &mut Call, command: C) -> Result<C::Output, BmcError>
    where
        C: IpmiCommand + Send,
        C::Error: Reason,
    {
        self.send(call, command, Repeat::Harmless).await
    }

    /// As [`Link::command`], but sent once. `Ok(None)`: no answer came.
    pub(crate) async fn command_once<C>(
        &mut self,
        call: &mut Call,
        command: C,
    ) -> Result<Option<C::Output>, BmcError>
    where
        C: IpmiCommand + Send,
        C::Error: Reason,
    {
        match self.send(call, command, Repeat::Never).await {
            Err(BmcError::AnswerLost { .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    async fn send<C>(&mut self, call: &mut Call, command: C, repeat: Repeat) -> Result<C::Output, BmcError>
    where
        C: IpmiCommand + Send,
        C::Error: Reason,
    {
        let message: Message = command.into();
        let name = command_name(message.netfn_raw(), message.cmd());
        let mut busy = 0;
        loop {
            let data = self.round_trip(call, &message, name, repeat).await?;
            let code = CompletionCode(data.first().copied().unwrap_or(completion::UNSPECIFIED));
            let pause = self.tuning().busy(busy);
            // C3h means the command was begun, so only harmless ones are repeated after it.
            if code.is_transient() && repeat == Repeat::Harmless && call.deadline.remaining() > pause {
                tracing::debug!(bmc.addr = %self.address.addr, command = name, %code, "bmc is busy");
                busy += 1;
                tokio::time::sleep(pause).await;
                continue;
            }
            if code.0 != completion::OK {
                let meaning = code.meaning(message.netfn_raw(), message.cmd());
                return Err(BmcError::Refused { addr: self.address.addr, command: name, code, meaning });
            }
            let body = data.get(1..).unwrap_or_default();
            return C::parse_success_response(body).map_err(|error| BmcError::Malformed {
                addr: self.address.addr,
                command: name,
                expected: error.reason(),
                seen: excerpt(body),
            });
        }
    }

    /// Completion code and data of one answered request.
    async fn round_trip(
        &mut self,
        call: &mut Call,
        message: &Message,
        name: &'static str,
        repeat: Repeat,
    ) -> Result<Vec<u8>, BmcError> {
        loop {
            let (mut session, is_new) = match self.take_session() {
                Some(session) => (session, false),
                None => (self.open_and_raise(call).await?, true),
            };
            let (tries, single_wait) = match repeat {
                Repeat::Never => (1, Some(self.tuning().single_shot_timeout)),
                Repeat::Harmless if is_new => (self.tuning().tries, None),
                Repeat::Harmless => (self.tuning().tries_in_old_session, None),
            };
            let effort = |tuning| Effort { tuning, tries, single_wait, deadline: call.deadline };
            self.pace().await;
            let shared = self.shared.clone();
            let request = session.request(message);
            let mut question = InSession { session: &mut session, request };
            let effort = effort(&shared.tuning);
            let answer = exchange::ask(&mut self.wire, effort, &mut call.sent, &mut question).await;
            self.last_used = Instant::now();
            match answer {
                Some(response) => {
                    self.session = Some(session);
                    return Ok(response.data);
                }
                None if repeat == Repeat::Never => {
                    // Keep the session: what follows is reading the state, which finds out whether
                    // the session still lives.
                    self.session = Some(session);
                    return Err(BmcError::AnswerLost {
                        addr: self.address.addr,
                        command: name,
                        power_now: None,
                    });
                }
                None if is_new || call.deadline.is_past() => return Err(self.unreachable(call, name)),
                // The BMC may have restarted or timed the session out without telling: a session it
                // does not know is answered with silence (§6.12.15).
                None => tracing::info!(bmc.addr = %self.address.addr, "session lost, opening another"),
            }
        }
    }

    /// The session as a command left it, for whoever goes on by himself.
    pub(super) fn take_open_session(&mut self) -> Option<ClientSession> {
        self.session.take()
    }

    /// The BMC has forgotten it: nothing is left to close.
    pub(super) fn forget_session(&mut self) {
        self.session = None;
    }

    /// Gives a session back, in use until now.
    pub(super) fn put_session(&mut self, session: ClientSession) {
        self.session = Some(session);
        self.last_used = Instant::now();
    }

    fn take_session(&mut self) -> Option<ClientSession> {
        let idle = self.last_used.elapsed() >= self.tuning().idle_close;
        self.session.take().filter(|session| !idle && !session.is_worn_out())
    }

    /// A session at administrator level (§22.18: every session starts at user level).
    async fn open_and_raise(&mut self, call: &mut Call) -> Result<ClientSession, BmcError> {
        let mut session = self.open(call).await?;
        let message = Message::from(SetSessionPrivilegeLevel(PrivilegeLevel::Administrator));
        let shared = self.shared.clone();
        let effort = Effort {
            tuning: &shared.tuning,
            tries: shared.tuning.tries,
            single_wait: None,
            deadline: call.deadline,
        };
        let name = command_name(message.netfn_raw(), message.cmd());
        let request = session.request(&message);
        let mut question = InSession { session: &mut session, request };
        let answer = exchange::ask(&mut self.wire, effort, &mut call.sent, &mut question).await;
        let Some(response) = answer else { return Err(self.unreachable(call, name)) };
        let code = CompletionCode(response.data.first().copied().unwrap_or(completion::UNSPECIFIED));
        if code.0 != completion::OK {
            self.session = Some(session);
            self.close().await;
            let meaning = code.meaning(message.netfn_raw(), message.cmd());
            return Err(BmcError::Refused { addr: self.address.addr, command: name, code, meaning });
        }
        tracing::debug!(bmc.addr = %self.address.addr, suite = %session.suite(), "session open");
        Ok(session)
    }

    /// Leaves a slow BMC the time it needs between two requests.
    async fn pace(&self) {
        let since = self.last_used.elapsed();
        if let Some(rest) = self.tuning().min_interval.checked_sub(since) {
            tokio::time::sleep(rest).await;
        }
    }

    /// Gives the session's slot back to the BMC, if there is one; asks twice at most.
    pub(crate) async fn close(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        let message = Message::from(CloseSession { bmc_session_id: session.bmc_session_id() });
        let shared = self.shared.clone();
        let effort = Effort {
            tuning: &shared.tuning,
            tries: 2,
            single_wait: Some(CLOSE_WAIT),
            deadline: Deadline::after(CLOSE_WAIT * 2),
        };
        let request = session.request(&message);
        let mut question = InSession { session: &mut session, request };
        let answered = exchange::ask(&mut self.wire, effort, &mut 0, &mut question).await.is_some();
        tracing::debug!(bmc.addr = %self.address.addr, answered, "session closed");
    }

    pub(super) fn unreachable(&self, call: &Call, waiting_for: &'static str) -> BmcError {
        let rubbish = &self.wire.rubbish;
        if rubbish.count > 0 {
            return BmcError::Garbled {
                addr: self.address.addr,
                waiting_for,
                count: rubbish.count,
                last: rubbish.last.clone(),
                elapsed: call.elapsed(),
            };
        }
        BmcError::Unreachable {
            addr: self.address.addr,
            tried: call.sent,
            elapsed: call.elapsed(),
            waiting_for,
        }
    }
}
