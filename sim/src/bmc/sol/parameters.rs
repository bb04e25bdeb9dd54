//! SOL configuration parameters (IPMI 2.0 §26, Table 26-5).

use farrier_ipmi::completion;

use crate::bmc::commands::Answer;

/// From here on a console may not write: channel and port.
const CHANNEL: usize = 7;
const PORT: usize = 8;
/// Parameter revision 1.1, in every answer.
const REVISION: u8 = 0x11;
/// Get SOL Configuration: only the revision is wanted.
const REVISION_ONLY: u8 = 0x80;
/// Set SOL Configuration, command specific.
const READ_ONLY: u8 = 0x82;

/// Values by parameter number.
pub(super) struct Parameters([Vec<u8>; 9]);

impl Parameters {
    pub(super) fn new(udp_port: u16) -> Self {
        Self([
            vec![0x00],       // 0: no set in progress
            vec![0x01],       // 1: enabled
            vec![0xC3],       // 2: encrypted, authenticated, operators
            vec![0x0C, 0x60], // 3: characters wait 60 ms, or until there are 96
            vec![0x07, 0x32], // 4: seven retries, 500 ms apart
            vec![0x0A],       // 5: 115200 bit/s, kept
            vec![0x0A],       // 6: 115200 bit/s, now
            vec![0x01],       // 7: this channel
            udp_port.to_le_bytes().to_vec(),
        ])
    }

    pub(super) fn enabled(&self) -> bool {
        let [_, enable, ..] = &self.0;
        enable.first().is_some_and(|byte| byte & 1 != 0)
    }

    pub(super) fn udp_port(&self) -> u16 {
        match self.0.get(PORT).map(Vec::as_slice) {
            Some([low, high]) => u16::from_le_bytes([*low, *high]),
            _ => 0,
        }
    }

    /// §26.2: set 0, block 0 are all there is.
    pub(super) fn get(&self, data: &[u8]) -> Answer {
        let [channel, selector, _set, _block] = data else { return (completion::LENGTH_INVALID, Vec::new()) };
        if channel & REVISION_ONLY != 0 {
            return (completion::OK, vec![REVISION]);
        }
        match self.0.get(usize::from(*selector)) {
            Some(value) => (completion::OK, [&[REVISION], value.as_slice()].concat()),
            None => (completion::PARAMETER_NOT_SUPPORTED, Vec::new()),
        }
    }

    /// §26.1.
    pub(super) fn set(&mut self, data: &[u8]) -> Answer {
        let [_channel, selector, value @ ..] = data else {
            return (completion::LENGTH_INVALID, Vec::new());
        };
        let selector = usize::from(*selector);
        let code = match self.0.get_mut(selector) {
            None => completion::PARAMETER_NOT_SUPPORTED,
            Some(_) if selector >= CHANNEL => READ_ONLY,
            Some(old) if old.len() == value.len() => {
                *old = value.to_vec();
                completion::OK
            }
            Some(_) => completion::LENGTH_INVALID,
        };
        (code, Vec::new())
    }
}
