//! One BMC's session and how a command gets through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use farrier_ipmi::client::ClientSession;
use farrier_ipmi::command::{CloseSession, SetSessionPrivilegeLevel};
use farrier_ipmi::completion::{CompletionCode, command_name};
use farrier_ipmi::lan::LanMessage;
use farrier_ipmi::{CipherSuite, completion};
use futures::future::BoxFuture;
use ipmi_rs_core::app::GetDeviceId;
use ipmi_rs_core::app::auth::PrivilegeLevel;
use ipmi_rs_core::connection::{IpmiCommand, Message};
use tokio::time::Instant;

use super::address::BmcAddress;
use super::exchange::{self, Effort, InSession, Spent};
use super::hub::Shared;
use super::quirks::Quirks;
use super::reason::{Reason, excerpt};
use super::sensors::Records;
use super::tuning::Tuning;
use super::wire::Wire;
use crate::actor::{Call, Line, Repeat};
use crate::breaker::Breaker;
use crate::{BmcError, Deadline, PowerState};

/// Wait for the answer to Close Session: a courtesy, so not long.
const CLOSE_WAIT: Duration = Duration::from_millis(250);

/// For a sign of life of an idle session: the next call would not wait longer for it.
const KEEP_ALIVE_WAIT: Duration = Duration::from_secs(10);

/// A change of the power that a BMC acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) to: PowerState,
    /// Until when the state before it may be told ([`Quirks::power_lag`]).
    pub(super) until: Instant,
}

/// State of one BMC, owned by its actor.
pub(crate) struct Link {
    pub(super) address: Arc<BmcAddress>,
    pub(super) shared: Arc<Shared>,
    pub(super) wire: Wire,
    /// The suite that worked last.
    pub(super) suite: Option<CipherSuite>,
    breaker: Arc<Breaker>,
    pub(super) quirks: Option<Quirks>,
    /// A change of the power that was acknowledged and may not be told yet.
    pub(super) change: Option<Change>,
    pub(super) records: Option<Records>,
    /// Kept here also while a command is under way, so that whoever gives up a call loses no session: BMCs have few.
    session: Option<ClientSession>,
    /// Of the session that was opened last.
    pub(super) session_number: u64,
    /// The session has administrator's privilege.
    raised: bool,
    /// The last question was not answered: whether anybody is there is asked before a session is.
    pub(super) doubted: bool,
    /// When anything was last said.
    last_used: Instant,
    /// When anybody last wanted anything.
    last_wanted: Instant,
}

impl Line for Link {
    fn addr(&self) -> SocketAddr {
        self.address.addr
    }

    fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    fn idle_at(&self) -> Option<Instant> {
        let tuning = self.tuning();
        let due = (self.last_used + tuning.keep_alive).min(self.last_wanted + tuning.idle_close);
        self.session.as_ref().map(|_| due)
    }

    fn idle(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.forget_old_records();
            if self.last_wanted.elapsed() >= self.tuning().idle_close {
                Link::close(self).await;
            } else {
                self.keep_alive().await;
            }
        })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(Link::close(self))
    }
}

impl Link {
    pub(crate) fn new(address: Arc<BmcAddress>, shared: Arc<Shared>, wire: Wire) -> Self {
        let breaker = shared.breaker(&address);
        Self {
            address,
            shared,
            wire,
            suite: None,
            breaker,
            quirks: None,
            change: None,
            records: None,
            session: None,
            session_number: 0,
            raised: false,
            doubted: false,
            last_used: Instant::now(),
            last_wanted: Instant::now(),
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
        self.last_wanted = Instant::now();
        self.forget_old_records();
        loop {
            let is_new = self.ensure_session(call).await?;
            let (tries, single_wait) = match repeat {
                Repeat::Never => (1, Some(self.tuning().single_shot_timeout)),
                Repeat::Harmless if is_new => (self.tuning().tries, None),
                Repeat::Harmless => (self.tuning().tries_in_old_session, None),
            };
            self.pace().await;
            let shared = self.shared.clone();
            let effort = Effort { tuning: &shared.tuning, tries, single_wait, deadline: call.deadline };
            match self.ask_in_session(effort, Spent::of(call), message).await {
                Some(response) => {
                    self.doubted = false;
                    call.garbled = 0;
                    return Ok(response.data);
                }
                // What follows is reading the state, which finds out whether the session still lives.
                None if repeat == Repeat::Never => {
                    return Err(BmcError::AnswerLost {
                        addr: self.address.addr,
                        command: name,
                        power_now: None,
                    });
                }
                // It may be slow only, or somebody sends rubbish in its name: the next call goes on with the session.
                None if is_new || self.wire.rubbish.hopeless || call.deadline.is_past() => {
                    if std::mem::replace(&mut self.doubted, true) {
                        self.abandon().await;
                    }
                    return Err(self.unreachable(call, name));
                }
                // The BMC may have restarted or timed the session out without telling: a session it
                // does not know is answered with silence (§6.12.15).
                None => {
                    tracing::info!(bmc.addr = %self.address.addr, "session lost, opening another");
                    self.doubted = true;
                    self.abandon().await;
                }
            }
        }
    }

    /// Puts one request to the session that is open. `None`: no answer, or no session.
    async fn ask_in_session(
        &mut self,
        effort: Effort<'_>,
        spent: Spent<'_>,
        message: &Message,
    ) -> Option<LanMessage> {
        let session = self.session.as_mut()?;
        let request = session.request(message);
        let mut question = InSession { session, request };
        let answer = exchange::ask(&mut self.wire, effort, spent, &mut question).await;
        self.last_used = Instant::now();
        answer
    }

    /// A session nobody uses ends after 60 s (§6.12.15).
    async fn keep_alive(&mut self) {
        let shared = self.shared.clone();
        let tries = shared.tuning.tries_in_old_session;
        let deadline = Deadline::after(KEEP_ALIVE_WAIT);
        let effort = Effort { tuning: &shared.tuning, tries, single_wait: None, deadline };
        let answer = self
            .ask_in_session(effort, Spent { sent: &mut 0, garbled: &mut 0 }, &Message::from(GetDeviceId))
            .await;
        if answer.is_none() {
            tracing::debug!(bmc.addr = %self.address.addr, "an idle session is not answered");
            self.doubted = true;
            self.abandon().await;
        }
    }

    /// The session as a command left it, for whoever goes on by himself.
    pub(super) fn take_open_session(&mut self) -> Option<ClientSession> {
        self.session.take()
    }

    /// The session's id, as the BMC gave it.
    pub(super) fn session_id(&self) -> Option<u32> {
        self.session.as_ref().map(ClientSession::bmc_session_id)
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

    /// Has a session at administrator level, and tells whether it is a new one.
    async fn ensure_session(&mut self, call: &mut Call) -> Result<bool, BmcError> {
        let idle = self.last_used.elapsed() >= self.tuning().idle_close;
        if self.session.as_ref().is_some_and(|session| idle || session.is_worn_out()) {
            self.abandon().await;
        }
        if self.session.is_some() && self.raised {
            return Ok(false);
        }
        if self.session.is_none() {
            self.raised = false;
            let session = self.open(call).await?;
            self.session_number = self.shared.session_number();
            self.put_session(session);
        }
        self.raise(call).await.map(|()| true)
    }

    /// To administrator level (§22.18: every session starts at user level).
    async fn raise(&mut self, call: &mut Call) -> Result<(), BmcError> {
        let message = Message::from(SetSessionPrivilegeLevel(PrivilegeLevel::Administrator));
        let name = command_name(message.netfn_raw(), message.cmd());
        let shared = self.shared.clone();
        let (tuning, tries) = (&shared.tuning, shared.tuning.tries);
        let effort = Effort { tuning, tries, single_wait: None, deadline: call.deadline };
        let Some(response) = self.ask_in_session(effort, Spent::of(call), &message).await else {
            self.abandon().await;
            return Err(self.unreachable(call, name));
        };
        let code = CompletionCode(response.data.first().copied().unwrap_or(completion::UNSPECIFIED));
        if code.0 != completion::OK {
            self.close().await;
            let meaning = code.meaning(message.netfn_raw(), message.cmd());
            return Err(BmcError::Refused { addr: self.address.addr, command: name, code, meaning });
        }
        self.raised = true;
        let suite = self.session.as_ref().map(ClientSession::suite);
        tracing::debug!(bmc.addr = %self.address.addr, ?suite, "session open");
        Ok(())
    }

    /// Gives the session's slot back without waiting for a word: where it is not lost, the BMC is slow.
    async fn abandon(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        let message = Message::from(CloseSession { bmc_session_id: session.bmc_session_id() });
        let request = session.request(&message);
        let datagram = session.seal(&request, &rand::random());
        self.wire.send(&datagram).await;
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
        let Some(session) = self.session.as_ref() else { return };
        let message = Message::from(CloseSession { bmc_session_id: session.bmc_session_id() });
        let shared = self.shared.clone();
        let effort = Effort {
            tuning: &shared.tuning,
            tries: 2,
            single_wait: Some(CLOSE_WAIT),
            deadline: Deadline::after(CLOSE_WAIT * 2),
        };
        let answered =
            self.ask_in_session(effort, Spent { sent: &mut 0, garbled: &mut 0 }, &message).await.is_some();
        self.session = None;
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
