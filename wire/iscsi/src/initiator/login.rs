//! Login: security with CHAP, then the parameters (RFC 7143 sections 6 and 11.12).

use super::{Initiator, InitiatorError, MAX_RECV_DATA};
use crate::be;
use crate::bhs::{Bhs, opcode};
use crate::chap::{Algorithm, ChapError};
use crate::text::{Pairs, binary, number, to_hex};

/// Where a login is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Start,
    /// Names and authentication methods are out.
    Offered,
    /// CHAP: our hash functions are out.
    Asked,
    /// CHAP: our answer is out.
    Answered,
    /// The parameters are out.
    Operational,
    FullFeature,
}

/// What a target did that no login knows.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LoginError {
    #[error("the target wants authentication {0:?}, and we have no other than what was offered")]
    Method(String),
    #[error("the target answers in an order that no login has")]
    Order,
    #[error("the target's text goes on in another PDU, which nothing we ask for needs")]
    Continued,
}

impl Initiator {
    pub(super) fn start_login(&mut self, out: &mut Vec<u8>) {
        let mut pairs = Pairs::default();
        pairs.push("InitiatorName", self.login.initiator.clone());
        pairs.push("TargetName", self.login.target.clone());
        pairs.push("SessionType", "Normal");
        pairs.push("AuthMethod", if self.login.chap.is_some() { "CHAP" } else { "None" });
        // Without authentication the security stage is over with this.
        let transit = self.login.chap.is_none();
        self.stage = Stage::Offered;
        self.request(SECURITY, transit.then_some(OPERATIONAL), &pairs, out);
    }

    /// Takes a login response in. True: the full feature phase has begun.
    pub(super) fn login_response(
        &mut self,
        bhs: &Bhs,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, InitiatorError> {
        let (class, detail) = (bhs.0[36], bhs.0[37]);
        if class != 0 {
            return Err(InitiatorError::Refused { class, detail, meaning: meaning(class, detail) });
        }
        if bhs.flags() & 0x40 != 0 {
            return Err(LoginError::Continued.into());
        }
        self.exp_stat_sn = be::u32(&bhs.0, 24).wrapping_add(1);
        self.max_cmd_sn = be::u32(&bhs.0, 32);
        let pairs = Pairs::parse(data)?;
        let next = bhs.is_final().then_some(bhs.flags() & 0x03);
        match (self.stage, next) {
            (Stage::Offered | Stage::Answered, Some(OPERATIONAL)) => {
                self.stage = Stage::Operational;
                self.request(OPERATIONAL, Some(FULL_FEATURE), &parameters(), out);
                Ok(false)
            }
            (Stage::Offered, None) => {
                let method = pairs.value("AuthMethod").unwrap_or_default();
                if method != "CHAP" || self.login.chap.is_none() {
                    return Err(LoginError::Method(method.chars().take(32).collect()).into());
                }
                let mut algorithms = Pairs::default();
                algorithms.push("CHAP_A", "7,6,5");
                self.stage = Stage::Asked;
                self.request(SECURITY, None, &algorithms, out);
                Ok(false)
            }
            (Stage::Asked, None) => {
                let answer = self.answer(&pairs)?;
                self.stage = Stage::Answered;
                self.request(SECURITY, Some(OPERATIONAL), &answer, out);
                Ok(false)
            }
            (Stage::Operational, Some(FULL_FEATURE)) => {
                self.stage = Stage::FullFeature;
                Ok(true)
            }
            // A target may answer parameters in steps: it is asked to go on.
            (Stage::Operational, None) => {
                self.request(OPERATIONAL, Some(FULL_FEATURE), &Pairs::default(), out);
                Ok(false)
            }
            _ => Err(LoginError::Order.into()),
        }
    }

    /// Our proof (RFC 7143 section 12.1.3).
    fn answer(&self, challenge: &Pairs) -> Result<Pairs, ChapError> {
        let chap = self.login.chap.as_ref().ok_or(ChapError::NoAlgorithm)?;
        let algorithm = Algorithm::choose(challenge.value("CHAP_A").ok_or(ChapError::Malformed("CHAP_A"))?)?;
        let identifier = challenge.value("CHAP_I").and_then(number).and_then(|id| u8::try_from(id).ok());
        let identifier = identifier.ok_or(ChapError::Malformed("CHAP_I"))?;
        let bytes = challenge.value("CHAP_C").and_then(|text| binary(text, MAX_CHALLENGE));
        let bytes = bytes.ok_or(ChapError::Malformed("CHAP_C"))?;
        let mut answer = Pairs::default();
        answer.push("CHAP_N", chap.user.clone());
        answer.push("CHAP_R", to_hex(&algorithm.response(identifier, &chap.secret, &bytes)));
        Ok(answer)
    }

    /// A login request (RFC 7143 section 11.12). `next`: the stage to go to, else this one goes on.
    fn request(&mut self, stage: u8, next: Option<u8>, pairs: &Pairs, out: &mut Vec<u8>) {
        let flags = stage << 2 | next.map_or(0, |next| 0x80 | next);
        let text = pairs.emit();
        let [a, b, c] = self.login.isid;
        let mut bhs = Bhs::new(opcode::LOGIN_REQUEST | 0x40, flags)
            .with_itt(0)
            .with_u32(24, self.cmd_sn)
            .with_u32(28, self.exp_stat_sn);
        // ISID of the random type; TSIH 0 makes a new session.
        be::put(&mut bhs.0, 8, &[0x80, a, b, c, 0, 0, 0, 0]);
        bhs.set_data_len(text.len());
        out.extend_from_slice(&bhs.0);
        out.extend_from_slice(&text);
        out.resize(out.len() + text.len().next_multiple_of(4) - text.len(), 0);
    }
}

/// No digests: whoever reads an image knows the SHA-256 of every piece of it.
fn parameters() -> Pairs {
    let mut pairs = Pairs::default();
    for (key, value) in [
        ("HeaderDigest", "None"),
        ("DataDigest", "None"),
        ("MaxConnections", "1"),
        ("InitialR2T", "Yes"),
        ("ImmediateData", "Yes"),
        ("MaxBurstLength", "1048576"),
        ("FirstBurstLength", "65536"),
        ("DefaultTime2Wait", "0"),
        ("DefaultTime2Retain", "0"),
        ("MaxOutstandingR2T", "1"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
        ("ErrorRecoveryLevel", "0"),
    ] {
        pairs.push(key, value);
    }
    pairs.push("MaxRecvDataSegmentLength", MAX_RECV_DATA.to_string());
    pairs
}

/// RFC 7143 section 11.13.5, the ones an operator meets.
fn meaning(class: u8, detail: u8) -> &'static str {
    match (class, detail) {
        (1, _) => "the target moved, which we do not follow",
        (2, 1) => "authentication failed: the secret is wrong",
        (2, 2) => "not authorised for this target",
        (2, 3) => "no such target, or none for this initiator",
        (2, 4) => "the target was removed",
        (2, _) => "the target did not like the request",
        (3, 1) => "the target is not ready",
        (3, 2) => "the target has no room for another session",
        _ => "an error of the target",
    }
}

const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;
const MAX_CHALLENGE: usize = 1024;
