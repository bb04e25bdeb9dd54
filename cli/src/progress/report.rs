//! What a person sees while an operation runs: a line that changes on a terminal, plain lines elsewhere.

use crate::enum_word;
use crate::names::short;
use crate::output::table::clean;
use crate::output::value::{between, cell, duration};
use crate::talk;
use farrier_model::size::human;
use farrier_proto::rack::{Step, StepState};
use farrier_proto::scheduler::{Operation, OperationPhase};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::Write;
use std::time::{Duration, SystemTime};

/// Takes the operation at every change, and now and then in between.
pub trait Report {
    fn update(&mut self, operation: &Operation);
    /// Something that happened to the watch itself.
    fn say(&mut self, text: &str);
    fn end(&mut self);
}

/// One changing line, for a terminal.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    pub fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar }
    }
}

impl Default for Bar {
    fn default() -> Self {
        Self::new()
    }
}

impl Report for Bar {
    fn update(&mut self, operation: &Operation) {
        let since = current(operation)
            .and_then(|step| between(step.start_time.as_ref(), SystemTime::now()))
            .or_else(|| between(operation.create_time.as_ref(), SystemTime::now()));
        let since = since.map(|s| format!(" since {}", duration(s))).unwrap_or_default();
        let bytes = current(operation).map(bytes).unwrap_or_default();
        self.bar.set_message(format!("{}{bytes}{since}", sentence(operation)));
    }

    fn say(&mut self, text: &str) {
        self.bar.suspend(|| talk::say(clean(text)));
    }

    fn end(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A line for every change that matters, for logs and pipes.
#[derive(Debug)]
pub struct Lines<W> {
    out: W,
    said: String,
}

impl<W: Write> Lines<W> {
    pub fn new(out: W) -> Self {
        Self { out, said: String::new() }
    }
}

impl<W: Write> Report for Lines<W> {
    fn update(&mut self, operation: &Operation) {
        // Bytes are told by tenths: a log wants progress, not a film.
        let tenth =
            current(operation).and_then(percent).map(|p| format!(" {}%", p / 10 * 10)).unwrap_or_default();
        let line = format!("{}{tenth}", sentence(operation));
        if line == self.said {
            return;
        }
        let bytes = current(operation).map(bytes).unwrap_or_default();
        let age =
            between(operation.create_time.as_ref(), SystemTime::now()).map(duration).unwrap_or_default();
        // A closed stderr must not end the watch.
        let _ = writeln!(self.out, "{age:>6}  {}{bytes}", sentence(operation));
        self.said = line;
    }

    fn say(&mut self, text: &str) {
        let _ = writeln!(self.out, "        {}", clean(text));
    }

    fn end(&mut self) {}
}

/// A bar for bytes that go out. Hidden where stderr is no terminal.
pub fn upload_bar(name: &str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bytes}/{total_bytes} {wide_bar} {bytes_per_sec} {eta}");
    let bar = ProgressBar::new(total);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(name.to_owned());
    bar
}

/// Leaves the terminal's line clean after an interrupt: the bar that was there is not ours any more.
pub fn clear() {
    use std::io::IsTerminal as _;
    if std::io::stderr().is_terminal() {
        talk::part("\r\x1b[2K");
    }
}

/// The step at work: the last that runs. None once it is done, whatever its last report said.
fn current(operation: &Operation) -> Option<&Step> {
    if operation.done {
        return None;
    }
    operation.steps.iter().rev().find(|step| step.state == i32::from(StepState::Running))
}

/// `nodes/n1  write_image (3/9): detail`.
fn sentence(operation: &Operation) -> String {
    let node = if operation.node.is_empty() { &operation.target } else { &operation.node };
    let place = short(node);
    let what = match (current(operation), operation.waiting.is_empty()) {
        _ if operation.done => if operation.error.is_some() { "failed" } else { "done" }.to_owned(),
        (Some(step), _) => {
            let done = operation.steps.iter().take_while(|s| s.name != step.name).count() + 1;
            let again = if step.attempt > 1 { format!(" (attempt {})", step.attempt) } else { String::new() };
            let detail = if step.detail.is_empty() { String::new() } else { format!(": {}", step.detail) };
            let waits = if operation.waiting.is_empty() {
                String::new()
            } else {
                format!("; last heard of, waits: {}", operation.waiting)
            };
            format!("{done}/{} {}{again}{detail}{waits}", operation.steps.len(), step.name)
        }
        (None, false) => format!("waits: {}", operation.waiting),
        (None, true) => cell(&enum_word!(OperationPhase, "OPERATION_PHASE", operation.phase)),
    };
    clean(&format!("{place}  {what}"))
}

fn bytes(step: &Step) -> String {
    match percent(step) {
        Some(0) if step.done_bytes <= 0 => format!(" 0 of {}", human(step.total_bytes)),
        Some(percent) => format!(" {} of {} ({percent}%)", human(step.done_bytes), human(step.total_bytes)),
        None if step.done_bytes > 0 => format!(" {}", human(step.done_bytes)),
        None => String::new(),
    }
}

fn percent(step: &Step) -> Option<i64> {
    if step.total_bytes <= 0 {
        return None;
    }
    let part = i128::from(step.done_bytes.max(0)) * 100 / i128::from(step.total_bytes);
    i64::try_from(part.min(100)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(done_bytes: i64) -> Operation {
        let step =
            |name: &str, state: StepState| Step { name: name.into(), state: state.into(), ..Step::default() };
        let mut write = step("write_image", StepState::Running);
        write.done_bytes = done_bytes;
        write.total_bytes = 2 << 30;
        Operation {
            target: "instances/i".into(),
            node: "nodes/n1".into(),
            steps: vec![step("fetch_image", StepState::Done), write, step("power_off", StepState::Pending)],
            ..Operation::default()
        }
    }

    #[test]
    fn a_log_gets_a_line_per_tenth_and_not_more() {
        let mut lines = Lines::new(Vec::new());
        for mib in [0, 1, 2, 300, 301, 1024] {
            lines.update(&operation(mib << 20));
        }
        lines.say("broke");
        let mut done = operation(0);
        done.done = true;
        lines.update(&done);
        insta::assert_snapshot!(String::from_utf8(lines.out).unwrap(), @r"
              n1  2/3 write_image 0 of 2 GiB
              n1  2/3 write_image 300 MiB of 2 GiB (14%)
              n1  2/3 write_image 1 GiB of 2 GiB (50%)
              broke
              n1  done
        ");
    }

    #[test]
    fn waiting_and_placing_are_told() {
        let mut op = Operation {
            target: "instances/i".into(),
            phase: OperationPhase::Placing.into(),
            ..Operation::default()
        };
        assert_eq!(sentence(&op), "i  placing");
        op.waiting = "rack r1 does not answer".into();
        assert_eq!(sentence(&op), "i  waits: rack r1 does not answer");
        // Its rack went away in the middle of a step.
        op.steps = vec![Step { name: "write".into(), state: StepState::Running.into(), ..Step::default() }];
        assert_eq!(sentence(&op), "i  1/1 write; last heard of, waits: rack r1 does not answer");
    }
}
