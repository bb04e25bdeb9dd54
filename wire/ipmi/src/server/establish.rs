//! Session set-up, seen from the BMC (§13.14 to §13.23).

use std::time::Instant;

use super::sessions::{Active, Challenged, Opened, Session};
use super::{Entropy, Outcome, Server, User};
use crate::crypto::Key20;
use crate::open_session::{Accepted, OpenSessionRequest, OpenSessionResponse};
use crate::rakp::{Exchange, Rakp1, Rakp2, Rakp2Proof, Rakp3, Rakp4};
use crate::v20::{self, Packet, PayloadType};
use crate::window::Window;
use crate::{ParseError, RmcpStatus};

/// Administrator, the highest level a LAN session takes (§6.8).
const ADMINISTRATOR: u8 = 4;
/// Every session starts here (§13.14: "initially at user level", callback excepted).
const USER: u8 = 2;

impl Server {
    pub(super) fn outside_session(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        entropy: &mut dyn Entropy,
    ) -> Outcome {
        let answer = match packet.payload_type {
            PayloadType::OpenSessionRequest => OpenSessionRequest::parse(packet.payload)
                .map(|request| Some(self.open_session(now, request, entropy))),
            PayloadType::Rakp1 => self.rakp1(packet.payload, entropy),
            PayloadType::Rakp3 => self.rakp3(now, packet.payload),
            _ => return Outcome::Ignored("not a message for a BMC outside a session"),
        };
        match answer {
            Ok(Some(datagram)) => Outcome::Reply(datagram),
            Ok(None) => Outcome::Ignored("console gave the handshake up"),
            Err(_) => Outcome::Ignored("malformed session set-up message"),
        }
    }

    fn open_session(
        &mut self,
        now: Instant,
        request: OpenSessionRequest,
        entropy: &mut dyn Entropy,
    ) -> Vec<u8> {
        let (status, accepted) = match self.accept(now, request, entropy) {
            Ok(accepted) => (RmcpStatus::NO_ERRORS, Some(accepted)),
            Err(status) => (status, None),
        };
        let response = OpenSessionResponse {
            tag: request.tag,
            status,
            console_session_id: request.console_session_id,
            accepted,
        };
        v20::wrap_outside_session(PayloadType::OpenSessionResponse, &response.to_bytes())
    }

    fn accept(
        &mut self,
        now: Instant,
        request: OpenSessionRequest,
        entropy: &mut dyn Entropy,
    ) -> Result<Accepted, RmcpStatus> {
        let suite = request
            .suite()
            .filter(|suite| self.config.suites.contains(suite))
            .ok_or(RmcpStatus::NO_CIPHER_SUITE_MATCH)?;
        let max_privilege = match request.max_privilege {
            0 => ADMINISTRATOR,
            level @ 1..=ADMINISTRATOR => level,
            _ => return Err(RmcpStatus::UNAUTHORIZED_ROLE),
        };
        // A retransmitted request must not take a second slot.
        let id = match self.sessions.opened_by(request.console_session_id) {
            Some(id) => id,
            None if self.sessions.len() >= self.config.max_sessions => {
                return Err(RmcpStatus::INSUFFICIENT_RESOURCES);
            }
            None => self.fresh_id(entropy),
        };
        let opened = Opened {
            suite,
            console_session_id: request.console_session_id,
            requested_privilege: request.max_privilege,
            created: now,
            challenged: None,
        };
        self.sessions.insert(id, Session::Opened(Box::new(opened)));
        Ok(Accepted { max_privilege, bmc_session_id: id, algorithms: suite.algorithms() })
    }

    fn fresh_id(&self, entropy: &mut dyn Entropy) -> u32 {
        let mut bytes = [0; 4];
        entropy.fill(&mut bytes);
        let mut id = u32::from_le_bytes(bytes);
        while id == 0 || self.sessions.exists(id) {
            id = id.wrapping_add(1);
        }
        id
    }

    fn rakp1(&mut self, payload: &[u8], entropy: &mut dyn Entropy) -> Result<Option<Vec<u8>>, ParseError> {
        let message = Rakp1::parse(payload)?;
        let (console_session_id, answer) = self.challenge(&message, payload, entropy);
        let refusal = |status| Rakp2 { tag: message.tag, status, console_session_id, proof: None };
        Ok(Some(match answer {
            Ok(datagram) => datagram,
            Err(status) => v20::wrap_outside_session(PayloadType::Rakp2, &refusal(status).to_bytes()),
        }))
    }

    /// The console's session id, and RAKP 2 or why not.
    fn challenge(
        &mut self,
        message: &Rakp1,
        payload: &[u8],
        entropy: &mut dyn Entropy,
    ) -> (u32, Result<Vec<u8>, RmcpStatus>) {
        let Some(Session::Opened(opened)) = self.sessions.get_mut(message.bmc_session_id) else {
            return (0, Err(RmcpStatus::INVALID_SESSION_ID));
        };
        let console_session_id = opened.console_session_id;
        if let Some(challenged) = &opened.challenged
            && challenged.rakp1 == payload
        {
            return (console_session_id, Ok(challenged.rakp2.clone()));
        }
        let user = self.config.users.iter().find(|user| user.name.as_bytes() == message.user);
        let Some(user) = user else {
            return (console_session_id, Err(RmcpStatus::UNAUTHORIZED_NAME));
        };
        let Some(max_privilege) = grant(user, opened.requested_privilege, message.role & 0x0F) else {
            return (console_session_id, Err(RmcpStatus::UNAUTHORIZED_ROLE));
        };
        let kg = self.config.kg.as_ref().unwrap_or(&user.password);
        let (Some(kuid), Some(kg)) = (Key20::new(&user.password), Key20::new(kg)) else {
            return (console_session_id, Err(RmcpStatus::ILLEGAL_PARAMETER));
        };
        let mut bmc_random = [0; 16];
        entropy.fill(&mut bmc_random);
        let exchange = Exchange {
            suite: opened.suite,
            console_session_id,
            bmc_session_id: message.bmc_session_id,
            console_random: message.console_random,
            bmc_random,
            guid: self.config.guid,
            role: message.role,
            user: message.user.clone(),
        };
        let code = exchange.rakp2_code(&kuid).to_vec();
        let proof = Some(Rakp2Proof { bmc_random, guid: self.config.guid, code });
        let rakp2 = Rakp2 { tag: message.tag, status: RmcpStatus::NO_ERRORS, console_session_id, proof };
        let datagram = v20::wrap_outside_session(PayloadType::Rakp2, &rakp2.to_bytes());
        opened.challenged = Some(Challenged {
            sik: exchange.sik(&kg),
            exchange,
            kuid,
            max_privilege,
            rakp1: payload.to_vec(),
            rakp2: datagram.clone(),
        });
        (console_session_id, Ok(datagram))
    }

    fn rakp3(&mut self, now: Instant, payload: &[u8]) -> Result<Option<Vec<u8>>, ParseError> {
        let message = Rakp3::parse(payload)?;
        let refuse = |console_session_id, status| {
            let refusal = Rakp4 { tag: message.tag, status, console_session_id, check: Vec::new() };
            Ok(Some(v20::wrap_outside_session(PayloadType::Rakp4, &refusal.to_bytes())))
        };
        let opened = match self.sessions.get_mut(message.bmc_session_id) {
            Some(Session::Active(active)) if active.rakp3 == payload => {
                return Ok(Some(active.rakp4.clone()));
            }
            Some(Session::Opened(opened)) => opened,
            _ => return refuse(0, RmcpStatus::INVALID_SESSION_ID),
        };
        if message.status != RmcpStatus::NO_ERRORS {
            // §13.22: the console did not like RAKP 2, or never saw it; the handshake ends without an answer.
            self.sessions.remove(message.bmc_session_id);
            return Ok(None);
        }
        let console_session_id = opened.console_session_id;
        let Some(challenged) = &opened.challenged else {
            return refuse(console_session_id, RmcpStatus::INVALID_SESSION_ID);
        };
        if !challenged.exchange.verify_rakp3(&challenged.kuid, &message.code) {
            // The handshake stays: a forger must not be able to end it. Its time-out ends it.
            return refuse(console_session_id, RmcpStatus::INVALID_INTEGRITY_CHECK);
        }
        let check = challenged.exchange.rakp4_check(&challenged.sik);
        let rakp4 = Rakp4 { tag: message.tag, status: RmcpStatus::NO_ERRORS, console_session_id, check };
        let datagram = v20::wrap_outside_session(PayloadType::Rakp4, &rakp4.to_bytes());
        let active = Active {
            keys: challenged.exchange.session_keys(&challenged.sik),
            console_session_id,
            privilege: challenged.max_privilege.min(USER),
            max_privilege: challenged.max_privilege,
            sequence: 0,
            window: Window::default(),
            last_used: now,
            rakp3: payload.to_vec(),
            rakp4: datagram.clone(),
        };
        self.sessions.insert(message.bmc_session_id, Session::Active(Box::new(active)));
        Ok(Some(datagram))
    }
}

/// The session's maximum level: what both messages ask for, if the account may have it.
fn grant(user: &User, open_session: u8, rakp1: u8) -> Option<u8> {
    let asked = match (open_session, rakp1) {
        (0, 0) => user.max_privilege,
        (0, level) | (level, 0) => level,
        (a, b) => a.min(b),
    };
    (asked <= user.max_privilege && asked > 0).then_some(asked)
}
