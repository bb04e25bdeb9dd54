//! What an agent needs to know to find its rackd.
use crate::args::{KernelArgs, Token};
use crate::limits::Limits;
use farrier_identity::IdentityError;
use farrier_identity::agent::PinnedCa;

/// Checked configuration of one agent.
#[derive(Debug, Clone)]
pub struct Config {
    /// rackd's agent service, `https://address:port`.
    pub url: String,
    /// The only authority the agent believes.
    pub ca: PinnedCa,
    /// Proves this boot, once.
    pub token: Token,
    /// Nobody has described the machine: it may be started again, since no task has left anything on its disks.
    pub is_discovery: bool,
    pub limits: Limits,
}

impl Config {
    pub fn new(url: impl Into<String>, ca: PinnedCa, token: Token) -> Self {
        Self { url: url.into(), ca, token, is_discovery: false, limits: Limits::default() }
    }

    pub fn from_args(args: &KernelArgs) -> Result<Self, IdentityError> {
        let url = args.url.to_string();
        let known =
            Self::new(url.trim_end_matches('/'), PinnedCa::from_hex(&args.ca_hex)?, args.token.clone());
        Ok(Self { is_discovery: args.is_discovery(), ..known })
    }
}
