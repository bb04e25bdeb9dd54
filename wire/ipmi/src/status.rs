//! RMCP+ and RAKP message status codes (§13.24, Table 13-15).

use std::fmt;

/// The status byte of an Open Session response and of RAKP 2, 3 and 4. Unknown codes stay data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RmcpStatus(pub u8);

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        impl RmcpStatus {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// The specification's words for the code.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self.0 {
                    $($code => $text,)*
                    _ => "a status the specification does not define",
                }
            }
        }
    };
}

statuses! {
    /// The message is good.
    NO_ERRORS = 0x00, "no errors";
    /// The BMC has no session slot free.
    INSUFFICIENT_RESOURCES = 0x01, "insufficient resources to create a session";
    /// The session id is not one the BMC gave out.
    INVALID_SESSION_ID = 0x02, "invalid session ID";
    /// A payload type of Open Session is wrong.
    INVALID_PAYLOAD_TYPE = 0x03, "invalid payload type";
    /// The BMC does not speak this authentication algorithm.
    INVALID_AUTHENTICATION = 0x04, "invalid authentication algorithm";
    /// The BMC does not speak this integrity algorithm.
    INVALID_INTEGRITY = 0x05, "invalid integrity algorithm";
    /// No authentication payload matched.
    NO_MATCHING_AUTHENTICATION = 0x06, "no matching authentication payload";
    /// No integrity payload matched.
    NO_MATCHING_INTEGRITY = 0x07, "no matching integrity payload";
    /// The session has ended.
    INACTIVE_SESSION_ID = 0x08, "inactive session ID";
    /// The role byte is malformed.
    INVALID_ROLE = 0x09, "invalid role";
    /// The user may not have the privilege level asked for.
    UNAUTHORIZED_ROLE = 0x0A, "unauthorized role or privilege level requested";
    /// No slot for this role.
    INSUFFICIENT_RESOURCES_ROLE = 0x0B, "insufficient resources to create a session at the requested role";
    /// The user name is too long.
    INVALID_NAME_LENGTH = 0x0C, "invalid name length";
    /// No such user.
    UNAUTHORIZED_NAME = 0x0D, "unauthorized name";
    /// The GUID is not accepted.
    UNAUTHORIZED_GUID = 0x0E, "unauthorized GUID";
    /// The HMAC of RAKP 3 is wrong.
    INVALID_INTEGRITY_CHECK = 0x0F, "invalid integrity check value";
    /// The BMC does not speak this confidentiality algorithm.
    INVALID_CONFIDENTIALITY = 0x10, "invalid confidentiality algorithm";
    /// The three algorithms make no suite the BMC offers.
    NO_CIPHER_SUITE_MATCH = 0x11, "no cipher suite match with proposed security algorithms";
    /// Anything else the BMC does not like.
    ILLEGAL_PARAMETER = 0x12, "illegal or unrecognized parameter";
}

impl RmcpStatus {
    /// The BMC does not speak the cipher suite; another may work.
    #[must_use]
    pub fn is_suite_refusal(self) -> bool {
        matches!(
            self,
            Self::INVALID_AUTHENTICATION
                | Self::INVALID_INTEGRITY
                | Self::INVALID_CONFIDENTIALITY
                | Self::NO_CIPHER_SUITE_MATCH
                | Self::NO_MATCHING_AUTHENTICATION
                | Self::NO_MATCHING_INTEGRITY
        )
    }

    /// The BMC has no session slot free: later may work.
    #[must_use]
    pub fn is_exhaustion(self) -> bool {
        matches!(self, Self::INSUFFICIENT_RESOURCES | Self::INSUFFICIENT_RESOURCES_ROLE)
    }
}

impl fmt::Display for RmcpStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x} ({})", self.0, self.meaning())
    }
}
