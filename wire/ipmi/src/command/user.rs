//! User accounts: Set and Get User Access (§22.26, 22.27), Set and Get User Name (§22.28, 22.29), Set User Password (§22.30), and
//! Set User Payload Access (§24.6).

use std::fmt;

use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn};

use super::ResponseError;
use crate::Secret;

/// The channel that the request came by.
const THIS_CHANNEL: u8 = 0x0E;
/// User ids have six bits; 0 is reserved.
pub const MAX_USER_ID: u8 = 0x3F;
/// Bytes of a user's name, padded with zeros.
pub const NAME_BYTES: usize = 16;
/// Bytes of a short password, padded with zeros.
pub const SHORT: usize = 16;
/// Bytes of a long one.
pub const LONG: usize = 20;
/// In the byte of the user id: the password has [`LONG`] bytes.
pub const IS_LONG: u8 = 0x80;
/// Operations of Set User Password.
pub mod operation {
    /// Disables the user.
    pub const DISABLE: u8 = 0;
    /// Enables the user.
    pub const ENABLE: u8 = 1;
    /// Sets the password.
    pub const SET: u8 = 2;
    /// Compares it with the one that is stored.
    pub const TEST: u8 = 3;
}

/// How many users a BMC has room for, and how many are enabled: Get User Access of any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetUserAccess(pub u8);

/// Of its answer, what is of use to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserAccess {
    /// Highest user id there may be on this channel.
    pub max_users: u8,
    /// The user's privilege limit: 2 user, 3 operator, 4 administrator, 15 no access.
    pub privilege: u8,
}

impl From<GetUserAccess> for Message {
    fn from(GetUserAccess(user): GetUserAccess) -> Self {
        Self::new_request(NetFn::App, 0x44, vec![THIS_CHANNEL, user & MAX_USER_ID])
    }
}

impl IpmiCommand for GetUserAccess {
    type Output = UserAccess;
    type Error = ResponseError;

    fn parse_success_response(data: &[u8]) -> Result<UserAccess, ResponseError> {
        let short = ResponseError::TooShort { expected: 4, seen: data.len() };
        let [max_users, _, _, access] = *data.first_chunk::<4>().ok_or(short)?;
        Ok(UserAccess { max_users: max_users & MAX_USER_ID, privilege: access & 0x0F })
    }
}

/// What a user may do on this channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetUserAccess {
    pub user: u8,
    /// As in [`UserAccess`].
    pub privilege: u8,
    /// Whether commands in a session are for the user at all.
    pub messaging: bool,
}

impl From<SetUserAccess> for Message {
    fn from(SetUserAccess { user, privilege, messaging }: SetUserAccess) -> Self {
        // Table 22-34: bit 7, the bits below count; 6, no restriction to call-back; 5, link authentication; 4, messaging.
        let bits = if messaging { 0xB0 } else { 0x80 } | THIS_CHANNEL;
        // No limit of sessions but the channel's.
        Self::new_request(NetFn::App, 0x43, vec![bits, user & MAX_USER_ID, privilege & 0x0F, 0])
    }
}

impl IpmiCommand for SetUserAccess {
    type Output = ();
    type Error = ResponseError;

    fn parse_success_response(_data: &[u8]) -> Result<(), ResponseError> {
        Ok(())
    }
}

/// Gives a user a name; an empty one takes the user away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetUserName {
    user: u8,
    name: [u8; NAME_BYTES],
}

impl SetUserName {
    /// `None`: it has more bytes than a name can have.
    #[must_use]
    pub fn new(user: u8, name: &str) -> Option<Self> {
        let mut bytes = [0; NAME_BYTES];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(Self { user, name: bytes })
    }
}

impl From<SetUserName> for Message {
    fn from(SetUserName { user, name }: SetUserName) -> Self {
        let data = std::iter::once(user & MAX_USER_ID).chain(name).collect();
        Self::new_request(NetFn::App, 0x45, data)
    }
}

impl IpmiCommand for SetUserName {
    type Output = ();
    type Error = ResponseError;

    fn parse_success_response(_data: &[u8]) -> Result<(), ResponseError> {
        Ok(())
    }
}

/// Lets a user in, or not: Set User Password without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnableUser {
    pub user: u8,
    pub enabled: bool,
}

impl From<EnableUser> for Message {
    fn from(EnableUser { user, enabled }: EnableUser) -> Self {
        let what = if enabled { operation::ENABLE } else { operation::DISABLE };
        Self::new_request(NetFn::App, 0x47, vec![user & MAX_USER_ID, what])
    }
}

impl IpmiCommand for EnableUser {
    type Output = ();
    type Error = ResponseError;

    fn parse_success_response(_data: &[u8]) -> Result<(), ResponseError> {
        Ok(())
    }
}

/// Lets a user open the serial console (SOL, payload 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnableSol(pub u8);

impl From<EnableSol> for Message {
    fn from(EnableSol(user): EnableSol) -> Self {
        // Table 24-8: operation enable; standard payloads 0 to 7, of which 1 is SOL.
        Self::new_request(NetFn::App, 0x4C, vec![THIS_CHANNEL, user & MAX_USER_ID, 0x02, 0, 0, 0])
    }
}

impl IpmiCommand for EnableSol {
    type Output = ();
    type Error = ResponseError;

    fn parse_success_response(_data: &[u8]) -> Result<(), ResponseError> {
        Ok(())
    }
}

/// The name of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetUserName(pub u8);

impl From<GetUserName> for Message {
    fn from(GetUserName(user): GetUserName) -> Self {
        Self::new_request(NetFn::App, 0x46, vec![user & MAX_USER_ID])
    }
}

impl IpmiCommand for GetUserName {
    /// Without the zeros at its end. Names are ASCII (§22.28), which nobody checks.
    type Output = Vec<u8>;
    type Error = ResponseError;

    fn parse_success_response(data: &[u8]) -> Result<Vec<u8>, ResponseError> {
        let short = ResponseError::TooShort { expected: NAME_BYTES, seen: data.len() };
        let name = data.first_chunk::<NAME_BYTES>().ok_or(short)?;
        Ok(name.iter().copied().take_while(|byte| *byte != 0).collect())
    }
}

/// Sets a user's password.
#[derive(Clone)]
pub struct SetUserPassword {
    user: u8,
    password: Secret,
    long: bool,
}

impl SetUserPassword {
    /// As a short password where it is one. `None`: it is longer than any IPMI password.
    #[must_use]
    pub fn new(user: u8, password: Secret) -> Option<Self> {
        let length = password.expose().len();
        (length <= LONG).then_some(Self { user, password, long: length > SHORT })
    }
}

impl fmt::Debug for SetUserPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetUserPassword").field("user", &self.user).finish_non_exhaustive()
    }
}

impl From<SetUserPassword> for Message {
    fn from(command: SetUserPassword) -> Self {
        let SetUserPassword { user, password, long } = command;
        let (bit, bytes) = if long { (IS_LONG, LONG) } else { (0, SHORT) };
        let mut data = vec![bit | (user & MAX_USER_ID), operation::SET];
        let padding = std::iter::repeat(0);
        data.extend(password.expose().iter().copied().chain(padding).take(bytes));
        Self::new_request(NetFn::App, 0x47, data)
    }
}

impl IpmiCommand for SetUserPassword {
    type Output = ();
    type Error = ResponseError;

    fn parse_success_response(_data: &[u8]) -> Result<(), ResponseError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_padded_to_the_length_that_its_user_byte_says() {
        let message = |password: &str| Message::from(SetUserPassword::new(2, Secret::new(password)).unwrap());
        let short = message("sixteen bytes ok");
        assert_eq!((short.data().len(), &short.data()[..4]), (18, &[0x02, 2, b's', b'i'][..]));
        let long = message("seventeen bytes!!");
        assert_eq!((long.data().len(), &long.data()[..3]), (22, &[0x82, 2, b's'][..]));
        assert_eq!(long.data()[19..], [0, 0, 0]);
        assert!(SetUserPassword::new(2, Secret::new("x".repeat(21))).is_none());
        let shown = format!("{:?}", SetUserPassword::new(2, Secret::new("hunter2")).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn what_makes_a_user_is_what_ipmitool_sends() {
        let bytes = |message: Message| (message.cmd(), message.data().to_vec());
        let access = SetUserAccess { user: 3, privilege: 4, messaging: true };
        assert_eq!(bytes(access.into()), (0x43, vec![0xBE, 3, 4, 0]));
        let access = SetUserAccess { user: 3, privilege: 15, messaging: false };
        assert_eq!(bytes(access.into()), (0x43, vec![0x8E, 3, 15, 0]));
        let name = bytes(SetUserName::new(3, "farrier").unwrap().into());
        assert_eq!(name, (0x45, b"\x03farrier\0\0\0\0\0\0\0\0\0".to_vec()));
        assert!(SetUserName::new(3, "seventeen bytes!!").is_none());
        assert_eq!(bytes(EnableUser { user: 3, enabled: true }.into()), (0x47, vec![3, 1]));
        assert_eq!(bytes(EnableUser { user: 3, enabled: false }.into()), (0x47, vec![3, 0]));
        assert_eq!(bytes(EnableSol(3).into()), (0x4C, vec![0x0E, 3, 2, 0, 0, 0]));
    }

    #[test]
    fn answers_are_read_and_short_ones_refused() {
        let access = GetUserAccess::parse_success_response(&[0xCA, 0x82, 0x01, 0x34]).unwrap();
        assert_eq!(access, UserAccess { max_users: 10, privilege: 4 });
        assert!(GetUserAccess::parse_success_response(&[1, 2, 3]).is_err());
        let name = GetUserName::parse_success_response(b"admin\0\0\0\0\0\0\0\0\0\0\0").unwrap();
        assert_eq!(name, b"admin");
        assert!(GetUserName::parse_success_response(b"admin").is_err());
    }
}
