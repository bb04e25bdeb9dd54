//! Boot option parameters as a BMC keeps them (IPMI 2.0 §28.12, Table 28-14).

use std::time::{Duration, Instant};

use farrier_ipmi::command::{BootFlags, parameter};
use farrier_ipmi::completion;

/// Parameter 3, bit 3: do not forget the flags after the time-out.
const KEEP_PAST_TIMEOUT: u8 = 0x08;
/// The version of the parameters, in every answer.
const PARAMETER_VERSION: u8 = 0x01;
/// Marks a parameter invalid or locked.
const PARAMETER_INVALID: u8 = 0x80;

/// All parameters but the flags, which live in the chassis.
#[derive(Debug)]
pub(super) struct BootOptions {
    set_in_progress: u8,
    valid_bit_clearing: u8,
    info_acknowledge: [u8; 2],
    flags_marked_invalid: bool,
    /// When the flags are forgotten.
    expires: Option<Instant>,
    timeout: Duration,
    has_3_and_4: bool,
}

/// What a Set does to the flags.
pub(super) enum Set {
    Done,
    Flags(BootFlags),
    Refused(u8),
}

impl BootOptions {
    pub(super) fn new(timeout: Duration, has_3_and_4: bool) -> Self {
        Self {
            set_in_progress: 0,
            valid_bit_clearing: 0,
            info_acknowledge: [0; 2],
            flags_marked_invalid: false,
            expires: None,
            timeout,
            has_3_and_4,
        }
    }

    pub(super) fn set(&mut self, now: Instant, data: &[u8]) -> Set {
        let Some((selector, value)) = data.split_first() else {
            return Set::Refused(completion::LENGTH_INVALID);
        };
        match (selector & 0x7F, value) {
            (parameter::SET_IN_PROGRESS, [state, ..]) => match state & 0x03 {
                1 if self.set_in_progress == 1 => return Set::Refused(0x81),
                // 2 is "commit write": we write at once, so it is the same as complete.
                1 => self.set_in_progress = 1,
                _ => self.set_in_progress = 0,
            },
            (parameter::VALID_BIT_CLEARING, [mask, ..]) if self.has_3_and_4 => {
                self.valid_bit_clearing = mask & 0x1F;
                if mask & KEEP_PAST_TIMEOUT != 0 {
                    self.expires = None;
                }
            }
            (parameter::INFO_ACKNOWLEDGE, [mask, bits, ..]) if self.has_3_and_4 => {
                let [_, old] = self.info_acknowledge;
                self.info_acknowledge = [0, (old & !mask) | (bits & mask)];
            }
            (parameter::BOOT_FLAGS, []) => self.flags_marked_invalid = selector & 0x80 != 0,
            (parameter::BOOT_FLAGS, value) => {
                let Some(flags) = BootFlags::from_bytes(value).filter(|_| value.len() == 5) else {
                    return Set::Refused(completion::LENGTH_INVALID);
                };
                self.flags_marked_invalid = selector & 0x80 != 0;
                let forget = flags.valid && self.valid_bit_clearing & KEEP_PAST_TIMEOUT == 0;
                self.expires = forget.then(|| now + self.timeout);
                return Set::Flags(flags);
            }
            (parameter::SET_IN_PROGRESS, _) => return Set::Refused(completion::LENGTH_INVALID),
            _ => return Set::Refused(completion::PARAMETER_NOT_SUPPORTED),
        }
        Set::Done
    }

    /// The data of a Get response, or a completion code.
    pub(super) fn get(&self, data: &[u8], flags: BootFlags) -> Result<Vec<u8>, u8> {
        let [selector, _set, _block] = data else { return Err(completion::LENGTH_INVALID) };
        let selector = selector & 0x7F;
        let (invalid, value) = match selector {
            parameter::SET_IN_PROGRESS => (false, vec![self.set_in_progress]),
            parameter::VALID_BIT_CLEARING if self.has_3_and_4 => (false, vec![self.valid_bit_clearing]),
            parameter::INFO_ACKNOWLEDGE if self.has_3_and_4 => (false, self.info_acknowledge.to_vec()),
            parameter::BOOT_FLAGS => (self.flags_marked_invalid, flags.to_bytes().to_vec()),
            _ => return Err(completion::PARAMETER_NOT_SUPPORTED),
        };
        let mut out = vec![PARAMETER_VERSION, selector | if invalid { PARAMETER_INVALID } else { 0 }];
        out.extend(value);
        Ok(out)
    }

    /// Whether the flags have been forgotten by now; says so once.
    pub(super) fn take_expired(&mut self, now: Instant) -> bool {
        let expired = self.expires.is_some_and(|at| at <= now);
        if expired {
            self.expires = None;
        }
        expired
    }

    /// A Chassis Control started the machine: the flags were used in time.
    pub(super) fn used(&mut self) {
        self.expires = None;
    }
}
