//! What a rackd says of itself, and what it saw of a machine that boots.

use super::value::{cell, rfc3339, time};
use super::{Column, Resource, column, wide};
use crate::enum_word;
use farrier_proto::rack::{BootEvent, BootEventType, RackStatus, SegmentRole};
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
    /// For programs.
    fn kind_of(&self) -> Value {
        enum_word!(BootEventType, "BOOT_EVENT_TYPE", self.event.r#type)
    }

    /// As a line that does not know what comes after it.
    pub fn line(&self) -> String {
        let time = self.event.time.as_ref().and_then(rfc3339).unwrap_or_default();
        row([&time, &self.mac_address, &self.event.kind, &self.event.detail])
    }

    /// What is above such lines.
    pub fn header() -> String {
        row(["TIME", "MAC", "KIND", "DETAIL"])
    }
}

/// Columns as wide as most of what comes: nobody knows yet what does.
fn row([time, mac, kind, detail]: [&str; 4]) -> String {
    format!("{time:<24}  {mac:<17}  {kind:<20}  {detail}\n")
}

impl Resource for MacBootEvent {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("TIME", |e, _| e.event.time.as_ref().and_then(rfc3339).unwrap_or_default()),
            column("MAC", |e, _| e.mac_address.clone()),
            column("KIND", |e, _| e.event.kind.clone()),
            wide("TYPE", |e, _| cell(&e.kind_of())),
            column("DETAIL", |e, _| e.event.detail.clone()),
        ]
    }

    fn value(&self) -> Value {
        json!({
            "time": time(&self.event.time),
            "mac_address": self.mac_address,
            "type": self.kind_of(),
            "kind": self.event.kind,
            "detail": self.event.detail,
        })
    }
}
