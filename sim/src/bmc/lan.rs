//! The LAN channel of a simulated BMC (IPMI 2.0 chapters 22.22 to 22.24 and 23). What is set is told, and taken at once; whether the
//! BMC goes where its address says is its configuration's ([`BmcConfig::moves`]).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use farrier_ipmi::completion;

use super::BmcConfig;
use super::commands::Answer;

/// The channel of this LAN; 0Eh is the one that it is asked through.
const CHANNEL: u8 = 1;
const PRESENT_CHANNEL: u8 = 0x0E;
/// 802.3 LAN, IPMB messages, several sessions; defined by IPMI (7154, Table 22-28).
const MEDIUM_LAN: u8 = 4;
const PROTOCOL_IPMB: u8 = 1;
const MULTI_SESSION: u8 = 0x80;
const IPMI_FORUM: [u8; 3] = [0xF2, 0x1B, 0];
/// Always available, administrators.
const ACCESS: [u8; 2] = [0x02, 0x04];
/// Parameter revision 1.1, in every answer; asked for alone.
const REVISION: u8 = 0x11;
const REVISION_ONLY: u8 = 0x80;
/// Set LAN Configuration Parameters, command specific.
const READ_ONLY: u8 = 0x82;
/// Set In Progress: 1 begins, 0 ends, 2 keeps what was set so far.
const SET_IN_PROGRESS: u8 = 0;
const COMPLETE: u8 = 0;
const IN_PROGRESS: u8 = 1;
const COMMIT: u8 = 2;
/// Set In Progress, where it is already.
const ALREADY: u8 = 0x81;
const ADDRESS: u8 = 3;
/// Parameters that can be set: address, its source, MAC, mask, gateways, community, VLAN and its priority.
const WRITABLE: &[u8] = &[3, 4, 5, 6, 12, 13, 14, 15, 16, 20, 21];
/// The address is set by hand (parameter 4).
const STATIC: u8 = 1;
const RMCP_PORT: u16 = 623;

/// Parameters by number (Table 23-4).
#[derive(Debug)]
pub(super) struct Lan(Vec<(u8, Vec<u8>)>);

impl Lan {
    pub(super) fn new(config: &BmcConfig, address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.octets(),
            IpAddr::V6(_) => [0; 4],
        };
        let mask = if ip.first() == Some(&127) { [255, 0, 0, 0] } else { [255, 255, 255, 0] };
        let [.., a, b, c, d] = config.guid;
        let suites: Vec<u8> = config.suites.iter().map(|suite| suite.id()).collect();
        let mut entries = [&[0], suites.as_slice()].concat();
        entries.resize(17, 0);
        Self(vec![
            (SET_IN_PROGRESS, vec![0]),
            // Authentication of IPMI 1.5: none, on no level.
            (1, vec![0]),
            (2, vec![0; 5]),
            (3, ip.to_vec()),
            (4, vec![STATIC]),
            (5, vec![0x02, 0xBC, a, b, c, d]),
            (6, mask.to_vec()),
            // Time to live 64, "do not fragment", precedence 0 with "minimise delay".
            (7, vec![0x40, 0x40, 0x10]),
            (8, RMCP_PORT.to_le_bytes().to_vec()),
            // Answers ARP.
            (10, vec![0x02]),
            (12, vec![0; 4]),
            (13, vec![0; 6]),
            (14, vec![0; 4]),
            (15, vec![0; 6]),
            (16, b"public".iter().copied().chain([0; 12]).collect()),
            // No destinations of alerts.
            (17, vec![0]),
            (20, vec![0; 2]),
            (21, vec![0]),
            (22, vec![u8::try_from(suites.len()).unwrap_or(0)]),
            (23, entries),
            // Each suite up to administrators.
            (24, [vec![0], vec![0x44; 8]].concat()),
        ])
    }

    /// Section 23.2: set 0, block 0 are all there is.
    pub(super) fn get(&self, data: &[u8]) -> Answer {
        let [channel, selector, _set, _block] = data else { return (completion::LENGTH_INVALID, Vec::new()) };
        if !is_ours(*channel) {
            return (completion::INVALID_FIELD, Vec::new());
        }
        if channel & REVISION_ONLY != 0 {
            return (completion::OK, vec![REVISION]);
        }
        match self.0.iter().find(|(number, _)| number == selector) {
            Some((_, value)) => (completion::OK, [&[REVISION], value.as_slice()].concat()),
            None => (completion::PARAMETER_NOT_SUPPORTED, Vec::new()),
        }
    }

    /// The one that was set last.
    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        let (_, value) = self.0.iter().find(|(number, _)| *number == ADDRESS)?;
        value.first_chunk().map(|bytes: &[u8; 4]| Ipv4Addr::from(*bytes))
    }

    /// Section 23.1.
    pub(super) fn set(&mut self, data: &[u8]) -> Answer {
        let [channel, selector, value @ ..] = data else {
            return (completion::LENGTH_INVALID, Vec::new());
        };
        let place = self.0.iter_mut().find(|(number, _)| number == selector);
        let code = match place {
            _ if !is_ours(*channel) => completion::INVALID_FIELD,
            None => completion::PARAMETER_NOT_SUPPORTED,
            Some((_, old)) if *selector == SET_IN_PROGRESS => progress(old, value),
            Some(_) if !WRITABLE.contains(selector) => READ_ONLY,
            Some((_, old)) if old.len() == value.len() => {
                *old = value.to_vec();
                completion::OK
            }
            Some(_) => completion::LENGTH_INVALID,
        };
        (code, Vec::new())
    }
}

fn progress(kept: &mut Vec<u8>, value: &[u8]) -> u8 {
    match value {
        [IN_PROGRESS] if *kept == [IN_PROGRESS] => ALREADY,
        [COMPLETE | IN_PROGRESS] => {
            *kept = value.to_vec();
            completion::OK
        }
        // Nothing is rolled back here, so it is all kept.
        [COMMIT] => completion::OK,
        [_] => completion::INVALID_FIELD,
        _ => completion::LENGTH_INVALID,
    }
}

/// Get Channel Info.
pub(super) fn channel_info(data: &[u8], sessions: usize) -> Answer {
    match data {
        [channel] if is_ours(*channel) => {
            let active = u8::try_from(sessions).unwrap_or(0x3F).min(0x3F);
            let [a, b, c] = IPMI_FORUM;
            (completion::OK, vec![CHANNEL, MEDIUM_LAN, PROTOCOL_IPMB, MULTI_SESSION | active, a, b, c, 0, 0])
        }
        [_] => (completion::INVALID_FIELD, Vec::new()),
        _ => (completion::LENGTH_INVALID, Vec::new()),
    }
}

/// Get Channel Access: what is kept is what is in force.
pub(super) fn channel_access(data: &[u8]) -> Answer {
    match data {
        [channel, _] if is_ours(*channel) => (completion::OK, ACCESS.to_vec()),
        [_, _] => (completion::INVALID_FIELD, Vec::new()),
        _ => (completion::LENGTH_INVALID, Vec::new()),
    }
}

fn is_ours(channel: u8) -> bool {
    [CHANNEL, PRESENT_CHANNEL].contains(&(channel & 0x0F))
}
