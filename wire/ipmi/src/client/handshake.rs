//! Open Session, RAKP 1 to 4, seen from the console (§13.14 to §13.23).

use zeroize::Zeroizing;

use crate::client::ClientSession;
use crate::crypto::Key20;
use crate::datagram::Datagram;
use crate::open_session::{OpenSessionRequest, OpenSessionResponse};
use crate::rakp::{Exchange, NAME_ONLY_LOOKUP, Rakp1, Rakp2, Rakp3, Rakp4};
use crate::suite::Algorithms;
use crate::v20::{self, PayloadType};
use crate::{CipherSuite, MAX_KEY, MAX_USER_NAME, ParseError, RmcpStatus, Secret};

/// Credentials that can never work, found before anything is sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// §13.20.
    #[error("user name has {seen} bytes, IPMI 2.0 allows at most {MAX_USER_NAME}")]
    UserTooLong {
        /// Bytes in the name.
        seen: usize,
    },
    /// §13.31.
    #[error("{what} has {seen} bytes, IPMI 2.0 allows at most {MAX_KEY}")]
    SecretTooLong {
        /// "password" or "Kg".
        what: &'static str,
        /// Bytes in the secret.
        seen: usize,
    },
}

/// Who wants in, and how.
#[derive(Clone)]
pub struct ClientConfig {
    suite: CipherSuite,
    user: Vec<u8>,
    kuid: Key20,
    kg: Option<Key20>,
    /// Requested maximum privilege level, 1 to 5.
    privilege: u8,
}

impl ClientConfig {
    /// Checks the lengths. `privilege` is a level of §6.8: 2 user, 3 operator, 4 administrator.
    pub fn new(
        suite: CipherSuite,
        user: &str,
        password: &Secret,
        kg: Option<&Secret>,
        privilege: u8,
    ) -> Result<Self, CredentialError> {
        if user.len() > MAX_USER_NAME {
            return Err(CredentialError::UserTooLong { seen: user.len() });
        }
        let key = |what, secret: &Secret| {
            Key20::new(secret).ok_or(CredentialError::SecretTooLong { what, seen: secret.expose().len() })
        };
        Ok(Self {
            suite,
            user: user.as_bytes().to_vec(),
            kuid: key("password", password)?,
            kg: kg.map(|kg| key("Kg", kg)).transpose()?,
            privilege: privilege & 0x0F,
        })
    }
}

/// The random part of a handshake, drawn by the caller.
#[derive(Clone, Copy)]
pub struct HandshakeNonce {
    /// Our session id; 0 is not allowed and is replaced by 1.
    pub session_id: u32,
    /// R\[M\].
    pub random: [u8; 16],
    /// First message tag; each message of the handshake takes the next.
    pub tag: u8,
}

/// What a datagram did.
#[derive(Debug)]
pub enum Step {
    /// Not for this step; keep waiting.
    Ignored(Ignored),
    /// The handshake moved on: transmit again.
    Advanced,
    /// Done.
    Established(ClientSession),
    /// The message says no. Nothing authenticates it, so the handshake has not moved: wait a little
    /// for a better answer, and if none comes, take this for the BMC's word and start over.
    Failed(HandshakeError),
}

/// Why a datagram was ignored. Anyone can send us rubbish, so none of these ends the handshake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// Not an RMCP+ message.
    #[error(transparent)]
    Malformed(#[from] ParseError),
    /// A well formed message that belongs to another step, try or session.
    #[error("message belongs to another step or session")]
    Other,
}

/// Why no session came about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The BMC said no.
    #[error("BMC refused {message}: status {status}")]
    Refused {
        /// The message it refused.
        message: &'static str,
        /// Its reason.
        status: RmcpStatus,
    },
    /// The BMC's proof in RAKP 2 does not fit our password, or the BMC refused our proof.
    #[error("the BMC's proof does not match the password we hold")]
    WrongPassword,
    /// RAKP 2 fitted, so the password is right, but RAKP 4 did not: K\[G\] differs.
    #[error("the password is right but the BMC key (Kg) is not")]
    WrongKg,
    /// The BMC chose other algorithms than those proposed.
    #[error("algorithms expected {expected:?}, seen {seen:?}")]
    OtherAlgorithms {
        /// What we proposed.
        expected: Algorithms,
        /// What the BMC says it accepted.
        seen: Algorithms,
    },
    /// The BMC gave us session id 0, which means "no session".
    #[error("BMC session id expected a non-zero id, seen 0")]
    ZeroSessionId,
}

/// One attempt to open a session with one cipher suite.
pub struct Handshake {
    config: ClientConfig,
    nonce: HandshakeNonce,
    state: State,
    /// The datagram that moves the handshake on; sent again byte for byte on a timeout, so that a
    /// BMC can recognise the copy by its tag (§13.19).
    transmit: Vec<u8>,
}

/// Each state owns only what it needs to judge the next message.
enum State {
    AwaitOpenSession,
    AwaitRakp2 { bmc_session_id: u32, role: u8 },
    AwaitRakp4 { exchange: Box<Exchange>, sik: Zeroizing<Vec<u8>> },
    Done,
}

impl Handshake {
    /// Builds the Open Session request.
    #[must_use]
    pub fn start(config: ClientConfig, nonce: HandshakeNonce) -> Self {
        let nonce = HandshakeNonce { session_id: nonce.session_id.max(1), ..nonce };
        let request = OpenSessionRequest {
            tag: nonce.tag,
            max_privilege: config.privilege,
            console_session_id: nonce.session_id,
            algorithms: config.suite.algorithms(),
        };
        let transmit = v20::wrap_outside_session(PayloadType::OpenSessionRequest, &request.to_bytes());
        Self { config, nonce, state: State::AwaitOpenSession, transmit }
    }

    /// What to send now, and again after a timeout.
    #[must_use]
    pub fn poll_transmit(&self) -> &[u8] {
        &self.transmit
    }

    /// The message being waited for, for error texts.
    #[must_use]
    pub fn waiting_for(&self) -> &'static str {
        match self.state {
            State::AwaitOpenSession => "Open Session response",
            State::AwaitRakp2 { .. } => "RAKP message 2",
            State::AwaitRakp4 { .. } => "RAKP message 4",
            State::Done => "nothing",
        }
    }

    /// Whether the BMC has answered anything in this handshake.
    #[must_use]
    pub fn heard(&self) -> bool {
        !matches!(self.state, State::AwaitOpenSession)
    }

    /// RAKP message 3 with a status other than "no errors" (§13.22), for a handshake that ends after Open Session: the BMC keeps
    /// one of its few slots for it until its own time-out otherwise. `None`: it has not come so far, or is over.
    #[must_use]
    pub fn give_up(&self) -> Option<Vec<u8>> {
        let bmc_session_id = match &self.state {
            State::AwaitRakp2 { bmc_session_id, .. } => *bmc_session_id,
            State::AwaitRakp4 { exchange, .. } => exchange.bmc_session_id,
            State::AwaitOpenSession | State::Done => return None,
        };
        let status = RmcpStatus::INVALID_INTEGRITY_CHECK;
        let rakp3 = Rakp3 { tag: self.nonce.tag.wrapping_add(2), status, bmc_session_id, code: Vec::new() };
        Some(v20::wrap_outside_session(PayloadType::Rakp3, &rakp3.to_bytes()))
    }

    /// The session as the BMC has it if RAKP 3 arrived and RAKP 4 was lost: to be closed, and for nothing else.
    #[must_use]
    pub fn unproven(&self) -> Option<ClientSession> {
        let State::AwaitRakp4 { exchange, sik } = &self.state else { return None };
        let keys = exchange.session_keys(sik);
        Some(ClientSession::new(keys, exchange.console_session_id, exchange.bmc_session_id))
    }

    /// Takes a datagram from the BMC.
    ///
    /// **Invariant:** only a message that moves the handshake on changes it. A forged or mangled one
    /// can at most be ignored or yield a [`Step::Failed`] that the true message then overrules.
    pub fn handle_datagram(&mut self, datagram: &[u8]) -> Step {
        let packet = match Datagram::parse(datagram) {
            Ok(Datagram::V20(packet)) if packet.session_id == 0 => packet,
            Ok(_) => return Step::Ignored(Ignored::Other),
            Err(error) => return Step::Ignored(error.into()),
        };
        let step = match (packet.payload_type, &self.state) {
            (PayloadType::OpenSessionResponse, State::AwaitOpenSession) => {
                OpenSessionResponse::parse(packet.payload).map(|message| self.open_session(&message))
            }
            (PayloadType::Rakp2, State::AwaitRakp2 { bmc_session_id, role }) => {
                let (bmc_session_id, role) = (*bmc_session_id, *role);
                Rakp2::parse(packet.payload).map(|message| self.rakp2(message, bmc_session_id, role))
            }
            (PayloadType::Rakp4, State::AwaitRakp4 { .. }) => {
                Rakp4::parse(packet.payload).map(|message| self.rakp4(&message))
            }
            _ => return Step::Ignored(Ignored::Other),
        };
        step.unwrap_or_else(|error| Step::Ignored(error.into()))
    }

    /// A refusal may come without our session id (see [`OpenSessionResponse::parse`]), so the tag
    /// decides alone there.
    fn is_ours(&self, offset: u8, tag: u8, session_id: u32, status: RmcpStatus) -> bool {
        tag == self.nonce.tag.wrapping_add(offset)
            && (session_id == self.nonce.session_id || (status != RmcpStatus::NO_ERRORS && session_id == 0))
    }

    fn open_session(&mut self, message: &OpenSessionResponse) -> Step {
        if !self.is_ours(0, message.tag, message.console_session_id, message.status) {
            return Step::Ignored(Ignored::Other);
        }
        let Some(accepted) = message.accepted else {
            return Step::Failed(HandshakeError::Refused { message: "Open Session", status: message.status });
        };
        let expected = self.config.suite.algorithms();
        if accepted.algorithms != expected {
            return Step::Failed(HandshakeError::OtherAlgorithms { expected, seen: accepted.algorithms });
        }
        if accepted.bmc_session_id == 0 {
            return Step::Failed(HandshakeError::ZeroSessionId);
        }
        let role = NAME_ONLY_LOOKUP | self.config.privilege;
        let rakp1 = Rakp1 {
            tag: self.nonce.tag.wrapping_add(1),
            bmc_session_id: accepted.bmc_session_id,
            console_random: self.nonce.random,
            role,
            user: self.config.user.clone(),
        };
        self.transmit = v20::wrap_outside_session(PayloadType::Rakp1, &rakp1.to_bytes());
        self.state = State::AwaitRakp2 { bmc_session_id: accepted.bmc_session_id, role };
        Step::Advanced
    }

    fn rakp2(&mut self, message: Rakp2, bmc_session_id: u32, role: u8) -> Step {
        if !self.is_ours(1, message.tag, message.console_session_id, message.status) {
            return Step::Ignored(Ignored::Other);
        }
        let Some(proof) = message.proof else {
            return Step::Failed(match message.status {
                // A user the BMC does not know: for the operator the same fix as a wrong password.
                RmcpStatus::UNAUTHORIZED_NAME => HandshakeError::WrongPassword,
                status => HandshakeError::Refused { message: "RAKP message 1", status },
            });
        };
        let exchange = Exchange {
            suite: self.config.suite,
            console_session_id: self.nonce.session_id,
            bmc_session_id,
            console_random: self.nonce.random,
            bmc_random: proof.bmc_random,
            guid: proof.guid,
            role,
            user: self.config.user.clone(),
        };
        if !exchange.verify_rakp2(&self.config.kuid, &proof.code) {
            return Step::Failed(HandshakeError::WrongPassword);
        }
        let rakp3 = Rakp3 {
            tag: self.nonce.tag.wrapping_add(2),
            status: RmcpStatus::NO_ERRORS,
            bmc_session_id,
            code: exchange.rakp3_code(&self.config.kuid).to_vec(),
        };
        let sik = exchange.sik(self.config.kg.as_ref().unwrap_or(&self.config.kuid));
        self.transmit = v20::wrap_outside_session(PayloadType::Rakp3, &rakp3.to_bytes());
        self.state = State::AwaitRakp4 { exchange: Box::new(exchange), sik };
        Step::Advanced
    }

    fn rakp4(&mut self, message: &Rakp4) -> Step {
        if !self.is_ours(2, message.tag, message.console_session_id, message.status) {
            return Step::Ignored(Ignored::Other);
        }
        if message.status != RmcpStatus::NO_ERRORS {
            return Step::Failed(HandshakeError::Refused {
                message: "RAKP message 3",
                status: message.status,
            });
        }
        let State::AwaitRakp4 { exchange, sik } = &self.state else {
            return Step::Ignored(Ignored::Other);
        };
        if !exchange.verify_rakp4(sik, &message.check) {
            return Step::Failed(HandshakeError::WrongKg);
        }
        let session = ClientSession::new(
            exchange.session_keys(sik),
            exchange.console_session_id,
            exchange.bmc_session_id,
        );
        self.transmit = Vec::new();
        self.state = State::Done;
        Step::Established(session)
    }
}
