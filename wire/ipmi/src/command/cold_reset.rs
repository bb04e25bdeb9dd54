//! Cold Reset (§20.2): the BMC restarts, the machine does not.

use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn};

use super::ResponseError;

/// The request. A BMC may restart before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColdReset;

impl From<ColdReset> for Message {
    fn from(_: ColdReset) -> Self {
        Self::new_request(NetFn::App, 0x02, Vec::new())
    }
}

impl IpmiCommand for ColdReset {
    type Output = ();
    type Error = ResponseError;

    fn parse_success_response(_data: &[u8]) -> Result<(), ResponseError> {
        Ok(())
    }
}
