//! Firmware of a machine, its settings, and tasks of its BMC.

use super::{Column, Resource, column};
use farrier_proto::rack::{BiosSetting, BmcTask, BmcTaskState, FirmwarePart};
use serde_json::{Value, json};

impl Resource for BiosSetting {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("NAME", |s, _| s.name.clone()),
            column("VALUE", |s, _| s.value.clone()),
            column("PENDING", |s, _| s.pending.clone().unwrap_or_default()),
        ]
    }

    const FIRST: &'static [&'static str] = &["name", "value", "pending"];

    fn value(&self) -> Value {
        json!({ "name": self.name, "value": self.value, "pending": self.pending })
    }
}

impl Resource for FirmwarePart {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("ID", |p, _| p.id.clone()),
            column("NAME", |p, _| p.name.clone()),
            column("VERSION", |p, _| p.version.clone()),
            column("UPDATEABLE", |p, _| p.updateable.map_or_else(String::new, |yes| yes.to_string())),
        ]
    }

    const FIRST: &'static [&'static str] = &["id", "name", "version", "updateable"];

    fn value(&self) -> Value {
        json!({ "id": self.id, "name": self.name, "version": self.version, "updateable": self.updateable })
    }
}

impl Resource for BmcTask {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("STATE", |t, _| state(t).to_owned()),
            column("PERCENT", |t, _| t.percent.map_or_else(String::new, |percent| percent.to_string())),
            column("MESSAGE", |t, _| t.message.clone()),
            column("DRIVER", |t, _| t.driver.clone()),
        ]
    }

    const FIRST: &'static [&'static str] = &["state", "percent", "message", "driver"];

    fn value(&self) -> Value {
        json!({ "state": state(self), "percent": self.percent, "message": self.message, "driver": self.driver })
    }
}

fn state(task: &BmcTask) -> &'static str {
    match task.state() {
        BmcTaskState::Unspecified => "unknown",
        BmcTaskState::Waiting => "waiting",
        BmcTaskState::Running => "running",
        BmcTaskState::Done => "done",
        BmcTaskState::Failed => "failed",
    }
}
