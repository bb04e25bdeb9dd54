//! What a failure means for whoever has it: whether to try again, what it proves, whether the BMC is spared for a while.

use std::net::SocketAddr;
use std::time::Duration;

use farrier_ipmi::completion::{INSUFFICIENT_PRIVILEGE, NOT_IN_PRESENT_STATE, PROCESSING_TIMEOUT};

use crate::{BmcError, NotDone, PowerState};

impl BmcError {
    /// An answer that is not what was expected; of what came only so much as fits a line.
    pub(crate) fn bad_answer(addr: SocketAddr, request: String, expected: &'static str, seen: &str) -> Self {
        let seen = seen.chars().filter(|c| !c.is_control()).take(200).collect();
        Self::BadAnswer { addr, request, expected, seen }
    }

    /// Whether trying the same call later may help without anybody doing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Garbled { .. }
            | Self::NoSessionSlot { .. }
            | Self::StillQueued { .. }
            | Self::NoTurn { .. }
            | Self::OutOfFiles { .. }
            | Self::Late { .. }
            | Self::BetweenStates { .. }
            | Self::Restarting { .. }
            | Self::AtWork { .. }
            | Self::NoConnection { .. }
            | Self::LineEnded { .. }
            | Self::NoAnswer { .. } => true,
            // 408 and 429 ask for patience; a BMC that restarts or is busy answers 5xx.
            Self::Http { status, .. } => matches!(status, 408 | 429 | 500 | 502..=504),
            Self::NoDriver { redfish, ipmi } => redfish.is_transient() || ipmi.is_transient(),
            Self::CircuitOpen { reason, .. } | Self::NotDone(NotDone::NotFound { reason }) => {
                reason.is_transient()
            }
            Self::NotDone(NotDone::StandIn { .. }) => true,
            Self::Refused { code, .. } => code.is_transient(),
            _ => false,
        }
    }

    /// Whether the BMC is there and lets us in, and has not got what was asked for or will not do it: what it was asked for did
    /// not happen, and asking again comes to the same.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        let refuses = match self {
            Self::Unsupported { .. } | Self::NotOffered { .. } | Self::Licence { .. } => true,
            // A right that is missing, or a state that passes (RFC 9110 §15.5.10; IPMI 2.0 table 5-2, D4h and D5h).
            Self::Http { status, .. } => !matches!(status, 401 | 403 | 409),
            Self::Refused { code, .. } => !matches!(code.0, INSUFFICIENT_PRIVILEGE | NOT_IN_PRESENT_STATE),
            _ => false,
        };
        refuses && !self.is_transient()
    }

    /// Whether the failure is of this program's making: it says nothing of the BMC.
    #[must_use]
    pub fn is_our_own(&self) -> bool {
        matches!(
            self,
            Self::StillQueued { .. } | Self::NoTurn { .. } | Self::OutOfFiles { .. } | Self::ShuttingDown
        )
    }

    /// Whether the BMC does not take the password, or did not when it was last asked.
    #[must_use]
    pub fn is_wrong_password(&self) -> bool {
        match self {
            Self::CircuitOpen { reason, .. } | Self::NotDone(NotDone::NotFound { reason }) => {
                reason.is_wrong_password()
            }
            Self::WrongPassword { .. } => true,
            _ => false,
        }
    }

    /// Whether the BMC has no way at all to change the account's password: another try would come to the same.
    #[must_use]
    pub fn changes_no_password(&self) -> bool {
        match self {
            Self::Unsupported { .. } => true,
            Self::NotApplied { what, .. } => *what == crate::accounts::NO_ACCOUNT,
            _ => false,
        }
    }

    /// Whether a change that failed so was surely not sent, or not begun: what did not reach the BMC has changed nothing. A
    /// refusal in words is not among these, since it may answer the repetition of a request that was obeyed.
    #[must_use]
    pub fn was_not_begun(&self) -> bool {
        match self {
            Self::Unsupported { .. }
            | Self::NotDone(_)
            | Self::StillQueued { .. }
            | Self::NoTurn { .. }
            | Self::OutOfFiles { .. }
            | Self::UnreadFile { .. }
            | Self::CircuitOpen { .. }
            | Self::Certificate { .. }
            | Self::HostKey { .. }
            | Self::NoProgram { .. }
            | Self::NoAccountSlot { .. }
            | Self::NoSystem { .. }
            | Self::NoRedfish { .. }
            | Self::OtherVendor { .. }
            | Self::BadCredentials { .. } => true,
            Self::NotApplied { what, .. } => *what == crate::accounts::NO_ACCOUNT,
            _ => false,
        }
    }

    /// Whether an event that was asked for may have happened all the same: no answer came, or none in time, or one that a BMC gives
    /// also when it has begun.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::AnswerLost { .. } | Self::Late { .. } => true,
            Self::Http { status, .. } => matches!(status, 408 | 500 | 502 | 504),
            Self::Refused { code, .. } => code.0 == PROCESSING_TIMEOUT,
            _ => false,
        }
    }

    /// Whether nothing was asked, or not long enough to say anything of the BMC: what is known of it stays as it is.
    pub(crate) fn proves_nothing(&self) -> bool {
        let is_silence = matches!(
            self,
            Self::Unreachable { .. }
                | Self::NoAnswer { .. }
                | Self::Late { .. }
                | Self::AnswerLost { power_now: None, .. }
                | Self::UnreadFile { .. }
                | Self::BadCredentials { .. }
                | Self::NoSocket { .. }
        );
        self.is_our_own() || (is_silence && !self.trips_breaker())
    }

    /// Whether the failure should make the circuit breaker count: the BMC is away, or a further
    /// wrong password may lock its account.
    pub(crate) fn trips_breaker(&self) -> bool {
        match self {
            // A caller in a hurry, who gives up after a datagram or two, proves nothing.
            Self::Unreachable { tried, .. } => *tried >= 3,
            Self::NoAnswer { elapsed, .. } => *elapsed >= Duration::from_secs(2),
            Self::NoSession { .. }
            | Self::Garbled { .. }
            | Self::NoConnection { .. }
            | Self::WrongPassword { .. }
            | Self::WrongKg { .. } => true,
            _ => false,
        }
    }
}

/// Where a machine is that was to be switched off and on, and what to do.
pub(crate) fn half_restarted(now: Option<PowerState>) -> &'static str {
    match now {
        Some(PowerState::Off) => "the machine is off now: `farrier node power on NODE` switches it on",
        Some(PowerState::On) | None => {
            "the machine may be on or off now: look at it, then `farrier node power on NODE`"
        }
    }
}

pub(crate) fn perhaps(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!(", perhaps {}", near.join(" or ")) }
}

pub(crate) fn advice(status: u16) -> &'static str {
    match status {
        401 => "the BMC ended the session it had just opened: correct the node's BMC credentials",
        403 => "give the BMC's account the role Administrator or Operator",
        404 | 405 | 501 => {
            "the BMC lacks this resource or action: update its firmware, or use another driver"
        }
        408 | 429 | 500 | 502..=504 => "the BMC is busy or in trouble: try again later, or restart it",
        _ => "look into the BMC's own log",
    }
}

#[cfg(test)]
mod tests {
    use farrier_ipmi::completion::CompletionCode;

    use super::*;

    #[test]
    fn what_was_perhaps_done_is_told_from_what_was_surely_not() {
        let addr = SocketAddr::from(([192, 0, 2, 1], 623));
        let http =
            |status| BmcError::Http { addr, request: "POST /r".to_owned(), status, detail: String::new() };
        let refused = |code| BmcError::Refused {
            addr,
            command: "Chassis Control",
            code: CompletionCode(code),
            meaning: "",
        };
        let elapsed = Duration::from_secs(30);
        for (error, may_have_happened) in [
            (BmcError::AnswerLost { addr, command: "Chassis Control", power_now: None }, true),
            // Its turn had come, and no more is known.
            (BmcError::Late { addr, elapsed }, true),
            (http(408), true),
            (http(500), true),
            (http(502), true),
            (http(504), true),
            (refused(PROCESSING_TIMEOUT), true),
            // Never sent.
            (BmcError::StillQueued { addr }, false),
            (BmcError::NoTurn { addr }, false),
            (BmcError::Unreachable { addr, tried: 3, elapsed, waiting_for: "an answer" }, false),
            // Not begun.
            (http(429), false),
            (http(503), false),
            (http(400), false),
            (refused(INSUFFICIENT_PRIVILEGE), false),
            (refused(NOT_IN_PRESENT_STATE), false),
        ] {
            assert_eq!(error.may_have_happened(), may_have_happened, "{error}");
        }
    }
}
