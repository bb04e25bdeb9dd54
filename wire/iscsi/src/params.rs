//! Operational parameters (RFC 7143 section 13), negotiated from a table.

use crate::text::{Pairs, number};

/// What a session agreed on. Starts with the RFC's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    pub header_digest: bool,
    pub data_digest: bool,
    pub initial_r2t: bool,
    pub immediate_data: bool,
    /// What the initiator takes in one PDU.
    pub max_send_data: usize,
    pub max_burst: usize,
    pub first_burst: usize,
    pub max_outstanding_r2t: u32,
    pub time2wait: u16,
    pub time2retain: u16,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            header_digest: false,
            data_digest: false,
            initial_r2t: true,
            immediate_data: true,
            max_send_data: 8192,
            max_burst: 262_144,
            first_burst: 65_536,
            max_outstanding_r2t: 1,
            time2wait: 2,
            time2retain: 20,
        }
    }
}

/// What the target wants or allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// MaxRecvDataSegmentLength that is declared.
    pub max_recv_data: usize,
    pub max_burst: usize,
    pub first_burst: usize,
    pub max_outstanding_r2t: u32,
    /// Ask for R2T before any data.
    pub initial_r2t: bool,
    pub immediate_data: bool,
    /// Let the initiator choose digests.
    pub digests: bool,
}

impl Default for Offer {
    fn default() -> Offer {
        Offer {
            max_recv_data: 256 * 1024,
            max_burst: 1024 * 1024,
            first_burst: 256 * 1024,
            max_outstanding_r2t: 4,
            initial_r2t: false,
            immediate_data: true,
            digests: true,
        }
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NegotiationError {
    #[error("{key}={value} is outside what RFC 7143 allows")]
    BadValue { key: String, value: String },
    #[error("{0} is not allowed in this session or stage")]
    NotHere(String),
}

/// Takes one request's operational keys in, and appends the answers. Keys of login and security are the
/// caller's; `declared` says whether our MaxRecvDataSegmentLength was told already.
pub fn negotiate(
    request: &Pairs,
    offer: &Offer,
    params: &mut Params,
    answer: &mut Pairs,
) -> Result<(), NegotiationError> {
    for (key, value) in &request.0 {
        if LOGIN_KEYS.contains(&key.as_str()) || key.starts_with("CHAP_") {
            continue;
        }
        let Some((_, rule)) = TABLE.iter().find(|(name, _)| name == key) else {
            // RFC 7143 section 6.2: unknown keys get NotUnderstood and nothing else happens.
            answer.push(key, "NotUnderstood");
            continue;
        };
        // An answer to something of ours, or a refusal: nothing to agree on.
        if matches!(value.as_str(), "NotUnderstood" | "Irrelevant" | "Reject" | "None") && !takes_none(rule) {
            continue;
        }
        let bad = || NegotiationError::BadValue { key: key.clone(), value: value.clone() };
        if let Some(reply) = apply(rule, value, offer, params).ok_or_else(bad)? {
            answer.push(key, reply);
        }
    }
    // FirstBurstLength may not exceed MaxBurstLength (RFC 7143 section 13.14).
    params.first_burst = params.first_burst.min(params.max_burst);
    Ok(())
}

fn takes_none(rule: &Rule) -> bool {
    matches!(rule, Rule::Digest(_))
}

/// `None`: a value out of range. `Some(None)`: a declaration, no answer.
fn apply(rule: &Rule, value: &str, offer: &Offer, params: &mut Params) -> Option<Option<String>> {
    match rule {
        Rule::Digest(set) => {
            // A list in the order of preference: the first we support (RFC 7143 section 6.2.1).
            let choice =
                value.split(',').find(|choice| *choice == "None" || (*choice == "CRC32C" && offer.digests));
            match choice {
                Some(choice) => {
                    set(params, choice == "CRC32C");
                    Some(Some(choice.to_owned()))
                }
                None => Some(Some("Reject".to_owned())),
            }
        }
        Rule::Or(ours, set) => {
            let result = boolean(value)? || ours(offer);
            set(params, result);
            Some(Some(yes_no(result)))
        }
        Rule::And(ours, set) => {
            let result = boolean(value)? && ours(offer);
            set(params, result);
            Some(Some(yes_no(result)))
        }
        Rule::Min { low, high, ours, set } => {
            let result = ranged(value, *low, *high)?.min(ours(offer));
            set(params, result);
            Some(Some(result.to_string()))
        }
        Rule::Max { low, high, ours, set } => {
            let result = ranged(value, *low, *high)?.max(ours(offer));
            set(params, result);
            Some(Some(result.to_string()))
        }
        Rule::Declared { low, high, set } => {
            set(params, ranged(value, *low, *high)?);
            Some(None)
        }
        Rule::Fixed(reply) => Some(Some((*reply).to_owned())),
    }
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

fn yes_no(value: bool) -> String {
    if value { "Yes" } else { "No" }.to_owned()
}

fn ranged(value: &str, low: u64, high: u64) -> Option<u64> {
    number(value).filter(|number| (low..=high).contains(number))
}

/// How a key's result comes about (RFC 7143 section 6.2 and 13).
enum Rule {
    Digest(fn(&mut Params, bool)),
    Or(fn(&Offer) -> bool, fn(&mut Params, bool)),
    And(fn(&Offer) -> bool, fn(&mut Params, bool)),
    Min { low: u64, high: u64, ours: fn(&Offer) -> u64, set: fn(&mut Params, u64) },
    Max { low: u64, high: u64, ours: fn(&Offer) -> u64, set: fn(&mut Params, u64) },
    Declared { low: u64, high: u64, set: fn(&mut Params, u64) },
    Fixed(&'static str),
}

/// Largest length a 24-bit field carries.
const MAX_LENGTH: u64 = (1 << 24) - 1;

const TABLE: &[(&str, Rule)] = &[
    ("HeaderDigest", Rule::Digest(|params, value| params.header_digest = value)),
    ("DataDigest", Rule::Digest(|params, value| params.data_digest = value)),
    // One connection a session: MC/S is refused here (section 13.2).
    ("MaxConnections", Rule::Min { low: 1, high: 65_535, ours: |_| 1, set: |_, _| {} }),
    ("InitialR2T", Rule::Or(|offer| offer.initial_r2t, |params, value| params.initial_r2t = value)),
    ("ImmediateData", Rule::And(|offer| offer.immediate_data, |params, value| params.immediate_data = value)),
    (
        "MaxRecvDataSegmentLength",
        Rule::Declared {
            low: 512,
            high: MAX_LENGTH,
            set: |params, value| params.max_send_data = usize::try_from(value).unwrap_or(8192),
        },
    ),
    (
        "MaxBurstLength",
        Rule::Min {
            low: 512,
            high: MAX_LENGTH,
            ours: |offer| offer.max_burst as u64,
            set: |params, value| params.max_burst = usize::try_from(value).unwrap_or(8192),
        },
    ),
    (
        "FirstBurstLength",
        Rule::Min {
            low: 512,
            high: MAX_LENGTH,
            ours: |offer| offer.first_burst as u64,
            set: |params, value| params.first_burst = usize::try_from(value).unwrap_or(8192),
        },
    ),
    (
        "DefaultTime2Wait",
        Rule::Max {
            low: 0,
            high: 3600,
            ours: |_| 0,
            set: |params, value| params.time2wait = u16::try_from(value).unwrap_or(2),
        },
    ),
    // Nothing is kept after a connection at ERL 0 (section 13.16).
    (
        "DefaultTime2Retain",
        Rule::Min {
            low: 0,
            high: 3600,
            ours: |_| 0,
            set: |params, value| params.time2retain = u16::try_from(value).unwrap_or(0),
        },
    ),
    (
        "MaxOutstandingR2T",
        Rule::Min {
            low: 1,
            high: 65_535,
            ours: |offer| u64::from(offer.max_outstanding_r2t),
            set: |params, value| params.max_outstanding_r2t = u32::try_from(value).unwrap_or(1),
        },
    ),
    ("DataPDUInOrder", Rule::Or(|_| true, |_, _| {})),
    ("DataSequenceInOrder", Rule::Or(|_| true, |_, _| {})),
    ("ErrorRecoveryLevel", Rule::Min { low: 0, high: 2, ours: |_| 0, set: |_, _| {} }),
    // Markers are gone since RFC 7143 section 13.25: a peer of RFC 3720 hears No.
    ("OFMarker", Rule::Fixed("No")),
    ("IFMarker", Rule::Fixed("No")),
    ("OFMarkInt", Rule::Fixed("Irrelevant")),
    ("IFMarkInt", Rule::Fixed("Irrelevant")),
    ("TaskReporting", Rule::Fixed("RFC3720")),
    // RFC 7144 section 7.1.1.
    ("iSCSIProtocolLevel", Rule::Min { low: 0, high: 31, ours: |_| 2, set: |_, _| {} }),
];

/// Keys that `login` and the text exchange answer themselves.
const LOGIN_KEYS: &[&str] = &[
    "InitiatorName",
    "InitiatorAlias",
    "TargetName",
    "TargetAlias",
    "TargetAddress",
    "TargetPortalGroupTag",
    "SessionType",
    "AuthMethod",
    "SendTargets",
];
