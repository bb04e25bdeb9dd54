//! A sensor record, the answer it comes in, and a reading.

use farrier_ipmi::command::sdr::{GetSdr, GetSensorReading, Sensor};
use ipmi_rs_core::connection::IpmiCommand as _;

pub fn run(data: &[u8]) {
    let Ok(part) = GetSdr::parse_success_response(data) else { return };
    let reading = GetSensorReading::parse_success_response(data);
    for sensor in Sensor::parse(&part.bytes) {
        if let (Some(scale), Ok(reading)) = (sensor.scale, &reading) {
            assert!(scale.value(reading.raw).is_none_or(f64::is_finite));
        }
    }
}
