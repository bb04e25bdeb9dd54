//! The mode that a machine's firmware starts in.

use super::{Column, Resource, column};
use farrier_proto::rack::BmcBootMode;
use farrier_proto::types::BootMode;
use serde_json::{Value, json};

impl Resource for BmcBootMode {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("CURRENT", |m, _| word(m.current()).to_owned()),
            column("PENDING", |m, _| word(m.pending()).to_owned()),
            column("SETTABLE", |m, _| settable(m).join(", ")),
        ]
    }

    const FIRST: &'static [&'static str] = &["current", "pending", "settable", "setting", "task", "driver"];

    fn value(&self) -> Value {
        json!({
            "current": word(self.current()),
            "pending": word(self.pending()),
            "settable": settable(self),
            "setting": self.setting,
            "task": self.task,
            "driver": self.driver,
        })
    }
}

/// As the command line takes it.
pub(super) fn word(mode: BootMode) -> &'static str {
    match mode {
        BootMode::Unspecified => "",
        BootMode::Bios => "bios",
        BootMode::Uefi => "uefi",
    }
}

fn settable(mode: &BmcBootMode) -> Vec<&'static str> {
    mode.settable().map(word).collect()
}
