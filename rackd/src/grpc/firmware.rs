//! Firmware and its settings, in the words of the wire.

use farrier_bmc::{BiosSettings as Settings, BmcTask as Task, BmcTaskState as State, FirmwarePart as Part};
use farrier_proto::rack::{BiosSetting, BiosSettings, BmcTask, BmcTaskState, Firmware, FirmwarePart};

pub(super) fn settings(read: Settings, driver: String) -> BiosSettings {
    let settings = read.settings.into_iter().map(|setting| BiosSetting {
        name: setting.name,
        value: setting.value,
        pending: setting.pending,
    });
    BiosSettings { settings: settings.collect(), task: read.task, driver }
}

pub(super) fn parts(read: Vec<Part>, driver: String) -> Firmware {
    let parts = read.into_iter().map(|part| FirmwarePart {
        id: part.id,
        name: part.name,
        version: part.version,
        updateable: part.updateable,
    });
    Firmware { parts: parts.collect(), driver }
}

pub(super) fn task(read: Task, driver: String) -> BmcTask {
    let state = match read.state {
        State::Waiting => BmcTaskState::Waiting,
        State::Running => BmcTaskState::Running,
        State::Done => BmcTaskState::Done,
        State::Failed => BmcTaskState::Failed,
    };
    BmcTask { state: state.into(), percent: read.percent.map(i32::from), message: read.message, driver }
}
