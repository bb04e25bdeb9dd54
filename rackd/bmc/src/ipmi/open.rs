//! From an address to a session: is anybody there, which suite, RAKP, privilege.

use std::time::Duration;

use farrier_ipmi::client::{ClientConfig, ClientSession, Handshake, HandshakeError, HandshakeNonce};
use farrier_ipmi::command::CloseSession;
use farrier_ipmi::lan::LanMessage;
use farrier_ipmi::{CipherSuite, RmcpStatus};
use ipmi_rs_core::app::auth::{GetChannelAuthenticationCapabilities, PrivilegeLevel};
use ipmi_rs_core::connection::{Channel, Message};

use super::address::Cipher;
use super::exchange::{self, Effort, HandshakeStep, PreSession, Spent};
use super::link::Link;
use crate::actor::Call;
use crate::{BmcError, Deadline};

/// Handshakes tried over after the BMC lost track of one (late copies of RAKP 1 and 3 make some
/// BMCs do that). The password is proved right by then, so nothing gets locked.
const RESTARTS: u32 = 5;

/// The same after it said nothing more: each of them may cost a slot, where it hears nothing of their end either.
const RESTARTS_AFTER_SILENCE: u32 = 1;

/// For the rest of a handshake that the BMC has begun to answer, step by step.
const FINISH: Duration = Duration::from_secs(10);

/// Why one suite gave no session.
enum Failed {
    /// The suite is refused, or ignored by a BMC that is known to be there.
    Suite(RmcpStatus),
    /// No session slot is free.
    Exhausted,
    Final(BmcError),
}

impl Link {
    /// Opens a session with the best suite; asks again while the BMC has no slot free.
    pub(super) async fn open(&mut self, call: &mut Call) -> Result<ClientSession, BmcError> {
        // A BMC that is known to be there is not asked for its presence; from then on a suite is remembered.
        let probed = self.suite.is_none() || self.doubted;
        if probed {
            self.probe(call).await?;
        }
        let mut busy = 0;
        loop {
            match self.open_with_any_suite(call, probed).await {
                Ok(session) => return Ok(session),
                // The deadline cut the last try short: the reason is still the one seen before.
                Err(Failed::Final(BmcError::Unreachable { .. } | BmcError::Garbled { .. }))
                    if busy > 0 && call.deadline.is_past() =>
                {
                    return Err(self.no_slot(call));
                }
                Err(Failed::Final(error)) => {
                    self.doubted |= matches!(error, BmcError::Unreachable { .. } | BmcError::Garbled { .. });
                    return Err(error);
                }
                Err(Failed::Suite(status)) => {
                    let addr = self.address.addr;
                    return Err(match self.is_pinned() {
                        true => BmcError::CipherDowngrade { addr, status },
                        false => BmcError::UnsupportedCipher { addr, tried: self.candidates(), status },
                    });
                }
                Err(Failed::Exhausted) => {
                    let pause = self.tuning().busy(busy);
                    busy += 1;
                    if call.deadline.remaining() <= pause {
                        return Err(self.no_slot(call));
                    }
                    tracing::info!(bmc.addr = %self.address.addr, "no free session, waiting");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn no_slot(&self, call: &Call) -> BmcError {
        BmcError::NoSessionSlot { addr: self.address.addr, elapsed: call.elapsed() }
    }

    fn candidates(&self) -> Vec<CipherSuite> {
        match self.address.cipher {
            Cipher::Fixed(suite) => vec![suite],
            Cipher::Auto if self.is_pinned() => vec![CipherSuite::Suite17],
            Cipher::Auto => CipherSuite::PREFERENCE.to_vec(),
        }
    }

    /// It has spoken suite 17, and nobody has said that it speaks another now.
    fn is_pinned(&self) -> bool {
        self.address.cipher == Cipher::Auto && self.shared.pins.has(self.address.addr)
    }

    /// Get Channel Authentication Capabilities (§22.13): tells "nobody there" from "does not speak
    /// this suite", which Open Session cannot, because some BMCs ignore suites they do not know.
    pub(super) async fn probe(&mut self, call: &mut Call) -> Result<(), BmcError> {
        let command =
            GetChannelAuthenticationCapabilities::new(Channel::Current, PrivilegeLevel::Administrator);
        let mut question = PreSession(LanMessage::request(&Message::from(command), rand::random()));
        let shared = self.shared.clone();
        let effort = effort(&shared.tuning, call, shared.tuning.tries);
        let answer = exchange::ask(&mut self.wire, effort, Spent::of(call), &mut question).await;
        match answer {
            Some(_) => Ok(()),
            None => Err(self.unreachable(call, "an answer to Get Channel Authentication Capabilities")),
        }
    }

    /// `probed`: it has just said that it is there, so that silence means the suite.
    async fn open_with_any_suite(&mut self, call: &mut Call, probed: bool) -> Result<ClientSession, Failed> {
        let mut candidates = self.candidates();
        if let Some(known) = self.suite {
            // What worked comes first. After 3 comes 17, in case the BMC was reconfigured; after 17 nothing.
            candidates.sort_by_key(|suite| *suite != known);
        }
        let mut refusal = Failed::Suite(RmcpStatus::NO_CIPHER_SUITE_MATCH);
        let last = candidates.last().copied();
        for suite in candidates {
            let silence_is_no = (probed || self.suite != Some(suite)) && last != Some(suite);
            match self.open_with(suite, silence_is_no, call).await {
                Ok(session) => {
                    self.suite = Some(suite);
                    self.shared.pins.worked(self.address.addr, suite, self.address.cipher);
                    return Ok(session);
                }
                Err(Failed::Suite(status)) => {
                    tracing::info!(bmc.addr = %self.address.addr, %suite, %status, "cipher suite refused");
                    refusal = Failed::Suite(status);
                }
                Err(other) => return Err(other),
            }
        }
        Err(refusal)
    }

    async fn open_with(
        &mut self,
        suite: CipherSuite,
        silence_is_no: bool,
        call: &mut Call,
    ) -> Result<ClientSession, Failed> {
        let (mut restarts, mut silences) = (0, 0);
        loop {
            let last = silences == RESTARTS_AFTER_SILENCE;
            match self.handshake(suite, silence_is_no, last, call).await {
                Err(HandshakeEnd::Desynchronised(_)) if restarts < RESTARTS && !call.deadline.is_past() => {
                    restarts += 1;
                    tracing::debug!(bmc.addr = %self.address.addr, restarts, "handshake starts over");
                }
                Err(HandshakeEnd::Silent(_)) if !last && !call.deadline.is_past() => {
                    silences += 1;
                    tracing::debug!(bmc.addr = %self.address.addr, "silence, the handshake starts over");
                }
                Err(
                    HandshakeEnd::Desynchronised(error)
                    | HandshakeEnd::Silent(error)
                    | HandshakeEnd::Over(error),
                ) => return Err(error),
                Ok(session) => return Ok(session),
            }
        }
    }

    async fn handshake(
        &mut self,
        suite: CipherSuite,
        silence_is_no: bool,
        last: bool,
        call: &mut Call,
    ) -> Result<ClientSession, HandshakeEnd> {
        let shared = self.shared.clone();
        let turn = tokio::time::timeout_at(call.deadline.instant(), shared.opening.acquire()).await;
        // Closed only at shutdown, and then the actor is about to be stopped too.
        let turn = turn
            .map_err(|_| HandshakeEnd::Over(Failed::Final(BmcError::NoTurn { addr: self.address.addr })))?;
        let steps = self.steps(suite, silence_is_no, last, call);
        tokio::pin!(steps);
        tokio::select! {
            biased;
            end = &mut steps => return end,
            // The slow and the dead keep nobody else waiting.
            () = tokio::time::sleep(shared.tuning.first_timeout) => drop(turn),
        }
        steps.await
    }

    /// `last`: silence is the end of it, and not of this handshake alone.
    async fn steps(
        &mut self,
        suite: CipherSuite,
        silence_is_no: bool,
        last: bool,
        call: &mut Call,
    ) -> Result<ClientSession, HandshakeEnd> {
        let shared = self.shared.clone();
        let address = self.address.clone();
        let config = ClientConfig::new(
            suite,
            &address.user,
            &address.password,
            address.kg.as_ref(),
            PrivilegeLevel::Administrator.into(),
        )
        .map_err(|source| {
            HandshakeEnd::Over(Failed::Final(BmcError::BadCredentials { addr: address.addr, source }))
        })?;
        let nonce =
            HandshakeNonce { session_id: rand::random(), random: rand::random(), tag: rand::random() };
        let mut handshake = Handshake::start(config, nonce);
        // Half a log-in leaves a slot taken that nobody can give back: it is finished, whatever becomes of the call.
        let _finishing = call.log_in.clone().lock_owned().await;
        loop {
            let heard = handshake.heard();
            let impatient = heard && !last;
            let tries = if impatient { shared.tuning.tries_in_old_session } else { shared.tuning.tries };
            let mut effort = effort(&shared.tuning, call, tries);
            let wait = shared.tuning.first_timeout.max(self.wire.least_wait());
            let rest = if heard { FINISH } else { wait * 2 };
            effort.deadline = effort.deadline.max(Deadline::after(rest));
            let mut step = HandshakeStep(&mut handshake);
            let answer = exchange::ask(&mut self.wire, effort, Spent::of(call), &mut step).await;
            match answer {
                Some(Ok(Some(session))) => return Ok(session),
                Some(Ok(None)) => {}
                Some(Err(error)) => {
                    self.give_up(&handshake).await;
                    return Err(self.judge(error));
                }
                None => {
                    self.give_up(&handshake).await;
                    let error = self.unreachable(call, handshake.waiting_for());
                    // It answers, and nothing of use: neither another suite nor a new beginning would change that.
                    if self.wire.rubbish.hopeless {
                        return Err(HandshakeEnd::Over(Failed::Final(error)));
                    }
                    // Answered before, silent now: it may have forgotten the handshake.
                    let end = if heard { HandshakeEnd::Silent } else { HandshakeEnd::Over };
                    // Deaf to this suite but not dead.
                    let deaf = !heard && !call.deadline.is_past() && self.address.cipher == Cipher::Auto;
                    return Err(if deaf && silence_is_no {
                        end(Failed::Suite(RmcpStatus::NO_CIPHER_SUITE_MATCH))
                    } else {
                        end(Failed::Final(error))
                    });
                }
            }
        }
    }

    /// Gives back what the BMC may keep for a handshake that comes to nothing: half a session, or all of one whose last message
    /// was lost. Said once: a BMC that hears it frees the slot, and one that does not frees it by its own time-out.
    async fn give_up(&mut self, handshake: &Handshake) {
        if let Some(datagram) = handshake.give_up() {
            self.wire.send(&datagram).await;
        }
        if let Some(mut session) = handshake.unproven() {
            let close = CloseSession { bmc_session_id: session.bmc_session_id() };
            let request = session.request(&Message::from(close));
            self.wire.send(&session.seal(&request, &rand::random())).await;
        }
    }

    fn judge(&self, error: HandshakeError) -> HandshakeEnd {
        let addr = self.address.addr;
        match error {
            HandshakeError::Refused { message: "Open Session", status } if status.is_suite_refusal() => {
                HandshakeEnd::Over(Failed::Suite(status))
            }
            HandshakeError::Refused { status, .. } if status.is_exhaustion() => {
                HandshakeEnd::Over(Failed::Exhausted)
            }
            HandshakeError::Refused { message: "Open Session", .. } => {
                let refused = self.session_refused(&error);
                // With the suite that worked before nothing was wrong with what we asked.
                let error = match self.suite {
                    Some(_) => BmcError::Restarting { addr, reason: Box::new(refused) },
                    None => refused,
                };
                HandshakeEnd::Over(Failed::Final(error))
            }
            HandshakeError::Refused { status: RmcpStatus::UNAUTHORIZED_ROLE, .. } => {
                HandshakeEnd::Over(Failed::Final(self.session_refused(&error)))
            }
            // Later refusals of a suite that was accepted: the BMC lost track.
            HandshakeError::Refused { .. } => {
                HandshakeEnd::Desynchronised(Failed::Final(self.session_refused(&error)))
            }
            HandshakeError::WrongPassword => HandshakeEnd::Over(Failed::Final(BmcError::WrongPassword {
                addr,
                user: self.address.user.clone(),
            })),
            HandshakeError::WrongKg => HandshakeEnd::Over(Failed::Final(BmcError::WrongKg {
                addr,
                had_kg: self.address.kg.is_some(),
            })),
            // pyghmi's server answers every proposal with suite 3: its way of refusing. What it chose
            // is never accepted unasked; the next candidate is proposed in a new handshake.
            HandshakeError::OtherAlgorithms { .. } => {
                HandshakeEnd::Over(Failed::Suite(RmcpStatus::NO_CIPHER_SUITE_MATCH))
            }
            HandshakeError::ZeroSessionId => HandshakeEnd::Over(Failed::Final(self.session_refused(&error))),
        }
    }

    fn session_refused(&self, error: &HandshakeError) -> BmcError {
        BmcError::SessionRefused { addr: self.address.addr, detail: error.to_string() }
    }
}

enum HandshakeEnd {
    /// The BMC lost track: start over.
    Desynchronised(Failed),
    /// It answered, and then did not any more.
    Silent(Failed),
    Over(Failed),
}

fn effort<'a>(tuning: &'a super::Tuning, call: &Call, tries: u32) -> Effort<'a> {
    Effort { tuning, tries, single_wait: None, deadline: call.deadline }
}
