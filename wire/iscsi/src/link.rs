//! The counters every answer carries: StatSN, ExpCmdSN, MaxCmdSN (RFC 7143 section 4.2.2).

use crate::bhs::Bhs;
use crate::output::Output;

/// The sending side of a connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) out: Output,
    pub(crate) stat_sn: u32,
    pub(crate) exp_cmd_sn: u32,
}

impl Link {
    /// Fills in the counters of an answer that has a status, and counts it.
    pub(crate) fn answer(&mut self, bhs: Bhs) -> Bhs {
        let bhs = self.peek(bhs);
        self.stat_sn = self.stat_sn.wrapping_add(1);
        bhs
    }

    /// The same for one that has none: R2T, and a NOP-In that asks.
    pub(crate) fn peek(&self, bhs: Bhs) -> Bhs {
        self.counters(bhs.with_u32(24, self.stat_sn))
    }

    /// Only the command window: Data-In without status.
    pub(crate) fn counters(&self, bhs: Bhs) -> Bhs {
        bhs.with_u32(28, self.exp_cmd_sn).with_u32(32, self.max_cmd_sn())
    }

    pub(crate) fn max_cmd_sn(&self) -> u32 {
        self.exp_cmd_sn.wrapping_add(WINDOW - 1)
    }

    pub(crate) fn send(&mut self, bhs: Bhs, data: &[u8]) {
        let bhs = self.answer(bhs);
        self.out.pdu(bhs, data);
    }
}

/// Commands an initiator may have under way.
pub(crate) const WINDOW: u32 = 128;
