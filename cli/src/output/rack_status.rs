//! What a rackd says of itself, and what it saw of a machine that boots.

use super::value::{rfc3339, time};
use super::{Column, Resource, column};
use crate::enum_word;
use farrier_proto::rack::{BootEvent, RackStatus, SegmentRole};
use serde_json::{Value, json};

impl Resource for RackStatus {
    fn columns() -> Vec<Column<Self>> {
        vec![column("RACK", |s, _| s.rack.clone()), column("VERSION", |s, _| s.version.clone())]
    }

    const FIRST: &'static [&'static str] = &["rack", "version", "start_time", "running_task_count"];

    fn value(&self) -> Value {
        json!({
            "rack": self.rack,
            "version": self.version,
            "segments": self.segments.iter().map(|segment| json!({
                "name": segment.name,
                "interface": segment.interface,
                "address": segment.address,
                "role": enum_word!(SegmentRole, "SEGMENT_ROLE", segment.role),
            })).collect::<Vec<_>>(),
            "running_task_count": self.running_task_count,
            "start_time": time(&self.start_time),
            "known_machines": self.known_machines.as_ref().map(|known| json!({
                "generation": known.generation,
                "port_count": known.port_count,
                "read_time": time(&known.read_time),
            })),
        })
    }
}

/// A packet of a machine, and of which of its ports.
#[derive(Debug, Clone, PartialEq)]
pub struct MacBootEvent {
    pub mac_address: String,
    pub event: BootEvent,
}

impl MacBootEvent {
    /// As a line that does not know what comes after it.
    pub fn line(&self) -> String {
        let time = self.event.time.as_ref().and_then(rfc3339).unwrap_or_default();
        let (mac, kind) = (&self.mac_address, &self.event.kind);
        format!("{time:<24}  {mac:<17}  {kind:<20}  {}\n", self.event.detail)
    }
}

impl Resource for MacBootEvent {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("TIME", |e, _| e.event.time.as_ref().and_then(rfc3339).unwrap_or_default()),
            column("MAC", |e, _| e.mac_address.clone()),
            column("KIND", |e, _| e.event.kind.clone()),
            column("DETAIL", |e, _| e.event.detail.clone()),
        ]
    }

    fn value(&self) -> Value {
        json!({
            "time": time(&self.event.time),
            "mac_address": self.mac_address,
            "kind": self.event.kind,
            "detail": self.event.detail,
        })
    }
}
