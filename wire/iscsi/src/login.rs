//! The login phase (RFC 7143 section 6.3): security, operational parameters, then full feature phase.

use std::sync::Arc;

use crate::be;
use crate::bhs::{Bhs, opcode};
use crate::chap::{Algorithm, Challenge, Chap, ChapError};
use crate::host::{Denied, Grant, Host, LoginRefused, SessionKind, SessionStart};
use crate::link::Link;
use crate::params::{Offer, Params, negotiate};
use crate::text::{MAX_TEXT, Pairs};

/// A login under way.
#[derive(Debug, Default)]
pub(crate) struct Login {
    requests: u32,
    /// ISID, CID and ITT of the first request: they stay.
    bound: Option<([u8; 6], u16, u32)>,
    stage: u8,
    partial: Vec<u8>,
    initiator: Option<String>,
    target_name: Option<String>,
    kind: Option<SessionKind>,
    /// Secrets of which one is to be proved.
    accounts: Vec<Chap>,
    /// Proving nothing is allowed as well.
    anonymous: bool,
    proved: Option<Chap>,
    chap: ChapStep,
    params: Params,
    declared: bool,
    greeted: bool,
}

#[derive(Debug, Default)]
enum ChapStep {
    #[default]
    Method,
    Algorithm,
    Response(Challenge),
    Done,
}

/// A login that is through.
pub(crate) struct Established {
    pub(crate) start: SessionStart,
    pub(crate) grant: Grant,
    pub(crate) params: Params,
    /// The connection's number, which the initiator gave.
    pub(crate) cid: u16,
}

/// Why a login is refused: status class and detail, and a reason for the log.
struct Refusal(u16, String);

impl Login {
    /// Takes one request in and answers it. `Ok(None)`: go on. `Err`: refused, close after sending.
    pub(crate) fn request<H: Host>(
        &mut self,
        bhs: &Bhs,
        data: &[u8],
        offer: &Offer,
        link: &mut Link,
        host: &mut H,
    ) -> Result<Option<Established>, LoginRefused> {
        match self.judge(bhs, data, offer, host) {
            Ok(Reply::More(pairs, flags)) => {
                self.answer(bhs, flags, 0, 0, &pairs.emit(), link);
                Ok(None)
            }
            Ok(Reply::Through(pairs, flags, established)) => {
                self.answer(bhs, flags, established.grant.tsih, 0, &pairs.emit(), link);
                Ok(Some(*established))
            }
            Err(Refusal(status, reason)) => {
                self.answer(bhs, 0, 0, status, &[], link);
                let refused = LoginRefused {
                    initiator: self.initiator.clone(),
                    target: self.target_name.clone(),
                    status,
                    suspicious: status == AUTHENTICATION_FAILED,
                    reason,
                };
                host.login_refused(&refused);
                Err(refused)
            }
        }
    }

    fn answer(&self, bhs: &Bhs, flags: u8, tsih: u16, status: u16, text: &[u8], link: &mut Link) {
        let isid: [u8; 6] = be::array(&bhs.0, 8);
        let mut answer = Bhs::new(opcode::LOGIN_RESPONSE, flags);
        be::put(&mut answer.0, 8, &isid);
        let answer = answer.with_u16(14, tsih).with_itt(bhs.itt()).with_u16(36, status);
        link.send(answer, text);
    }

    fn judge<H: Host>(
        &mut self,
        bhs: &Bhs,
        data: &[u8],
        offer: &Offer,
        host: &mut H,
    ) -> Result<Reply, Refusal> {
        self.requests += 1;
        if self.requests > MAX_REQUESTS {
            return Err(Refusal(INITIATOR_ERROR, format!("more than {MAX_REQUESTS} login requests")));
        }
        let (transit, more) = (bhs.flags() & 0x80 != 0, bhs.flags() & 0x40 != 0);
        let (current, next) = (bhs.flags() >> 2 & 3, bhs.flags() & 3);
        if be::u8(&bhs.0, 3) > 0 {
            return Err(Refusal(UNSUPPORTED_VERSION, format!("version {} at least", be::u8(&bhs.0, 3))));
        }
        // A session handle asks for a further connection, or for one to be taken over: neither is offered.
        if be::u16(&bhs.0, 14) != 0 {
            return Err(Refusal(NO_SESSION, "one connection a session".into()));
        }
        let bound = (be::array(&bhs.0, 8), be::u16(&bhs.0, 20), bhs.itt());
        if *self.bound.get_or_insert(bound) != bound {
            return Err(Refusal(INITIATOR_ERROR, "ISID, CID or task tag changed during login".into()));
        }
        if more && transit {
            return Err(Refusal(INITIATOR_ERROR, "text goes on and the stage ends".into()));
        }
        if self.partial.len() + data.len() > MAX_TEXT {
            return Err(Refusal(INITIATOR_ERROR, format!("more than {MAX_TEXT} bytes of text")));
        }
        self.partial.extend_from_slice(data);
        if more {
            return Ok(Reply::More(Pairs::default(), current << 2));
        }
        let text = std::mem::take(&mut self.partial);
        let pairs = Pairs::parse(&text).map_err(|error| Refusal(INITIATOR_ERROR, error.to_string()))?;
        if current < self.stage || current > OPERATIONAL || (transit && (next <= current || next == 2)) {
            return Err(Refusal(INITIATOR_ERROR, format!("stage {current} to {next} after {}", self.stage)));
        }
        let mut answer = Pairs::default();
        self.greet(&pairs, &mut answer, host)?;
        if current == SECURITY {
            self.security(&pairs, &mut answer, host)?;
        } else if !self.is_proved() && !self.goes_on_anonymously() {
            return Err(Refusal(
                AUTHENTICATION_FAILED,
                "no authentication, and the target asks for CHAP".into(),
            ));
        }
        self.stage = current;
        negotiate(&pairs, offer, &mut self.params, &mut answer)
            .map_err(|error| Refusal(INITIATOR_ERROR, error.to_string()))?;
        if current == OPERATIONAL && !self.declared {
            self.declared = true;
            answer.push("MaxRecvDataSegmentLength", offer.max_recv_data.to_string());
        }
        if !transit || !self.is_proved() {
            return Ok(Reply::More(answer, current << 2));
        }
        self.stage = next;
        let flags = 0x80 | current << 2 | next;
        if next != FULL_FEATURE {
            return Ok(Reply::More(answer, flags));
        }
        let established = self.establish(bound.0, bound.1, host)?;
        Ok(Reply::Through(answer, flags, Box::new(established)))
    }

    /// Who, and to whom: the first request says it (RFC 7143 section 6.3.1 and 13.4).
    fn greet<H: Host>(&mut self, pairs: &Pairs, answer: &mut Pairs, host: &mut H) -> Result<(), Refusal> {
        if self.greeted {
            return Ok(());
        }
        let name = pairs.value("InitiatorName").filter(|name| is_iscsi_name(name));
        let name = name.ok_or_else(|| Refusal(MISSING_PARAMETER, "no InitiatorName".into()))?;
        self.initiator = Some(name.to_owned());
        match pairs.value("SessionType").unwrap_or("Normal") {
            "Discovery" => {
                self.kind = Some(SessionKind::Discovery);
                let access = host.discovery_access(name);
                self.accounts = access.accounts;
                self.anonymous = access.anonymous;
            }
            "Normal" => {
                let target = pairs.value("TargetName");
                let target = target.ok_or_else(|| Refusal(MISSING_PARAMETER, "no TargetName".into()))?;
                self.target_name = Some(target.chars().take(MAX_NAME).collect());
                let admission = host.admit(name, target).map_err(|denied| match denied {
                    Denied::NotFound => Refusal(NOT_FOUND, "no such target for this initiator".into()),
                    Denied::Unavailable => Refusal(UNAVAILABLE, "the target is not ready".into()),
                })?;
                if !admission.target.alias.is_empty() {
                    answer.push("TargetAlias", admission.target.alias.clone());
                }
                answer.push("TargetPortalGroupTag", "1");
                self.kind = Some(SessionKind::Normal(Arc::clone(&admission.target)));
                self.accounts = admission.accounts;
            }
            other => return Err(Refusal(NO_SUCH_SESSION_TYPE, format!("session type {other:.32}"))),
        }
        self.greeted = true;
        Ok(())
    }

    fn security<H: Host>(&mut self, pairs: &Pairs, answer: &mut Pairs, host: &mut H) -> Result<(), Refusal> {
        let denied = |error: ChapError| Refusal(AUTHENTICATION_FAILED, error.to_string());
        if self.accounts.is_empty() {
            return match pairs.value("AuthMethod") {
                None => Ok(()),
                Some(offered) if offered.split(',').any(|method| method == "None") => {
                    answer.push("AuthMethod", "None");
                    Ok(())
                }
                Some(offered) => Err(Refusal(
                    AUTHENTICATION_FAILED,
                    format!("the initiator insists on one of {offered:.64}, and the target has no secret"),
                )),
            };
        }
        match &self.chap {
            ChapStep::Method => {
                let offered = pairs.value("AuthMethod").unwrap_or("None");
                if !offered.split(',').any(|method| method == "CHAP") {
                    if self.goes_on_anonymously() {
                        return self.security(pairs, answer, host);
                    }
                    return Err(Refusal(AUTHENTICATION_FAILED, "the initiator does not offer CHAP".into()));
                }
                answer.push("AuthMethod", "CHAP");
                self.chap = ChapStep::Algorithm;
                Ok(())
            }
            ChapStep::Algorithm => {
                // A repeated or empty request before it: still waiting (RFC 7143 section 12.1.3).
                let list = pairs.value("CHAP_A").ok_or_else(|| denied(ChapError::Malformed("CHAP_A")))?;
                let algorithm = Algorithm::choose(list).map_err(denied)?;
                let mut random = [0; 1 + CHALLENGE];
                host.random(&mut random);
                let challenge = Challenge::new(algorithm, &random);
                challenge.push(answer);
                self.chap = ChapStep::Response(challenge);
                Ok(())
            }
            ChapStep::Response(challenge) => {
                self.proved = Some(prove(challenge, &self.accounts, pairs, answer).map_err(denied)?);
                self.chap = ChapStep::Done;
                Ok(())
            }
            ChapStep::Done => Ok(()),
        }
    }

    fn is_proved(&self) -> bool {
        self.accounts.is_empty() || matches!(self.chap, ChapStep::Done)
    }

    /// Nothing was proved, and nothing has to be. A proof that was begun is not left again.
    fn goes_on_anonymously(&mut self) -> bool {
        let may = self.anonymous && matches!(self.chap, ChapStep::Method);
        if may {
            self.accounts.clear();
        }
        may
    }

    fn establish<H: Host>(&mut self, isid: [u8; 6], cid: u16, host: &mut H) -> Result<Established, Refusal> {
        let (Some(initiator), Some(kind)) = (self.initiator.clone(), self.kind.clone()) else {
            return Err(Refusal(MISSING_PARAMETER, "no InitiatorName".into()));
        };
        let start = SessionStart { initiator, isid, kind, proved: self.proved.clone() };
        let grant =
            host.session(&start).map_err(|_| Refusal(OUT_OF_RESOURCES, "too many sessions".into()))?;
        Ok(Established { start, grant, params: self.params.clone(), cid })
    }
}

/// The account that the answer to a challenge is of. Whose it is not changes nothing.
fn prove(
    challenge: &Challenge,
    accounts: &[Chap],
    request: &Pairs,
    answer: &mut Pairs,
) -> Result<Chap, ChapError> {
    for account in accounts {
        match challenge.judge(account, request, answer) {
            Ok(()) => return Ok(account.clone()),
            Err(ChapError::Wrong) => {}
            Err(error) => return Err(error),
        }
    }
    Err(ChapError::Wrong)
}

enum Reply {
    More(Pairs, u8),
    Through(Pairs, u8, Box<Established>),
}

/// A name of RFC 7143 section 4.2.7: characters that a log and a file name can bear.
pub fn is_iscsi_name(name: &str) -> bool {
    let prefixed = ["iqn.", "eui.", "naa."].iter().any(|prefix| name.starts_with(prefix));
    prefixed && name.len() <= MAX_NAME && name.chars().all(|c| c.is_alphanumeric() || "-.:_".contains(c))
}

const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;

/// Status class and detail (RFC 7143 section 11.13.5).
const INITIATOR_ERROR: u16 = 0x0200;
const AUTHENTICATION_FAILED: u16 = 0x0201;
const NOT_FOUND: u16 = 0x0203;
const UNSUPPORTED_VERSION: u16 = 0x0205;
const MISSING_PARAMETER: u16 = 0x0207;
const NO_SUCH_SESSION_TYPE: u16 = 0x0209;
const NO_SESSION: u16 = 0x020a;
const UNAVAILABLE: u16 = 0x0301;
const OUT_OF_RESOURCES: u16 = 0x0302;

/// RFC 7143 section 4.2.7.1.
const MAX_NAME: usize = 223;
/// Bytes of a CHAP challenge.
const CHALLENGE: usize = 24;
/// Login requests of one login: the longest honest ones take six.
const MAX_REQUESTS: u32 = 24;
