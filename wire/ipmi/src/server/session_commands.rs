//! The commands about sessions themselves (§22.13 to §22.19), answered where the sessions are.

use ipmi_rs_core::connection::NetFn;

use super::ServerConfig;
use super::sessions::Active;
use crate::completion;
use crate::lan::LanMessage;

const GET_CHANNEL_AUTHENTICATION_CAPABILITIES: u8 = 0x38;
const SET_SESSION_PRIVILEGE_LEVEL: u8 = 0x3B;
const CLOSE_SESSION: u8 = 0x3C;
const GET_CHANNEL_CIPHER_SUITES: u8 = 0x54;

/// Close Session, command specific (§22.19).
pub(super) const NO_SUCH_SESSION: u8 = 0x87;
/// Set Session Privilege Level, command specific (§22.18).
const LEVEL_NOT_AVAILABLE: u8 = 0x80;
const LEVEL_EXCEEDS_LIMIT: u8 = 0x81;

/// "This channel" (§6.3), and the number we say we are.
const CHANNEL: u8 = 0x01;

pub(super) enum Answer {
    /// Completion code and data.
    Now(u8, Vec<u8>),
    /// Close the session with this id, answer in the one that asked.
    Close(u32),
    /// A command for somebody else.
    NotOurs,
}

/// Commands allowed before a session; `None`: not one of ours.
pub(super) fn pre_session(config: &ServerConfig, message: &LanMessage) -> Option<(u8, Vec<u8>)> {
    if message.netfn != NetFn::App.request_value() {
        return None;
    }
    match message.cmd {
        GET_CHANNEL_AUTHENTICATION_CAPABILITIES => Some(authentication_capabilities(config, &message.data)),
        GET_CHANNEL_CIPHER_SUITES => Some(cipher_suites(config, &message.data)),
        _ => None,
    }
}

pub(super) fn in_session(
    config: &ServerConfig,
    active: &mut Active,
    session_id: u32,
    message: &LanMessage,
) -> Answer {
    if let Some((code, data)) = pre_session(config, message) {
        return Answer::Now(code, data);
    }
    if message.netfn != NetFn::App.request_value() {
        return Answer::NotOurs;
    }
    match message.cmd {
        SET_SESSION_PRIVILEGE_LEVEL => {
            let (code, data) = set_privilege(active, &message.data);
            Answer::Now(code, data)
        }
        CLOSE_SESSION => match <[u8; 4]>::try_from(message.data.as_slice()).map(u32::from_le_bytes) {
            Ok(id) if id == session_id || active.privilege >= 4 => Answer::Close(id),
            Ok(_) => Answer::Now(completion::INSUFFICIENT_PRIVILEGE, Vec::new()),
            Err(_) => Answer::Now(completion::LENGTH_INVALID, Vec::new()),
        },
        _ => Answer::NotOurs,
    }
}

/// §22.18.
fn set_privilege(active: &mut Active, data: &[u8]) -> (u8, Vec<u8>) {
    let [level] = data else { return (completion::LENGTH_INVALID, Vec::new()) };
    match level & 0x0F {
        0 => (0, vec![active.privilege]),
        1 => (LEVEL_NOT_AVAILABLE, Vec::new()),
        level if level > active.max_privilege => (LEVEL_EXCEEDS_LIMIT, Vec::new()),
        level => {
            active.privilege = level;
            (0, vec![level])
        }
    }
}

/// §22.13: RMCP+ only. No v1.5 authentication type is offered, "none" least of all.
fn authentication_capabilities(config: &ServerConfig, data: &[u8]) -> (u8, Vec<u8>) {
    let [channel, _privilege] = data else { return (completion::LENGTH_INVALID, Vec::new()) };
    let extended = channel & 0x80 != 0;
    let has_null_user = config.users.iter().any(|user| user.name.is_empty());
    // Byte 4: bit 5 two-key login (Kg is set), bit 2 non-null users, bit 1 null users.
    let login = (u8::from(config.kg.is_some()) << 5) | 0x04 | (u8::from(has_null_user) << 1);
    // Byte 5: bit 1 IPMI v2.0 connections.
    (0, vec![CHANNEL, if extended { 0x80 } else { 0 }, login, if extended { 0x02 } else { 0 }, 0, 0, 0, 0])
}

/// §22.15: a list of records, 16 bytes at a time.
fn cipher_suites(config: &ServerConfig, data: &[u8]) -> (u8, Vec<u8>) {
    let [_channel, _payload_type, index] = data else { return (completion::LENGTH_INVALID, Vec::new()) };
    let mut records = Vec::new();
    for suite in &config.suites {
        let algorithms = suite.algorithms();
        // Table 22-18: C0h standard suite, id, then algorithms tagged 00b, 01b, 10b in bits 7:6.
        records.extend_from_slice(&[
            0xC0,
            suite.id(),
            algorithms.authentication,
            0x40 | algorithms.integrity,
            0x80 | algorithms.confidentiality,
        ]);
    }
    let mut out = vec![CHANNEL];
    out.extend(records.into_iter().skip(usize::from(index & 0x3F) * 16).take(16));
    (0, out)
}
