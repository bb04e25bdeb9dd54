//! A record of a BMC's event log, and the answer it comes in.

use farrier_ipmi::command::sel::{GetSelRecord, SelRecord};
use ipmi_rs_core::connection::IpmiCommand as _;

pub fn run(data: &[u8]) {
    if let Ok(reply) = GetSelRecord::parse_success_response(data) {
        let read = SelRecord::read(&reply.record);
        assert!(!read.sensor.is_empty() && !read.event.is_empty());
    }
}
