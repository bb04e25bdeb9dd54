//! The watchdog timer: Set and Get Watchdog Timer (§27.6, §27.7).

use std::time::Duration;

use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn};

use super::ResponseError;

/// In the byte of the timer's use: it runs.
const RUNNING: u8 = 0x40;
/// In the same: who uses it.
const USE: u8 = 0x07;
/// In the byte of the actions.
const ACTION: u8 = 0x07;
/// System management software: who stops a timer that nobody has set.
const SMS_OS: u8 = 4;
/// What a count is (Table 27-2).
const TICK: Duration = Duration::from_millis(100);

/// Reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetWatchdogTimer;

/// As it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchdogTimer {
    pub running: bool,
    /// 1 BIOS FRB2, 2 BIOS/POST, 3 OS load, 4 SMS/OS, 5 OEM.
    pub timer_use: u8,
    /// 0 none, 1 hard reset, 2 power down, 3 power cycle.
    pub action: u8,
    /// A bit for each use.
    pub expired: u8,
    pub initial: Duration,
    pub left: Duration,
}

impl From<GetWatchdogTimer> for Message {
    fn from(_: GetWatchdogTimer) -> Self {
        Self::new_request(NetFn::App, 0x25, Vec::new())
    }
}

impl IpmiCommand for GetWatchdogTimer {
    type Output = WatchdogTimer;
    type Error = ResponseError;

    fn parse_success_response(data: &[u8]) -> Result<WatchdogTimer, ResponseError> {
        let short = ResponseError::TooShort { expected: 8, seen: data.len() };
        let [timer_use, actions, _pretimeout, expired, low, high, left_low, left_high] =
            *data.first_chunk::<8>().ok_or(short)?;
        Ok(WatchdogTimer {
            running: timer_use & RUNNING != 0,
            timer_use: timer_use & USE,
            action: actions & ACTION,
            expired,
            initial: TICK * u16::from_le_bytes([low, high]).into(),
            left: TICK * u16::from_le_bytes([left_low, left_high]).into(),
        })
    }
}

/// Stops it, with nothing to do should it be started again as it is; who used it last, and how long its count is, stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopWatchdogTimer(pub WatchdogTimer);

impl From<StopWatchdogTimer> for Message {
    fn from(StopWatchdogTimer(seen): StopWatchdogTimer) -> Self {
        // 0 and what is above 5 are reserved (Table 27-2): nobody has set it yet.
        let timer_use = if (1..=5).contains(&seen.timer_use) { seen.timer_use } else { SMS_OS };
        let count = seen.initial.as_millis() / TICK.as_millis();
        let [low, high] = u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes();
        // Without bit 6 the timer is stopped; no flag of what has run out is cleared.
        Self::new_request(NetFn::App, 0x24, vec![timer_use, 0, 0, 0, low, high])
    }
}

impl IpmiCommand for StopWatchdogTimer {
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
    fn a_timer_is_read_and_stopped_as_it_was_set() {
        let read = GetWatchdogTimer::parse_success_response(&[0x44, 0x13, 5, 0x08, 0x58, 0x02, 0x2C, 0x01]);
        let seen = read.unwrap();
        assert_eq!((seen.running, seen.timer_use, seen.action, seen.expired), (true, 4, 3, 8));
        assert_eq!((seen.initial, seen.left), (Duration::from_secs(60), Duration::from_secs(30)));
        let stop = Message::from(StopWatchdogTimer(seen));
        assert_eq!((stop.cmd(), stop.data()), (0x24, &[4, 0, 0, 0, 0x58, 0x02][..]));
        let unused = WatchdogTimer { timer_use: 0, ..seen };
        assert_eq!(Message::from(StopWatchdogTimer(unused)).data()[0], SMS_OS);
        assert!(GetWatchdogTimer::parse_success_response(&[0; 7]).is_err());
    }
}
