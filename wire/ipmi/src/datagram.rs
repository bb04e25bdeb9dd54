//! The front door: any UDP datagram on the RMCP port becomes one of three things or an error.

use crate::asf::Asf;
use crate::rmcp::{self, Class};
use crate::{ParseError, v15, v20};

/// What a datagram is, by its headers alone. Nothing here is authenticated yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// Presence ping or pong.
    Asf(Asf),
    /// A pre-session IPMI message in a v1.5 wrapper.
    V15(v15::Packet<'a>),
    /// RMCP+: session set-up or a packet of a session.
    V20(v20::Packet<'a>),
}

impl<'a> Datagram<'a> {
    /// Reads the headers. Never panics, whatever the bytes.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, ParseError> {
        let (class, body) = rmcp::parse(datagram)?;
        match (class, body.first()) {
            (Class::Asf, _) => Asf::parse(body).map(Self::Asf),
            (Class::Ipmi, Some(&v20::AUTH_TYPE_RMCP_PLUS)) => v20::parse(body).map(Self::V20),
            (Class::Ipmi, _) => v15::parse(body).map(Self::V15),
        }
    }
}
