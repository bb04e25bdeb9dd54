//! Operations and their steps.

use super::table::Tone;
use super::value::{age, between, cell, duration, system_time, time};
use super::{Column, Resource, column, wide};
use crate::enum_word;
use crate::names::short;
use farrier_proto::rack::{Step, StepState, TaskResult};
use farrier_proto::scheduler::{Operation, OperationPhase, OperationType};
use farrier_proto::types::PowerState;
use serde_json::{Value, json};
use std::time::SystemTime;

impl Resource for Operation {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("ID", |o, _| short(&o.name).to_owned()),
            column("TYPE", |o, _| cell(&enum_word!(OperationType, "OPERATION_TYPE", o.r#type))),
            column("TARGET", |o, _| o.target.clone()),
            column("NODE", |o, _| short(&o.node).to_owned()),
            column("PHASE", |o, _| phase(o)),
            column("DOING", |o, _| doing(o)),
            column("TOOK", took),
            wide("AGE", |o, now| age(&o.create_time, now)),
            wide("RACK", |o, _| short(&o.rack).to_owned()),
            wide("ACTOR", |o, _| o.actor.clone()),
            wide("ERROR", |o, _| {
                o.error.as_ref().map(|e| format!("{}: {}", e.reason, e.message)).unwrap_or_default()
            }),
        ]
    }

    const FIRST: &'static [&'static str] =
        &["name", "type", "target", "node", "rack", "phase", "done", "error", "waiting", "next_try_time"];

    fn tone(&self) -> Tone {
        match (self.error.is_some(), self.done) {
            (true, _) => Tone::Bad,
            (false, true) => Tone::Good,
            (false, false) => Tone::Busy,
        }
    }

    fn value(&self) -> Value {
        json!({
            "name": self.name,
            "type": enum_word!(OperationType, "OPERATION_TYPE", self.r#type),
            "target": self.target,
            "node": self.node,
            "rack": self.rack,
            "phase": enum_word!(OperationPhase, "OPERATION_PHASE", self.phase),
            "done": self.done,
            "error": self.error.as_ref().map(|error| json!({
                "reason": error.reason,
                "message": error.message,
                "rejections": error.rejections.iter()
                    .map(|r| json!({ "node": r.node, "reason": r.reason })).collect::<Vec<_>>(),
            })),
            "waiting": self.waiting,
            "next_try_time": time(&self.next_try_time),
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "result": self.result.as_ref().map(result),
            "actor": self.actor,
            "create_time": time(&self.create_time),
            "update_time": time(&self.update_time),
            "end_time": time(&self.end_time),
            "etag": self.etag,
        })
    }
}

fn phase(operation: &Operation) -> String {
    cell(&enum_word!(OperationPhase, "OPERATION_PHASE", operation.phase))
}

/// The step at work, or what is waited for.
fn doing(operation: &Operation) -> String {
    let running = operation.steps.iter().rev().find(|s| s.state == i32::from(StepState::Running));
    match running {
        _ if operation.done => String::new(),
        _ if !operation.waiting.is_empty() => format!("waits: {}", operation.waiting),
        Some(step) => step.name.clone(),
        None => String::new(),
    }
}

fn took(operation: &Operation, now: SystemTime) -> String {
    let until = operation.end_time.as_ref().and_then(system_time).unwrap_or(now);
    between(operation.create_time.as_ref(), until).map(duration).unwrap_or_default()
}

fn step(step: &Step) -> Value {
    json!({
        "name": step.name,
        "state": enum_word!(StepState, "STEP_STATE", step.state),
        "start_time": time(&step.start_time),
        "end_time": time(&step.end_time),
        "attempt": step.attempt,
        "detail": step.detail,
        "done_bytes": step.done_bytes,
        "total_bytes": step.total_bytes,
        "error": step.error,
    })
}

fn result(result: &TaskResult) -> Value {
    json!({
        "hardware": result.hardware.as_ref().map(super::node::hardware),
        "power_state": enum_word!(PowerState, "POWER_STATE", result.power_state),
        "addresses": result.addresses,
        "disks": result.disks,
        "written_bytes": result.written_bytes,
    })
}
