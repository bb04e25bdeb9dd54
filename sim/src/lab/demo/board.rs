//! What a person sees while it works: one live line for each thing under way, one lasting line for each
//! that ended; where there is no terminal, the lasting lines, and a word every quarter of a minute from what goes on.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use farrier_proto::rack::{Step, StepState};
use farrier_proto::scheduler::Operation;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::timeline::{Timeline, now};
use crate::lab::operation::{seconds, since_epoch};

pub(super) struct Board {
    bars: MultiProgress,
    terminal: bool,
    timeline: Mutex<Timeline>,
    json: Option<PathBuf>,
}

/// Something under way. Dropped without [`Task::done`] it has failed.
pub(super) struct Task<'a> {
    board: &'a Board,
    who: String,
    what: String,
    start: f64,
    line: Line,
    told: BTreeSet<String>,
    /// Where there is no live line: when the step under way was last told.
    heard: f64,
    last: Option<Operation>,
    ended: bool,
}

/// The live line of a task, for other threads.
#[derive(Clone)]
pub(super) struct Line(ProgressBar);

impl Line {
    pub(super) fn show(&self, text: &str) {
        self.0.set_message(text.to_owned());
    }
}

impl Board {
    /// `json`: where [`Board::write_json`] writes.
    pub(super) fn new(json: Option<PathBuf>) -> Self {
        Self {
            bars: MultiProgress::new(),
            terminal: std::io::stderr().is_terminal(),
            timeline: Mutex::new(Timeline::new()),
            json,
        }
    }

    /// Something begins.
    pub(super) fn begin(&self, who: &str, what: &str) -> Task<'_> {
        let bar =
            if self.terminal { self.bars.add(ProgressBar::new_spinner()) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:<18} {elapsed:>4}  {wide_msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(format!("{who} {what}"));
        bar.enable_steady_tick(Duration::from_millis(200));
        // Asked once: a guard lives as long as the expression it is in.
        let start = self.timeline().elapsed();
        Task {
            board: self,
            who: who.to_owned(),
            what: what.to_owned(),
            start,
            line: Line(bar),
            told: BTreeSet::new(),
            heard: start,
            last: None,
            ended: false,
        }
    }

    /// A line that stays, above the live ones.
    pub(super) fn say(&self, text: &str) {
        if self.terminal && self.bars.println(text).is_ok() {
            return;
        }
        eprintln!("{text}");
    }

    pub(super) fn timeline_text(&self) -> String {
        self.timeline().render()
    }

    pub(super) fn elapsed(&self) -> f64 {
        self.timeline().elapsed()
    }

    /// Whether there will be a place for it.
    pub(super) fn check_json(&self) -> Result<()> {
        let Some(path) = &self.json else { return Ok(()) };
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let tried = tempfile::NamedTempFile::new_in(dir);
        tried.map(drop).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The timeline so far and whether it ended well, where `--json` wants it. As soon as that is known: with
    /// `--keep` the program ends by a signal.
    pub(super) fn write_json(&self, ok: bool) -> Result<()> {
        let Some(path) = &self.json else { return Ok(()) };
        let json = serde_json::to_string_pretty(&self.timeline().json(ok))? + "\n";
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }

    fn timeline(&self) -> MutexGuard<'_, Timeline> {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Task<'_> {
    pub(super) fn line(&self) -> Line {
        self.line.clone()
    }

    /// What it does now.
    pub(super) fn detail(&self, text: &str) {
        self.line.show(text);
        if !self.board.terminal {
            self.board.say(&self.row(text));
        }
    }

    /// A change of the operation that this task follows.
    pub(super) fn operation(&mut self, operation: &Operation) {
        for step in &operation.steps {
            let finished = matches!(step.state(), StepState::Done | StepState::Failed);
            if finished && self.told.insert(step.name.clone()) {
                let took = seconds(&step.start_time, &step.end_time).unwrap_or_default();
                let note = if step.error.is_empty() { &step.detail } else { &step.error };
                self.board.say(&self.row(&format!("{} {took:.1} s  {note}", step.name)));
                self.heard = self.board.elapsed();
            }
        }
        if let Some(step) = operation.steps.iter().find(|step| step.state() == StepState::Running) {
            self.show(&doing(step));
        } else if !operation.waiting.is_empty() {
            self.show(&format!("waiting: {}", operation.waiting));
        }
        self.last = Some(operation.clone());
    }

    /// What is under way: on the live line, or now and then on one that stays.
    pub(super) fn show(&mut self, text: &str) {
        self.line.show(text);
        if !self.board.terminal && self.board.elapsed() - self.heard >= QUIET {
            self.heard = self.board.elapsed();
            self.board.say(&self.row(&format!("… {text}")));
        }
    }

    /// It ended well.
    pub(super) fn done(mut self, detail: &str) {
        self.end(detail, "");
    }

    fn end(&mut self, detail: &str, error: &str) {
        self.ended = true;
        self.line.0.finish_and_clear();
        let took = self.board.elapsed() - self.start;
        {
            let mut timeline = self.board.timeline();
            timeline.add(&self.who, &self.what, self.start, took, detail, error);
            if let Some(operation) = &self.last {
                timeline.add_steps(&self.who, &self.what, operation);
            }
        }
        let word = if error.is_empty() { "done" } else { error };
        self.board.say(&self.row(&format!("{word} in {took:.1} s  {detail}")));
    }

    fn row(&self, text: &str) -> String {
        let name = format!("{} {}", self.who, self.what);
        format!("{:>7.1}  {name:<18} {}", self.board.elapsed(), text.trim_end())
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.end("", "not finished");
        }
    }
}

/// Seconds after which a log without a live line wants to hear that it goes on.
const QUIET: f64 = 15.0;

/// Which step, how far, since when.
fn doing(step: &Step) -> String {
    let mut text = step.name.clone();
    if let Some(begin) = &step.start_time {
        let seconds = (now() - since_epoch(begin)).max(0.0);
        text.push_str(&format!(" {seconds:.0} s"));
    }
    if step.total_bytes > 0 {
        let percent = step.done_bytes.saturating_mul(100) / step.total_bytes;
        text.push_str(&format!(" {percent} %"));
    }
    if step.attempt > 1 {
        text.push_str(&format!(" (attempt {})", step.attempt));
    }
    if !step.detail.is_empty() {
        text.push_str(&format!(": {}", step.detail));
    }
    text
}
