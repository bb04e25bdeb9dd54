//! Data of the answers to every command that a BMC is asked, and the words for what a sensor says.

use farrier_ipmi::command::dcmi::GetPowerReading;
use farrier_ipmi::command::sdr::{GetSdrRepositoryInfo, ReserveSdrRepository};
use farrier_ipmi::command::user::{GetUserAccess, GetUserName};
use farrier_ipmi::command::watchdog::GetWatchdogTimer;
use farrier_ipmi::command::{
    ActivatePayload, GetBootFlags, GetChassisStatus, GetPayloadInstanceInfo, GetSystemGuid,
};
use farrier_ipmi::fru::{GetFruArea, ReadFru};
use ipmi_rs_core::app::GetDeviceId;
use ipmi_rs_core::connection::IpmiCommand;
use ipmi_rs_core::storage::sdr::{SensorType, decode_event};
use ipmi_rs_core::storage::sel::{ClearSel, GetSelInfo, ReserveSel};
use std::fmt;

/// What a sensor of some kind says with an offset.
struct Said(u8, u8, u8);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decode_event(f, self.0, SensorType::from(self.1), self.2)
    }
}

macro_rules! answers {
    ($data:expr; $($command:ty),+ $(,)?) => { $(let _ = <$command>::parse_success_response($data);)+ };
}

pub fn run(data: &[u8]) {
    answers!(
        data; GetSdrRepositoryInfo, ReserveSdrRepository, GetSelInfo, ReserveSel, ClearSel, ActivatePayload, GetFruArea,
        GetPowerReading, GetPayloadInstanceInfo, GetUserAccess, GetWatchdogTimer, GetBootFlags, GetChassisStatus, GetSystemGuid, GetDeviceId,
    );
    if let Ok(name) = GetUserName::parse_success_response(data) {
        assert!(name.len() <= 16, "{name:?}");
    }
    if let Ok(part) = ReadFru::parse_success_response(data) {
        assert!(part.len() <= data.len());
    }
    if let [event, kind, offset, ..] = *data {
        assert!(Said(event, kind, offset).to_string().chars().count() <= 200);
    }
}
