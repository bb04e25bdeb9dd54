//! The end of a wait: each step and its seconds.

use crate::enum_word;
use crate::output::table;
use crate::output::value::{between, cell, system_time};
use farrier_proto::rack::{Step, StepState};
use farrier_proto::scheduler::Operation;
use prost_types::Timestamp;

/// A table of the steps that were started. Empty when there are none.
pub(super) fn render(operation: &Operation) -> String {
    let rows: Vec<_> = operation.steps.iter().filter(|step| step.start_time.is_some()).map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut rows = rows;
    rows.push(vec![
        "total".to_owned(),
        seconds(
            operation.create_time.as_ref(),
            operation.end_time.as_ref().or(operation.update_time.as_ref()),
        ),
        if operation.error.is_some() { "failed" } else { "done" }.to_owned(),
        " ".to_owned(),
        " ".to_owned(),
    ]);
    table::render(&["STEP", "SECONDS", "STATE", "ATTEMPTS", "ERROR"], rows, &[], false)
}

fn row(step: &Step) -> Vec<String> {
    vec![
        step.name.clone(),
        seconds(step.start_time.as_ref(), step.end_time.as_ref()),
        cell(&enum_word!(StepState, "STEP_STATE", step.state)),
        step.attempt.to_string(),
        if step.error.is_empty() { " ".to_owned() } else { step.error.clone() },
    ]
}

fn seconds(from: Option<&Timestamp>, until: Option<&Timestamp>) -> String {
    until
        .and_then(system_time)
        .and_then(|until| between(from, until))
        .map(|took| format!("{:.1}", took.as_secs_f64()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::scheduler::OperationError;

    #[test]
    fn steps_have_their_seconds() {
        let at = |seconds: i64, millis: i32| Some(Timestamp { seconds, nanos: millis * 1_000_000 });
        let step = |name: &str, from, to, state: StepState, error: &str| Step {
            name: name.into(),
            start_time: from,
            end_time: to,
            state: state.into(),
            attempt: 1,
            error: error.into(),
            ..Step::default()
        };
        let operation = Operation {
            steps: vec![
                step("fetch_image", at(10, 0), at(22, 340), StepState::Done, ""),
                step("boot_network", at(22, 340), at(30, 0), StepState::Failed, "no DHCP"),
                step("write_image", None, None, StepState::Pending, ""),
            ],
            create_time: at(9, 0),
            end_time: at(31, 0),
            error: Some(OperationError::default()),
            ..Operation::default()
        };
        insta::assert_snapshot!(render(&operation), @r"
        STEP          SECONDS  STATE   ATTEMPTS  ERROR
        fetch_image   12.3     done    1
        boot_network  7.7      failed  1         no DHCP
        total         22.0     failed
        ");
    }
}
